"""Folders that are whole or absent."""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llara_eval.core.files import HERE, explained, remove_drafts, sync_folder


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Make a temporary folder inside another one, for files that shall appear together; gone after the block.

    The temporary folder of a killed process is removed as drafts are.

    Raises:
        LlaraEvalError: The temporary folder may not be made there.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=f".new.{HERE}.", suffix=".tmp"))
    handle = os.open(temporary, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield temporary
    finally:
        os.close(handle)
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def atomic_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """Make a folder that appears under its name only when the block ends without an error.

    It is made in a temporary folder beside it and renamed, so that a process killed at any instant leaves
    either the old folder or the new one.

    Args:
        folder: Where the folder shall appear; its parent is made.
        replace: Whether it replaces an existing folder. Otherwise the existing one stays, since another
            process came first, and the new one is dropped.

    Yields:
        An empty folder of the same name, to be filled.

    Raises:
        LlaraEvalError: The disk is full, or the folder may not be written there.
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
