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
    """Make a temporary folder inside another one, for what shall appear there together; gone after the block.

    What a killed process leaves behind is removed as drafts are.

    Raises:
        LlaraEvalError: It may not be made there.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=folder, prefix=f".new.{HERE}.", suffix=".tmp"))
    handle = os.open(place, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield place
    finally:
        os.close(handle)
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def atomic_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """Make a folder that appears under its name only when the block ends without an error.

    It is made beside its place and renamed, so that a process killed at any instant leaves either the old
    folder or the new one. What killed processes left behind is removed first.

    Args:
        folder: Where the folder shall appear; its parent is made.
        replace: Whether it takes the place of one that is there. Otherwise the one that is there stays, since
            another process came first, and what the block has made is dropped.

    Yields:
        An empty folder to fill; it has the same name, in another place.

    Raises:
        LlaraEvalError: There is no room for it, or it may not be written there.
    """
    with staging(folder.parent) as place:
        remove_drafts(folder.parent, "new")
        unfinished = place / folder.name
        unfinished.mkdir()
        yield unfinished
        if replace and folder.exists():
            folder.rename(place / f"{folder.name}.replaced")
        try:
            unfinished.rename(folder)
        except OSError as error:
            if replace or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    sync_folder(folder.parent)
