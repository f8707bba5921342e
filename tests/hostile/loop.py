"""The one loop: a warmed process runs case after case. ``python loop.py TEXT…`` runs cases by their ids."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

from case import all_cases

_HERE = Path(__file__).resolve().parent


_MEMORY = Path("/dev/shm")  # noqa: S108
"""Linux's file system in memory: a file that was synchronised is deleted there without waiting for a disk."""


class Loop:
    """The warmed process, in a folder of its own."""

    def __init__(self) -> None:
        roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 4 << 30
        self._folder = tempfile.TemporaryDirectory(dir=_MEMORY if roomy else None, prefix="hostile-")
        paths = [_HERE, _HERE.parent / "support", _HERE.parents[1]]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
        }
        self._process = subprocess.Popen(
            [sys.executable, str(_HERE / "server.py"), self._folder.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def run(self, identifier: str) -> dict[str, Any]:
        """Run a case, see :meth:`server.Server.run`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{identifier}\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process, and remove its folder."""
        self._process.communicate(timeout=30)
        self._folder.cleanup()


def main(*texts: str) -> None:
    """Run the cases whose id matches each of the regular expressions, and write their problems to stdout.

    A text such as ``1/5`` takes every fifth case, in the order of their hashes.
    """
    shares = [text for text in texts if re.fullmatch(r"1/\d+", text)]
    chosen = [one for one in all_cases() if all(re.search(text, one) for text in texts if text not in shares)]
    for share in shares:
        ordered = sorted(chosen, key=lambda one: sha256(one.encode(errors="replace")).digest())
        chosen = ordered[: len(ordered) // int(share[2:])]
    counts: Counter[str] = Counter()
    seconds = 0.0
    loop = Loop()
    for identifier in chosen:
        answer = loop.run(identifier)
        group = identifier.partition("/")[0]
        counts[f"{group} cases"] += 1
        seconds += answer["seconds"]
        if answer["problems"]:
            counts[f"{group} failed"] += 1
            sys.stdout.write(json.dumps({"id": identifier, **answer}) + "\n")
            sys.stdout.flush()
    loop.close()
    sys.stderr.write(f"{dict(counts)}, {seconds:.0f} s in commands\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
