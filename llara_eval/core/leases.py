"""Leases: a lease is a file that one worker takes, and that expires unless it is renewed.

Leases only save work: what two workers make of one shard is the same, and appears whole. A lease is renewed
by the work itself as it goes on, not by a thread beside it (as in filelock's lease), so that a worker that
hangs loses its leases. The death of a worker on this machine is noticed at once.
"""

import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from llara_eval.core.decode import decode, plain
from llara_eval.core.errors import DataError
from llara_eval.core.files import draft, remove_drafts

logger = logging.getLogger(__name__)

EXPIRES = 600.0
"""Seconds without a sign of life after which a lease usually is free; a batch takes less than that."""

_POLL = 0.5  # seconds between two looks at a lease that another holds

_PATIENCE = 10.0  # seconds of waiting after which it is said for whom

_TAKEOVER = 60.0  # seconds after which a worker that was removing another's lease is taken for dead


@dataclass(frozen=True)
class Holder:
    """The worker that holds a lease; nobody by default.

    Attributes:
        host: Its machine.
        pid: Its process there.
        id: Its own name, unlike that of any other worker.
        sign: When it last gave a sign of life, in seconds of the clock of a store without file times.
    """

    host: str = ""
    pid: int = 0
    id: str = ""
    sign: float = field(default=0.0, compare=False)

    @classmethod
    def here(cls) -> "Holder":
        """Return a new holder in this process."""
        return cls(socket.gethostname(), os.getpid(), uuid.uuid4().hex)

    @classmethod
    def of(cls, lease: bytes) -> "Holder":
        """Return the holder that a lease names; nobody if the lease is empty or damaged."""
        try:
            return decode(json.loads(lease), cls, "a lease")
        except (ValueError, DataError):
            return cls()


class Leases:
    """The leases of one worker.

    Args:
        folder: Where the leases of all workers lie.
        expires: Seconds without a sign of life after which a lease is free.
    """

    def __init__(self, folder: Path, *, expires: float = EXPIRES) -> None:
        self.folder = folder
        self.expires = expires
        self._owner = Holder.here()

    def take(self, name: str) -> bool:
        """Take a lease that is free or was left behind; return False if another worker holds it."""
        path = self._path(name)
        with draft(path) as (file, name_of_draft):
            now = name_of_draft.stat().st_mtime
            holder = _read(path)
            if self._is_left_behind(path, holder, now):
                self._remove(path, holder, now)
            file.write(json.dumps(plain(self._owner)).encode())
            file.flush()
            try:
                os.link(name_of_draft, path)  # appears whole, or not at all because another one is there
            except FileExistsError:
                return False
        return True

    def holder(self, name: str) -> Holder:
        """Return the holder of a lease; nobody if it is free."""
        return _read(self._path(name))

    def where(self, name: str) -> str:
        """Return the path of a lease."""
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
        """Hold a lease in the block, and tell whether it was taken; with ``wait`` it is, sooner or later."""
        mine = self.take(name)
        started, silent = time.monotonic(), True
        while wait and not mine:
            time.sleep(_POLL)
            if silent and time.monotonic() - started > _PATIENCE:
                silent, holder = False, self.holder(name)
                logger.warning(
                    f"waiting for process {holder.pid} on {holder.host}, which holds {self.where(name)}; "
                    "delete that file if the process is gone"
                )
            mine = self.take(name)
        try:
            yield mine
        finally:
            if mine:
                self.release(name)

    def _remove(self, path: Path, holder: Holder, now: float) -> None:
        """Remove a lease that was left behind, and not the one that another worker has since taken instead.

        Only the worker that holds the right to remove that very lease does: a file that one worker can make.
        """
        right = path.with_name(f"{path.stem}.{holder.id}.takeover")
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

    def _is_left_behind(self, path: Path, holder: Holder, now: float) -> bool:
        """Whether a lease's holder is dead, or was not heard of for too long by the clock of the folder."""
        try:
            silent = now - path.stat().st_mtime
        except FileNotFoundError:
            return False
        here = holder.host == self._owner.host
        return silent > self.expires or (here and not is_alive(holder.pid))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.lease"


def _read(path: Path) -> Holder:
    """Return the holder of a lease; nobody if there is no lease, or an empty one after a loss of power."""
    try:
        return Holder.of(path.read_bytes())
    except FileNotFoundError:
        return Holder()


def is_alive(pid: int) -> bool:
    """Whether a process of this machine is running; one that has ended and was not waited for is not."""
    try:
        os.kill(pid, 0)
    except PermissionError:  # another user's
        return True
    except ProcessLookupError:
        return False
    with suppress(OSError):  # without /proc nothing more is known
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] != b"Z"
    return True
