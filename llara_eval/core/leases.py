"""Leases: a lease is a file that one worker takes, and that expires unless the worker renews it.

Leases only save work: two workers that make the same shard write the same bytes, and the shard appears
complete. The work itself renews a lease, not a thread beside it (as in filelock's lease), so that a worker
that hangs loses its leases. The death of a worker on this machine is noticed at once.
"""

import json
import logging
import os
import re
import socket
import time
import uuid
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llara_eval.core.decode import decode, plain
from llara_eval.core.errors import DataError
from llara_eval.core.files import draft, remove_drafts
from llara_eval.core.reading import read_whole

logger = logging.getLogger(__name__)

EXPIRES = 600.0
"""Seconds without renewal after which a lease expires by default; a batch takes less time than that."""

_POLL = 0.5
"""Seconds between two attempts to take a lease that another worker holds."""

_PATIENCE = 10.0
"""Seconds of waiting after which a warning names the holder."""

_ID = re.compile(r"[0-9a-f]{1,32}")
"""The name of a worker: the digits of a UUID."""

_PIDS = 1 << 31
"""Numbers of processes are smaller on all systems; zero and less stand for groups of processes."""

_TAKEOVER = 60.0
"""Seconds after which a worker that was removing another worker's lease counts as dead."""


@dataclass(frozen=True)
class Holder:
    """The worker that holds a lease; nobody by default.

    Attributes:
        host: The worker's machine.
        pid: The worker's process on that machine.
        id: A name that no other worker has.
        renewed: Time of the last renewal in seconds, for a storage whose files have no times.
    """

    host: str = ""
    pid: int = 0
    id: str = ""
    renewed: float = field(default=0.0, compare=False)

    @classmethod
    def of(cls, lease: bytes) -> "Holder":
        """Return the holder that a lease names; nobody if the lease is empty or damaged.

        The id becomes a part of a file's name, and the process is asked whether it runs.
        """
        try:
            holder = decode(json.loads(lease), cls, "a lease")
        except (ValueError, RecursionError, DataError):
            return cls()
        return holder if _ID.fullmatch(holder.id) and 0 < holder.pid < _PIDS else cls()


class Leases:
    """The leases of one worker, in a folder that all workers share.

    A lease expires ``expires`` seconds after its last renewal, by the clock of the folder. It also expires if
    this worker has seen no renewal for that long by its own clock: the times of the folder may be wrong.
    """

    _now = staticmethod(time.monotonic)

    def __init__(self, folder: Path, *, expires: float = EXPIRES) -> None:
        self.folder = folder
        self.expires = expires
        self._seen: dict[str, tuple[Any, float]] = {}
        self._owner = Holder(socket.gethostname(), os.getpid(), uuid.uuid4().hex)

    def take(self, name: str) -> bool:
        """Take a lease that is free or abandoned; return False if another worker holds it."""
        path = self._path(name)
        with draft(path) as (file, draft_path):
            now = draft_path.stat().st_mtime  # by the clock of the folder
            holder = self.holder(name)
            if self._is_abandoned(name, holder, now):
                self._remove(name, holder, now)
            file.write(json.dumps(plain(self._owner)).encode())
            file.flush()
            try:
                os.link(draft_path, path)  # appears complete, or not at all if another lease exists
            except FileExistsError:
                return False
        return True

    def holder(self, name: str) -> Holder:
        """Return the holder of a lease; nobody if the lease is free, or empty after a loss of power.

        Raises:
            DataError: The lease is not a regular file, or cannot be read.
        """
        try:
            return Holder.of(read_whole(self._path(name)))
        except FileNotFoundError:
            return Holder()

    def address(self, name: str) -> str:
        """Return the path of a lease."""
        return str(self._path(name))

    def renew(self, name: str) -> None:
        """Renew a lease."""
        with suppress(FileNotFoundError):
            os.utime(self._path(name))

    def release(self, name: str) -> None:
        """Give a lease back, unless another worker has taken it over."""
        if self.holder(name) == self._owner:
            self._path(name).unlink(missing_ok=True)

    def remove_leftovers(self, done: Container[str]) -> None:
        """Remove the drafts of killed workers, and the leases of work that is done."""
        remove_drafts(self.folder)
        for path in self.folder.glob("*.lease"):
            if path.stem in done:
                path.unlink(missing_ok=True)

    @contextmanager
    def hold(self, name: str, *, wait: bool = False) -> Iterator[bool]:
        """Hold a lease in the block, and yield whether it was taken; ``wait``: wait until it is free."""
        taken, waiting = self.take(name), Waiting(self)
        while wait and not taken:
            waiting.pause(name)
            taken = self.take(name)
        try:
            yield taken
        finally:
            if taken:
                self.release(name)

    def _remove(self, name: str, holder: Holder, now: float) -> None:
        """Remove an abandoned lease, but not a lease that another worker has taken since.

        A worker first takes the right to remove the lease of this holder: a file that one worker can make.
        """
        path = self._path(name)
        takeover = path.with_name(f"{name}.{holder.id}.takeover")
        try:
            takeover.touch(exist_ok=False)
        except FileExistsError:
            with suppress(FileNotFoundError):
                begun = takeover.stat().st_mtime
                if max(now - begun, self._unchanged(takeover.name, begun)) > _TAKEOVER:
                    takeover.unlink()
            return
        try:
            if self.holder(name) == holder:
                path.unlink(missing_ok=True)
        finally:
            takeover.unlink(missing_ok=True)

    def _is_abandoned(self, name: str, holder: Holder, now: float) -> bool:
        """Return whether a lease has expired, or its holder is dead."""
        try:
            renewed = self._path(name).stat().st_mtime
        except FileNotFoundError:
            return False
        silent = max(now - renewed, self._unchanged(name, (holder, renewed)))
        return silent > self.expires or self._is_dead(holder)

    def _is_dead(self, holder: Holder) -> bool:
        """Return whether a holder was a process of this machine that runs no longer."""
        return holder.host == self._owner.host and not is_alive(holder.pid)

    def _unchanged(self, name: str, state: object) -> float:
        """Return for how many seconds, by this worker's clock, the state of a lease has been the same."""
        now = self._now()
        before, since = self._seen.get(name, (None, now))
        if before != state:
            self._seen[name] = state, (since := now)
        return now - since

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.lease"


class Waiting:
    """The pauses of a worker that waits for leases of others; it says so when it has waited for long."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._started = time.monotonic()
        self._said = False

    def pause(self, name: str) -> None:
        """Sleep before the next attempt to take a lease; after some seconds, name its holder, once."""
        time.sleep(_POLL)
        if self._said or time.monotonic() - self._started <= _PATIENCE:
            return
        self._said = True
        leases, holder = self._leases, self._leases.holder(name)
        logger.warning(
            f"waiting for process {holder.pid} on {holder.host or 'an unknown machine'}, which holds "
            f"{leases.address(name)}, until it has given no sign of life for {leases.expires:,.0f} seconds; "
            "delete that file if the process is gone"
        )


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine is running; a process that ended as a zombie is not."""
    try:
        os.kill(pid, 0)
    except PermissionError:  # the process of another user
        return True
    except ProcessLookupError:
        return False
    with suppress(OSError):  # without /proc, zombies count as alive
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] != b"Z"
    return True
