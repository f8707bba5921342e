"""Folders that are complete or absent."""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llara_eval.core.files import HOST, explained, remove_drafts, sync_folder


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Make a temporary folder inside a folder, for files that appear together; the block's end removes it.

    :func:`llara_eval.core.files.remove_drafts` removes the temporary folder of a killed process.

    Raises:
        LlaraEvalError: The folder is not writable, or the disk is full.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=f".new.{HOST}.", suffix=".tmp"))
    handle = os.open(temporary, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield temporary
    finally:
        os.close(handle)
        shutil.rmtree(temporary, ignore_errors=True)


def require_writable(folder: Path) -> None:
    """Check that files can be written into a folder, which may not exist yet; nothing is left behind.

    Raises:
        LlaraEvalError: The folder is not writable and cannot be made, or the disk is full.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with staging(folder):
            pass
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()


@contextmanager
def atomic_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """Make an empty folder that appears under its name only if the block ends without an error.

    The folder is filled inside a temporary folder beside it and then renamed, so that a process that is
    killed at any instant leaves either the old folder or the new one.

    Args:
        folder: The path of the folder; its parent is made.
        replace: Whether to replace an existing folder. Otherwise an existing folder stays, since another
            process was faster, and the new folder is dropped.

    Raises:
        LlaraEvalError: The disk is full, or the parent is not writable.
    """
    with staging(folder.parent) as temporary:
        remove_drafts(folder.parent, "new")
        unfinished = temporary / folder.name
        unfinished.mkdir()
        yield unfinished
        if replace and folder.exists():
            folder.rename(temporary / f"{folder.name}.replaced")
        try:
            unfinished.rename(folder)
        except OSError as error:
            if replace or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    sync_folder(folder.parent)
