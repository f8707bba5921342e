"""The folder of a training run: no file is replaced or removed that a training run did not write."""

import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from llara_eval.core.decode import decode
from llara_eval.core.errors import UsageError
from llara_eval.core.files import explained, read_json, remove_drafts, sha256_of
from llara_eval.core.paths import inside, real_path, user_path
from llara_eval.core.sealed import CHECKSUMS
from llara_eval.datasets.contamination import RECORD
from llara_eval.training.config import Conditions
from llara_eval.training.log import BOARD, LOG
from llara_eval.training.state import STATES, discard

_LOCK = ".lock"

_RUN_FILES = {LOG, RECORD, CHECKSUMS, BOARD, STATES, _LOCK}
"""Names in the folder of a run, beside the files of its checkpoint, which ``checksums.json`` lists."""


def check_output(conditions: Conditions, folder: Path) -> None:
    """Refuse an output folder that a run must not write to.

    Args:
        conditions: The conditions of the run, whose output is checked.
        folder: The checkpoint that training begins with.

    Raises:
        UsageError: The output is a file, or it holds that checkpoint or something else than a training run.
        DataError: The output's list of checksums is malformed.
    """
    output, folder = real_path(user_path(conditions.output)), real_path(user_path(folder))
    if output == folder or output in folder.parents:
        raise UsageError(f"--output {output} holds the model itself; name another folder")
    if output.exists() and not output.is_dir():
        raise UsageError(f"--output {output} is a file; name a folder")
    existing, names = conditions.on_existing, _names(output)
    if existing == "refuse" and names:
        raise UsageError(f"{output} exists and holds {', '.join(names[:5])}; choose another --output")
    if existing == "only-missing" and RECORD in names:
        return  # nothing will be written
    others = _others(output, names, unchanged=existing == "always")
    if others:
        raise UsageError(
            f"{output} holds {', '.join(others[:5])}, which no training run wrote or which changed since; "
            "move that away, or choose another --output"
        )


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Make a folder that is missing, and hold its lock; a folder that is empty in the end is removed.

    A process that dies gives its lock back. On a file system without locks, nothing is locked.

    Raises:
        UsageError: Another process holds the lock.
        LlaraEvalError: The folder cannot be made.
    """
    path = output / _LOCK
    with explained(output):
        output.mkdir(parents=True, exist_ok=True)
        file = _open_lock(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()
        with suppress(OSError):
            output.rmdir()


def _open_lock(path: Path) -> TextIO:
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise UsageError(
                f"{path.parent} is being written by {holder}; wait for its end, or choose another --output"
            ) from error
        except OSError:  # a file system without locks
            return file
        if os.fstat(file.fileno()).st_nlink:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            return file
        file.close()  # the process that held the lock has removed the file


def clear(output: Path) -> None:
    """Remove the files of a training run from a folder."""
    discard(output)
    for name in (*_checksums(output), LOG, RECORD, CHECKSUMS):
        (output / name).unlink(missing_ok=True)
    shutil.rmtree(output / BOARD, ignore_errors=True)
    remove_drafts(output)


def _names(output: Path) -> list[str]:
    return sorted(path.name for path in output.iterdir()) if output.exists() else []


def _others(output: Path, names: list[str], *, unchanged: bool) -> list[str]:
    """Return the names that are not those of a run's files; ``unchanged``: nor of files that changed."""
    checksums = _checksums(output)
    return [
        name
        for name in names
        if name not in _RUN_FILES
        and not (name.startswith(".") and name.endswith(".tmp"))
        and (name not in checksums or (unchanged and checksums[name] != sha256_of(output / name)))
    ]


def _checksums(output: Path) -> dict[str, str]:
    path = output / CHECKSUMS
    checksums = decode(read_json(path), dict[str, str], path) if path.is_file() else {}
    for name in checksums:
        inside(output, name, path)
    return checksums
