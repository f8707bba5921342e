"""One command, several times: by processes of this machine, by torchrun, or by actors of Ray.

Nothing is dealt out. Workers that fill the same stores find their shares by themselves, and take over from
one that is silent; each ends when everything is there. So a launcher starts them, starts those again that
die, and needs no more than one to come to its end.
"""

import logging
import math
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from itertools import compress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from llara_eval.core.errors import DataError, LlaraEvalError, MissingPartError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

RESTARTS = 3
"""How often a worker is started again that died."""

LATE = 120.0
"""Seconds that the others have when one worker has seen that all is done."""

_POLL = 0.1
_ENDING = 10.0  # seconds that a worker has to give back its leases
_ON_PURPOSE = {kind.exit_code: kind for kind in LlaraEvalError.__subclasses__()}


def program(arguments: Sequence[str]) -> list[str]:
    """Return the words that run this program with some arguments."""
    return [sys.executable, "-m", "llara_eval", *arguments]


def local(arguments: Sequence[str], workers: int) -> list[str]:
    """Run the program several times on this machine.

    The first worker shows its progress here, the others are quiet. Processors and CUDA devices are dealt
    out among them.

    Args:
        arguments: Of the program.
        workers: How many processes.

    Returns:
        What each that came to its end wrote to stdout.

    Raises:
        LlaraEvalError: A worker ended with an error of its own, or died once too often.
    """
    crew: list[_Process] = []
    with TemporaryDirectory(prefix="llara-eval-") as folder:
        try:
            for number in range(workers):
                with _uninterrupted():
                    crew.append(_Process(arguments, number, workers, Path(folder)))
            done = _wait(lambda: [worker.is_done() for worker in crew])
            return [worker.output.read_text(encoding="utf-8") for worker in compress(crew, done)]
        finally:
            for worker in crew:
                worker.process.terminate()
            for worker in crew:
                worker.end()


def _wait(look: Callable[[], list[bool]]) -> list[bool]:
    """Look until all are done, or some have had their time since the first; return which are done."""
    deadline = math.inf
    while not all(done := look()) and time.monotonic() < deadline:
        if any(done):
            deadline = min(deadline, time.monotonic() + LATE)
        time.sleep(_POLL)
    return done


class _Process:
    """A worker on this machine, out of reach of the terminal's Ctrl-C: whoever started it ends it."""

    def __init__(self, arguments: Sequence[str], number: int, workers: int, folder: Path) -> None:
        self.number = number
        self.left = RESTARTS
        self._said: str | None = None
        self.output, self._errors = folder / f"{number}.out", folder / f"{number}.err"
        quiet = ["--quiet"] if number else []
        self._command = program([*arguments, *quiet])
        self._environment = {**_threads(workers), **os.environ, "RANK": "0", "LOCAL_RANK": str(number)}
        self._start()

    def _start(self) -> None:
        shown = self.number == 0 and sys.stderr.isatty()
        with self.output.open("wb") as output, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=None if shown else errors,
                process_group=0,
            )

    def is_done(self) -> bool:
        """Whether it came to its end; if it died, it is started again."""
        code = self.process.poll()
        if not code:
            return code == 0
        said = self._errors.read_text(errors="replace").rpartition("error: ")[2].strip()
        may_pass = code == DataError.exit_code and said != self._said  # what is damaged is made anew
        if code in _ON_PURPOSE and not may_pass:
            raise _ON_PURPOSE[code](said or f"worker {self.number} says above what is wrong")
        if not self.left:
            raise LlaraEvalError(
                f"worker {self.number} died {RESTARTS + 1} times, at last with exit code {code}. {said}"
            )
        self.left -= 1
        self._said = said
        with _uninterrupted():
            self._start()
        return False

    def end(self) -> None:
        """See to it that it is gone; terminating it came before."""
        try:
            self.process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM: a process must not start without being known to who will end it."""
    held: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: held.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for caught in held:
            signal.raise_signal(caught)


def _threads(workers: int) -> dict[str, str]:
    """Return the setting of threads with which workers share the processors that this process may use."""
    processors = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return {"OMP_NUM_THREADS": str(max(1, processors // workers))}


def torchrun(arguments: Sequence[str], workers: int) -> None:
    """Run the program several times on this machine by torchrun; the first shows what there is to show.

    Torchrun waits for all. A worker that comes to its end leaves a mark, so that one that hangs is ended.

    Args:
        arguments: Of the program.
        workers: How many processes.

    Raises:
        LlaraEvalError: A worker died once too often.
    """
    with TemporaryDirectory(prefix="llara-eval-") as folder:
        with _uninterrupted():
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
                    *(f"--nproc-per-node={workers}", f"--max-restarts={RESTARTS}"),
                    *("-m", "llara_eval.cli.launch", folder, *arguments),
                ],
                env={**_threads(workers), **os.environ},
                stdin=subprocess.DEVNULL,
                process_group=0,
            )

        def look() -> list[bool]:
            ended = process.poll() is not None
            return [ended, ended or any(Path(folder).iterdir())]

        try:
            _wait(look)
            code = process.poll()
        finally:
            process.terminate()
            process.wait()  # it kills workers that do not end
        if code:
            raise LlaraEvalError(f"torchrun ended with exit code {code}; what its workers said is above")
        if not Path(folder, "0").exists():
            logger.warning("all is done, but the worker that shows the result hung; run this again to see it")


def _run_and_mark(folder: str) -> None:
    """Run the program as a worker of torchrun, and leave a mark in a folder if it comes to its end."""
    try:
        runpy.run_module("llara_eval", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if not end.code:
            Path(folder, os.environ["LOCAL_RANK"]).touch()
        raise


def on_ray(work: Callable[[], Result], workers: int) -> list[Result]:
    """Do the same work in several actors of Ray, each begun again whenever it dies.

    The cluster is that of ``RAY_ADDRESS``, else one that runs on this machine, else a new one of this
    machine alone.

    Args:
        work: What each actor does; it can be pickled, and what it needs is on all machines.
        workers: How many actors.

    Returns:
        What came of it, from each that came to its end.

    Raises:
        MissingPartError: Ray is not installed.
        LlaraEvalError: As the work raises.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingPartError("--launcher ray needs: pip install 'llara-eval[ray]'") from error
    with redirect_stdout(sys.stderr):  # Ray talks, and stdout is for results
        try:
            ray.init(log_to_driver=False, logging_level="warning")
            actor = ray.remote(**_share(ray, workers), max_restarts=-1, max_task_retries=-1)(_Actor)
            crew = [actor.remote() for _ in range(workers)]
            done, late = ray.wait([each.do.remote(work, Path.cwd()) for each in crew])
            more, _ = ray.wait(late, num_returns=len(late), timeout=LATE) if late else ([], [])
            return list(ray.get([*done, *more]))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        finally:
            ray.shutdown()


def _share(ray: Any, workers: int) -> dict[str, float]:
    """Return what of a cluster each worker shall have; threads and visible devices follow from it."""
    there = ray.cluster_resources()
    largest = max(node["Resources"].get("CPU", 1) for node in ray.nodes() if node["Alive"])
    devices = there.get("GPU", 0)
    return {
        "num_cpus": max(1, int(min(there["CPU"] / workers, largest))),
        "num_gpus": 1 / math.ceil(workers / devices) if devices else 0,
    }


class _Actor:
    """Does what it is told, in a process of its own."""

    def do(self, work: Callable[[], Result], folder: Path) -> Result:
        """Do the work in a folder, so that relative names mean there what they mean here."""
        os.chdir(folder)
        return work()


if __name__ == "__main__":
    _run_and_mark(sys.argv.pop(1))
