"""Who works on what: a lease is a file that one worker takes, and that expires unless it is renewed.

Leases save work; nothing depends on them: what two workers make of one shard is the same, and appears whole.
They are renewed by the work itself as it goes on, not by a thread beside it (as in filelock's lease), so that
a worker that hangs loses what it holds. One that died on this machine is noticed at once.
"""

import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from llara_eval.core.files import draft, remove_drafts

logger = logging.getLogger(__name__)

EXPIRES = 600.0
"""Seconds without a sign of life after which a lease usually is free; a batch takes less than that."""

_POLL = 0.5  # seconds between two looks at a lease that another holds

_PATIENCE = 10.0  # seconds of waiting after which it is said for whom

_TAKEOVER = 60.0  # seconds after which a worker that was removing another's lease is taken for dead


class Leases:
    """The leases of one worker.

    Args:
        folder: Where the leases of all workers lie.
        expires: Seconds without a sign of life after which a lease is free.
    """

    def __init__(self, folder: Path, *, expires: float = EXPIRES) -> None:
        self.folder = folder
        self.expires = expires
        self._owner = {"host": socket.gethostname(), "pid": os.getpid(), "id": uuid.uuid4().hex}

    def take(self, name: str) -> bool:
        """Take a lease that is free or was left behind; return False if another worker holds it."""
        path = self._path(name)
        with draft(path) as (file, own):
            now = own.stat().st_mtime
            holder = _read(path)
            if self._is_left_behind(path, holder, now):
                self._remove(path, holder, now)
            file.write(json.dumps(self._owner).encode())
            file.flush()
            try:
                os.link(own, path)  # appears whole, or not at all because another one is there
            except FileExistsError:
                return False
        return True

    def holder(self, name: str) -> dict[str, Any]:
        """Return who holds a lease: host, pid and id."""
        return _read(self._path(name))

    def where(self, name: str) -> str:
        """Return where a lease is."""
        return str(self._path(name))

    def renew(self, name: str) -> None:
        """Give a sign of life."""
        with suppress(FileNotFoundError):
            os.utime(self._path(name))

    def release(self, name: str) -> None:
        """Give a lease back; one that another worker has taken over is left alone."""
        if self.holder(name) == self._owner:
            self._path(name).unlink(missing_ok=True)

    def forget(self, done: Container[str]) -> None:
        """Remove what killed workers left here, leases of work that others have done since among it."""
        remove_drafts(self.folder)
        for path in self.folder.glob("*.lease"):
            if path.stem in done:
                path.unlink(missing_ok=True)

    @contextmanager
    def hold(self, name: str, *, wait: bool = False) -> Iterator[bool]:
        """Hold a lease in the block; tell whether it was taken, which with ``wait`` it is sooner or later."""
        mine = self.take(name)
        started, silent = time.monotonic(), True
        while wait and not mine:
            time.sleep(_POLL)
            if silent and time.monotonic() - started > _PATIENCE:
                silent, held = False, self.holder(name)
                logger.warning(
                    f"waiting for process {held['pid']} on {held['host']}, which holds {self.where(name)}; "
                    "delete that file if the process is gone"
                )
            mine = self.take(name)
        try:
            yield mine
        finally:
            if mine:
                self.release(name)

    def _remove(self, path: Path, holder: dict[str, Any], now: float) -> None:
        """Remove a lease that was left behind, and not the one that another worker has since taken instead.

        Only who holds the right to remove that very lease, a file that one worker can make, does.
        """
        right = path.with_name(f"{path.stem}.{holder['id']}.takeover")
        try:
            right.touch(exist_ok=False)
        except FileExistsError:
            with suppress(FileNotFoundError):
                if now - right.stat().st_mtime > _TAKEOVER:
                    right.unlink()
            return
        try:
            if _read(path) == holder:
                path.unlink(missing_ok=True)
        finally:
            right.unlink(missing_ok=True)

    def _is_left_behind(self, path: Path, holder: dict[str, Any], now: float) -> bool:
        """Whether a lease's holder is dead, or was not heard of for too long by the clock of the folder."""
        try:
            silent = now - path.stat().st_mtime
        except FileNotFoundError:
            return False
        here = holder["host"] == self._owner["host"]
        return silent > self.expires or (here and not is_alive(holder["pid"]))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.lease"


def _read(path: Path) -> dict[str, Any]:
    """Return who holds a lease; nobody if it is not there, or empty after a loss of power."""
    try:
        return cast(dict[str, Any], json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return {"host": "", "pid": 0, "id": ""}


def is_alive(pid: int) -> bool:
    """Whether a process of this machine is there, and more than an exit status that nobody asked for."""
    try:
        os.kill(pid, 0)
    except PermissionError:  # another user's
        return True
    except ProcessLookupError:
        return False
    with suppress(OSError):  # where there is no /proc, nothing more is known
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] != b"Z"
    return True
