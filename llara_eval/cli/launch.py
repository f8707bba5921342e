"""Workers that run one command: processes of this machine, processes of torchrun, or actors of Ray.

A launcher assigns no work. Workers that fill the same stores find their shards by themselves, and take over
the shard of a worker that is silent; each worker ends when all vectors exist. A launcher only starts the
workers and restarts those that die, and one worker that finishes is enough.
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
"""How often a worker that died is started again."""

LATE = 120.0
"""Seconds that the other workers have to finish after the first one has finished."""

_POLL = 0.1
_ENDING = 10.0  # seconds that a terminated worker has to give back its leases
_ERRORS = {error.exit_code: error for error in LlaraEvalError.__subclasses__()}


def program(arguments: Sequence[str]) -> list[str]:
    """Return the command that runs this program with the given arguments."""
    return [sys.executable, "-m", "llara_eval", *arguments]


def local(arguments: Sequence[str], workers: int) -> list[str]:
    """Run the program in several processes of this machine.

    The first worker shows its progress, the others are quiet. The workers share the processors and the CUDA
    devices.

    Returns:
        The text that each worker that finished wrote to stdout.

    Raises:
        LlaraEvalError: A worker ended with an error of its own, or died more than ``RESTARTS`` times.
    """
    processes: list[_Process] = []
    with TemporaryDirectory(prefix="llara-eval-") as folder:
        try:
            for number in range(workers):
                with _uninterrupted():
                    processes.append(_Process(arguments, number, workers, Path(folder)))
            done = _wait(lambda: [worker.is_done() for worker in processes])
            return [worker.output.read_text(encoding="utf-8") for worker in compress(processes, done)]
        finally:
            for worker in processes:
                worker.process.terminate()
            for worker in processes:
                worker.end()


def _wait(which_are_done: Callable[[], list[bool]]) -> list[bool]:
    """Wait until all workers are done, or ``LATE`` seconds after the first; return which are done."""
    deadline = math.inf
    while not all(done := which_are_done()) and time.monotonic() < deadline:
        if any(done):
            deadline = min(deadline, time.monotonic() + LATE)
        time.sleep(_POLL)
    return done


class _Process:
    """A worker on this machine. Ctrl-C in the terminal does not reach it: its parent ends it."""

    def __init__(self, arguments: Sequence[str], number: int, workers: int, folder: Path) -> None:
        self.number = number
        self._restarts_left = RESTARTS
        self._last_error: str | None = None
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
        """Return whether the worker has finished; a worker that died is started again.

        Raises:
            LlaraEvalError: The worker ended with an error of its own, or died more than ``RESTARTS`` times.
        """
        code = self.process.poll()
        if not code:
            return code == 0
        message = self._errors.read_text(errors="replace").rpartition("error: ")[2].strip()
        # A damaged shard is encoded again by the next attempt; other errors would come again.
        may_pass = code == DataError.exit_code and message != self._last_error
        if code in _ERRORS and not may_pass:
            raise _ERRORS[code](message or f"worker {self.number} failed; its message is above")
        if not self._restarts_left:
            raise LlaraEvalError(
                f"worker {self.number} died {RESTARTS + 1} times, at last with exit code {code}. {message}"
            )
        self._restarts_left -= 1
        self._last_error = message
        with _uninterrupted():
            self._start()
        return False

    def end(self) -> None:
        """Wait for the worker, which has been terminated, and kill it if it does not end."""
        try:
            self.process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM: between the start of a process and its registration, nobody would end it."""
    delayed: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: delayed.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for caught in delayed:
            signal.raise_signal(caught)


def _threads(workers: int) -> dict[str, str]:
    """Return the environment variable with which workers share the processors that this process may use."""
    processors = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return {"OMP_NUM_THREADS": str(max(1, processors // workers))}


def torchrun(arguments: Sequence[str], workers: int) -> None:
    """Run the program in several processes of torchrun, of which the first shows progress and result.

    Torchrun waits for all workers. A worker that finishes leaves a file as a mark, so that workers that hang
    are ended.

    Raises:
        LlaraEvalError: A worker died more than ``RESTARTS`` times.
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

        def which_are_done() -> list[bool]:
            ended = process.poll() is not None
            return [ended, ended or any(Path(folder).iterdir())]

        try:
            _wait(which_are_done)
            code = process.poll()
        finally:
            process.terminate()
            process.wait()  # torchrun kills workers that do not end
        if code:
            raise LlaraEvalError(f"torchrun ended with exit code {code}; its workers' messages are above")
        if not Path(folder, "0").exists():
            logger.warning("all is done, but the worker that shows the result hung; run this again to see it")


def _run_and_mark(folder: str) -> None:
    """Run the program as a worker of torchrun, and leave a file as a mark in a folder if it finishes."""
    try:
        runpy.run_module("llara_eval", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if not end.code:
            Path(folder, os.environ["LOCAL_RANK"]).touch()
        raise


def on_ray(work: Callable[[], Result], workers: int) -> list[Result]:
    """Do the same work in several actors of Ray; an actor that dies begins again.

    The cluster is that of ``RAY_ADDRESS``, else one that runs on this machine, else a new one of this
    machine alone.

    Args:
        work: The function that each actor calls. It can be pickled, and its files are on all machines.
        workers: How many actors.

    Returns:
        The result of each actor that finished.

    Raises:
        MissingPartError: Ray is not installed.
        LlaraEvalError: The work raised this error.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingPartError("--launcher ray needs: pip install 'llara-eval[ray]'") from error
    with redirect_stdout(sys.stderr):  # Ray prints messages, and stdout is for results
        try:
            ray.init(log_to_driver=False, logging_level="warning")
            actor = ray.remote(**_share(ray, workers), max_restarts=-1, max_task_retries=-1)(_Actor)
            actors = [actor.remote() for _ in range(workers)]
            done, late = ray.wait([one.do.remote(work, Path.cwd()) for one in actors])
            more, _ = ray.wait(late, num_returns=len(late), timeout=LATE) if late else ([], [])
            return list(ray.get([*done, *more]))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        finally:
            ray.shutdown()


def _share(ray: Any, workers: int) -> dict[str, float]:
    """Return the share of a cluster that each worker has; its threads and visible devices follow from it."""
    resources = ray.cluster_resources()
    largest = max(node["Resources"].get("CPU", 1) for node in ray.nodes() if node["Alive"])
    devices = resources.get("GPU", 0)
    return {
        "num_cpus": max(1, int(min(resources["CPU"] / workers, largest))),
        "num_gpus": 1 / math.ceil(workers / devices) if devices else 0,
    }


class _Actor:
    """A worker of Ray, in a process of its own."""

    def do(self, work: Callable[[], Result], folder: Path) -> Result:
        """Do the work with ``folder`` as the working directory, which relative paths refer to."""
        os.chdir(folder)
        return work()


if __name__ == "__main__":
    _run_and_mark(sys.argv.pop(1))
