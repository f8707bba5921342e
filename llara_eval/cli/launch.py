"""Workers that run one command: processes of this machine, processes of torchrun, or actors of Ray.

A launcher assigns no work. Workers that fill the same stores find their shards by themselves, and take over
the shard of a worker that is silent; each worker ends when all vectors exist. A launcher only starts the
workers and restarts those that die, and one worker that finishes is enough.
"""

import logging
import math
import os
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from itertools import compress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from llara_eval.cli.processes import RESTARTS, THREADS, Process, started, threads, uninterrupted
from llara_eval.core.errors import LlaraEvalError, MissingPartError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

LATE = 120.0
"""Seconds that the other workers have to finish after the first one has finished."""

_POLL = 0.1


def arguments(context: Any, command: str, **changes: Any) -> list[str]:
    """Return the words that call a command with the options of the running one, but for some changes.

    Args:
        context: The context of the running command.
        command: The name of the command to call, which may be another one; options that it does not have are
            left out.
        changes: Parameter → value, instead of the value in the running command.
    """
    words = [command]
    for parameter in context.parent.command.commands[command].params:
        value = changes.get(parameter.name, context.params.get(parameter.name))
        flag = parameter.opts[0]
        if isinstance(value, bool):
            words += [flag] if value else []
        elif value is not None:
            for item in value if isinstance(value, list | tuple) else [value]:
                words += [flag, str(item)]
    return words


def local(arguments: Sequence[str], workers: int) -> list[str]:
    """Run the program in several processes of this machine.

    The first worker shows its progress, the others are quiet. The workers share the processors and the CUDA
    devices.

    Returns:
        The text that each worker that finished wrote to stdout.

    Raises:
        LlaraEvalError: A worker ended with an error of its own, or died more than ``RESTARTS`` times.
    """
    with started(arguments, range(workers), workers) as processes:
        done = _wait(lambda: [worker.is_done() for worker in processes])
        return [worker.output.read_text(encoding="utf-8") for worker in compress(processes, done)]


@contextmanager
def beside(arguments: Sequence[str], workers: int) -> Iterator[None]:
    """Run the program in ``workers - 1`` processes of this machine, while the block does the same work.

    The block is the first worker. The others are quiet, and are ended when the block has ended, since then
    all is done. If one of them fails, a warning gives its last lines, and the block does its work.
    """
    with (
        started(arguments, range(1, workers), workers) as processes,
        _watched(processes),
        _shared_processors(workers),
    ):
        yield


def _wait(which_are_done: Callable[[], list[bool]]) -> list[bool]:
    """Wait until all workers are done, or ``LATE`` seconds after the first; return which are done."""
    deadline = math.inf
    while not all(done := which_are_done()) and time.monotonic() < deadline:
        if any(done):
            deadline = min(deadline, time.monotonic() + LATE)
        time.sleep(_POLL)
    return done


@contextmanager
def _watched(processes: Sequence[Process]) -> Iterator[None]:
    """Restart workers that die while the block runs, in a thread; give up those that fail, with a warning."""
    is_over = threading.Event()

    def watch() -> None:
        running = list(processes)
        while running and not is_over.wait(_POLL):
            for worker in list(running):
                try:
                    if not worker.is_done():
                        continue
                except LlaraEvalError as error:
                    logger.warning("worker %d is lost, the others do its work: %s", worker.number, error)
                running.remove(worker)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@contextmanager
def _shared_processors(workers: int) -> Iterator[None]:
    """Let this process compute with as many threads as each other worker, until the block has ended."""
    import torch

    before = torch.get_num_threads()
    if THREADS not in os.environ:
        torch.set_num_threads(threads(workers))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def torchrun(arguments: Sequence[str], workers: int) -> None:
    """Run the program in several processes of torchrun, of which the first shows progress and result.

    Torchrun waits for all workers. A worker that finishes leaves a file as a mark, so that workers that hang
    are ended.

    Raises:
        LlaraEvalError: A worker died more than ``RESTARTS`` times.
    """
    with TemporaryDirectory(prefix="llara-eval-") as folder:
        with uninterrupted():
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
                    *(f"--nproc-per-node={workers}", f"--max-restarts={RESTARTS}"),
                    *("-m", "llara_eval.cli.launch", folder, *arguments),
                ],
                env={THREADS: str(threads(workers)), **os.environ},
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
