"""A program whose child processes evaluate, and get a signal or a full disk on request.

``python survivor.py HOME CHECKPOINT COLLECTION`` opens the system once and obeys lines of JSON on stdin:
``["start", RUNS, BOARD, ACCIDENT]`` forks a child and prints its process id, ``["wait", ID]`` prints its exit
code, or the signal that stopped it. A child writes its stage into the first byte of the file BOARD and, at
its end, into the rest the number of lines of Python that it ran in each stage, or its error.
"""

import fnmatch
import json
import mmap
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from checkout import ROOT

STAGES = ("tokenise", "encode", "write", "search")
BOARD_SIZE = 4096

_WRITING = ("files", "leases", "sealed")
_OURS = str(ROOT)


class Accident(NamedTuple):
    """An accident of a child.

    Attributes:
        stage: The stage in which it gets a signal; None for no signal.
        line: The line of Python in that stage, counted from 1, before which it gets the signal.
        signal: The number of the signal.
        full: A pattern of names of files for which the disk is full.
        expires: Seconds after which the lease of a silent worker expires.
    """

    stage: str | None = None
    line: int = 0
    signal: int = 0
    full: str = ""
    expires: float = 600.0


class Watch:
    """Counts the lines of Python in each stage, and sends the signal; serves as a progress, too."""

    def __init__(self, board: Path, accident: Accident) -> None:
        with board.open("r+b") as file:
            self.board = mmap.mmap(file.fileno(), BOARD_SIZE)
        self.accident = accident
        self.stage: str | None = None
        self.lines: Counter[str] = Counter()

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Any]:
        self.stage = next(stage for stage in STAGES if description.startswith(stage))
        yield lambda n=1, note="", tokens=0: None
        self.stage = None

    def __call__(self, frame, event, argument):
        path = frame.f_code.co_filename
        if not path.startswith(_OURS) or path == __file__:
            return None
        return self.writing if Path(path).stem in _WRITING else self.working

    def working(self, frame, event, argument):
        if event == "line" and self.stage:
            self.note(self.stage)
        return self.working

    def writing(self, frame, event, argument):
        if event == "line":
            self.note("write")
        return self.writing

    def note(self, stage: str) -> None:
        self.board[0] = STAGES.index(stage) + 1
        self.lines[stage] += 1
        if (stage, self.lines[stage]) == self.accident[:2]:
            os.kill(os.getpid(), self.accident.signal)

    def report(self, text: str) -> None:
        self.board[1:] = text.encode()[: BOARD_SIZE - 1].ljust(BOARD_SIZE - 1)


def no_room_for(pattern: str) -> None:
    """Make every write to files of a pattern of names fail as on a full disk."""
    from llara_eval.core import files

    usual = files._locked_file

    def locked_file(path: Path) -> tuple[int, Path]:
        handle, name = usual(path)
        if fnmatch.fnmatch(path.name, pattern):
            os.dup2(os.open("/dev/full", os.O_WRONLY), handle)
        return handle, name

    files._locked_file = locked_file


def main(home: str, checkpoint: str, collection: str) -> None:
    import torch

    from adapters.dense import open_checkpoint
    from adapters.options import Context
    from llara_eval.core import leases
    from llara_eval.datasets.load import load
    from llara_eval.evaluation.evaluate import evaluate
    from llara_eval.vectors import shards

    torch.set_num_threads(1)
    shards.SHARD_SIZE, leases._POLL = 40, 0.01
    system = open_checkpoint(checkpoint, {}, {}, Context(Path(home)))
    dataset = load(collection, data_dir=Path(home))

    def work(runs: str, board: str, accident: Accident) -> int:
        system._context = replace(system._context, lease_seconds=accident.expires)
        if accident.full:
            no_room_for(accident.full)
        watch = Watch(Path(board), accident)
        sys.settrace(watch)
        try:
            evaluate(system, dataset, runs_dir=Path(runs), measures=["nDCG@10", "R@100"], progress=watch)
        except Exception as error:
            sys.settrace(None)
            watch.report(f"{type(error).__name__}: {error}")
            return 1
        sys.settrace(None)
        watch.report(json.dumps(watch.lines))
        return 0

    evaluate(system, dataset, runs_dir=Path(home))  # so that everything is imported
    for leftover in Path(home).iterdir():
        shutil.rmtree(leftover)
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork would lose the other threads"
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        verb, *words = json.loads(line)
        if verb == "wait":
            status = os.waitpid(words[0], os.WUNTRACED)[1]
            stopped = os.WIFSTOPPED(status)
            number = -os.WSTOPSIG(status) if stopped else os.waitstatus_to_exitcode(status)
        else:
            number = os.fork()
            if not number:
                try:
                    status = work(*words[:2], Accident(*words[2]))
                finally:
                    os._exit(status)
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
