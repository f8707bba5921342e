"""Who works on what: a lease is a file that one worker takes, and that expires unless it is renewed.

Leases save work; nothing depends on them: what two workers make of one shard is the same, and appears whole.
They are renewed by the work itself as it goes on, not by a thread beside it (as in filelock's lease), so that
a worker that hangs loses what it holds. One that died on this machine is noticed at once.
"""

import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

EXPIRES = 600.0
"""Seconds without a sign of life after which a lease is free; a batch takes less than that."""

_POLL = 0.5  # seconds between two looks at a lease that another holds


class Leases:
    """The leases of one worker.

    Args:
        folder: Where the leases of all workers lie.
        expires: Seconds.
    """

    def __init__(self, folder: Path, *, expires: float = EXPIRES) -> None:
        self.folder = folder
        self.expires = expires
        self._owner = {"host": socket.gethostname(), "pid": os.getpid(), "id": uuid.uuid4().hex}

    def take(self, name: str) -> bool:
        """Take a lease that is free or was left behind; return False if another worker holds it."""
        path = self._path(name)
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._is_left_behind(path):
            with suppress(FileNotFoundError):  # of those who see it, one is first
                path.rename(self._own_file())
        own = self._own_file()
        own.write_text(json.dumps(self._owner), encoding="utf-8")
        try:
            os.link(own, path)  # appears whole, or not at all because another one is there
        except FileExistsError:
            return False
        finally:
            own.unlink()
        return True

    def renew(self, name: str) -> None:
        """Give a sign of life."""
        with suppress(FileNotFoundError):
            os.utime(self._path(name))

    def release(self, name: str) -> None:
        """Give a lease back; one that another worker has taken over is left alone."""
        if _read(self._path(name)) == self._owner:
            self._path(name).unlink(missing_ok=True)

    @contextmanager
    def hold(self, name: str, *, wait: bool = False) -> Iterator[bool]:
        """Hold a lease in the block; tell whether it was taken, which with ``wait`` it is sooner or later."""
        mine = self.take(name)
        while wait and not mine:
            time.sleep(_POLL)
            mine = self.take(name)
        try:
            yield mine
        finally:
            if mine:
                self.release(name)

    def _is_left_behind(self, path: Path) -> bool:
        """Whether a lease's holder is dead, or was not heard of for too long by the clock of the folder."""
        holder = _read(path)
        own = self._own_file()
        own.touch()
        try:
            silent = own.stat().st_mtime - path.stat().st_mtime
        except FileNotFoundError:
            return False
        finally:
            own.unlink()
        here = holder["host"] == self._owner["host"]
        return silent > self.expires or (here and not _is_alive(holder["pid"]))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.lease"

    def _own_file(self) -> Path:
        return self.folder / f".{self._owner['id']}"


def _read(path: Path) -> dict[str, Any]:
    """Return who holds a lease; nobody if it is not there."""
    try:
        return cast(dict[str, Any], json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {"host": "", "pid": 0, "id": ""}


def _is_alive(pid: int) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(pid, 0)
    except PermissionError:  # another user's
        return True
    except ProcessLookupError:
        return False
    return True
