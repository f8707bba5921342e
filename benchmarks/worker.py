"""One competitor in a process of its own: it gets ready, then runs a round whenever it is asked to.

Usage: ``python worker.py MODULE:FUNCTION ARGUMENTS``. The function is called once with the arguments (JSON)
as keywords; it loads what it needs, warms up, and returns a function without arguments, which is a round. A
line on standard input asks for a round; if it is not empty it names the file (``.npz``) where to keep what
the round found. Answers are lines of JSON on standard output: ``{}`` when ready, then for each round its
seconds, the bytes by which anonymous memory stood at most above that when ready, and ``notes``.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from memory import Peak, anonymous_memory
from numpy.typing import NDArray

Output = Mapping[str, NDArray[Any]]
Once = Callable[[], Callable[[], Output]]
"""A round; what it returns makes arrays of what it found, which takes no part of its time."""

notes: dict[str, Any] = {}
"""What a competitor says of itself: the batch size it chose, seconds of a part of the round."""


def main() -> None:
    """Serve rounds until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print shall not be taken for an answer
    module, function = sys.argv[1].split(":")
    once: Once = getattr(importlib.import_module(module), function)(**json.loads(sys.argv[2]))
    before = anonymous_memory()  # not later: what a round leaves behind would hide what the next one needs
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        with Peak() as peak:
            started = time.perf_counter()
            found = once()
            seconds = time.perf_counter() - started
        if line.strip():
            np.savez(line.strip(), allow_pickle=False, **found())
        del found
        print(
            json.dumps({"seconds": seconds, "grown": peak.bytes - before, **notes}), file=answers, flush=True
        )


if __name__ == "__main__":
    sys.modules["worker"] = sys.modules[__name__]  # competitors import this one, not a second
    main()
