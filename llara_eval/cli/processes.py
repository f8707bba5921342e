"""Processes of this machine that run this program as workers: started, restarted when they die, and ended."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from llara_eval.core.errors import DataError, LlaraEvalError

RESTARTS = 3
"""How often a worker that died is started again."""

THREADS = "OMP_NUM_THREADS"
"""The environment variable for the number of threads of a process."""

_ENDING = 10.0  # seconds that a terminated worker has to give back its leases
_LAST_LINES = 5  # that are shown of a worker that died without an error message
_ERRORS = {error.exit_code: error for error in LlaraEvalError.__subclasses__()}


def program(arguments: Sequence[str]) -> list[str]:
    """Return the command that runs this program with the given arguments."""
    return [sys.executable, "-m", "llara_eval", *arguments]


def threads(workers: int) -> int:
    """Return the number of threads of a worker: its share of the processors that this process may use."""
    processors = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, processors // workers)


@contextmanager
def started(arguments: Sequence[str], numbers: range, workers: int) -> "Iterator[list[Process]]":
    """Start the workers with some numbers, out of ``workers``, and end them when the block has ended."""
    processes: list[Process] = []
    with TemporaryDirectory(prefix="llara-eval-") as folder:
        try:
            for number in numbers:
                with uninterrupted():
                    processes.append(Process(arguments, number, workers, Path(folder)))
            yield processes
        finally:
            for worker in processes:
                worker.process.terminate()
            for worker in processes:
                worker.end()


class Process:
    """A worker on this machine. Ctrl-C in the terminal does not reach it: its parent ends it.

    Args:
        arguments: The words of the program's command.
        number: The number of the worker, which chooses its CUDA device. Worker 0 shows its progress, the
            others are quiet.
        workers: The number of workers that share the processors.
        folder: The folder of the worker's output.
    """

    def __init__(self, arguments: Sequence[str], number: int, workers: int, folder: Path) -> None:
        self.number = number
        self._restarts_left = RESTARTS
        self._last_error: str | None = None
        self.output, self._errors = folder / f"{number}.out", folder / f"{number}.err"
        quiet = ["--quiet"] if number else []
        self._command = program([*arguments, *quiet])
        ranks = {"RANK": "0", "LOCAL_RANK": str(number)}
        self._environment = {THREADS: str(threads(workers)), **os.environ, **ranks}
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
        message = _last_message(self._errors.read_text(errors="replace"))
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
        with uninterrupted():
            self._start()
        return False

    def end(self) -> None:
        """Wait for the worker, which has been terminated, and kill it if it does not end."""
        try:
            self.process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _last_message(errors: str) -> str:
    """Return the error message at the end of a worker's stderr, or else its last lines."""
    _, said, message = errors.rpartition("error: ")
    return message.strip() if said else "\n".join(errors.strip().splitlines()[-_LAST_LINES:])


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM: between the start of a process and its registration, nobody would end it.

    Both interrupt the main thread only; in another thread nothing has to be delayed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
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
