"""A competitor in a separate process: it gets ready, then runs a round for each line on standard input.

Usage: ``python worker.py MODULE:FUNCTION ARGUMENTS``. The function is called once with the arguments (JSON)
as keywords; it loads what it needs, warms up, and returns a function without arguments, which is a round. A
line that is not empty names the file (``.npz``) that keeps the output of the round. Answers are lines of JSON
on standard output: ``{}`` when ready, then for each round its ``seconds``, the bytes by which the peak of
anonymous memory exceeded that when ready (``grown``), and ``notes``.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from memory import anonymous_memory, sampled
from numpy.typing import NDArray

Output = Mapping[str, NDArray[Any]]
Once = Callable[[], Callable[[], Output]]
"""A round; it returns a function that makes arrays of its output, whose time does not count."""

notes: dict[str, Any] = {}
"""Facts that a competitor reports: the batch size it chose, or the seconds of a part of the round."""


@contextmanager
def noted(name: str) -> Iterator[None]:
    """Note the seconds of a block."""
    started = time.perf_counter()
    yield
    notes[name] = time.perf_counter() - started


def main() -> None:
    """Serve rounds until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries must not be taken for an answer
    module, function = sys.argv[1].split(":")
    once: Once = getattr(importlib.import_module(module), function)(**json.loads(sys.argv[2]))
    before = anonymous_memory()  # before any round, whose remains would hide what the next one needs
    print("{}", file=answers, flush=True)
    samples: list[int] = []
    for line in sys.stdin:
        samples.clear()
        with sampled(lambda: samples.append(anonymous_memory())):
            started = time.perf_counter()
            output = once()
            seconds = time.perf_counter() - started
        if line.strip():
            np.savez(line.strip(), allow_pickle=False, **output())
        del output
        print(
            json.dumps({"seconds": seconds, "grown": max(samples) - before, **notes}),
            file=answers,
            flush=True,
        )


if __name__ == "__main__":
    sys.modules["worker"] = sys.modules[__name__]  # competitors import this one, not a second
    main()
