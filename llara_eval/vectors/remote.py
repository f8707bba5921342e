"""The folder of a store at a URL, with a local folder that holds copies of its files.

Stores write complete files and map them into memory. A store at a URL is therefore a local store whose files
are copied to the URL when they are made, and from the URL when they are needed. The files at the URL decide
what is complete. Copies stay on this machine, because a search reads them twice and the next evaluation reads
them again.

Files are read, written and deleted through any file system of fsspec. Object storage cannot rename or lock
files, and its clock is unknown, so this module relies on none of these.
"""

import json
import uuid
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from llara_eval.core.decode import plain
from llara_eval.core.errors import DataError, LlaraEvalError, MissingPartError, UsageError
from llara_eval.core.files import atomic_write
from llara_eval.core.leases import Holder, Leases
from llara_eval.core.paths import user_path
from llara_eval.core.sealed import decode_record
from llara_eval.vectors.store_folder import StoreFolder

_RENEWALS = 10
"""The most renewals of a lease in the time after which it expires; each renewal takes two requests."""


_LOCAL = ("file", "local", "memory")
"""The protocols of fsspec that never use a network."""


class RemoteFiles:
    """The files of a folder ``root`` in a file system of fsspec."""

    def __init__(self, file_system: Any, root: str) -> None:
        self.file_system = file_system
        self.root = root
        self._exists = False

    @classmethod
    def open(cls, url: str) -> "RemoteFiles":
        """Return the files of the folder at a URL.

        Raises:
            UsageError: fsspec does not know the protocol.
            MissingPartError: The library for the protocol is not installed.
            LlaraEvalError: The server cannot be reached, or refuses.
        """
        from fsspec.core import url_to_fs

        try:
            file_system, root = url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            raise MissingPartError(f"{url}: {error}") from error
        except ValueError as error:
            raise UsageError(f"{url}: {error}") from error
        except Exception as error:  # fsspec has a class of errors for each protocol
            raise LlaraEvalError(f"{url}: cannot be opened ({type(error).__name__}: {error})") from error
        return cls(file_system, root.rstrip("/"))

    def __truediv__(self, name: str) -> "RemoteFiles":
        return RemoteFiles(self.file_system, f"{self.root}/{name}")

    def __str__(self) -> str:
        return str(self.file_system.unstrip_protocol(self.root))

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is no such file."""
        with self._explained(f"read {name}"), suppress(FileNotFoundError):
            return cast(bytes, self.file_system.cat_file(f"{self.root}/{name}"))
        return None

    def has(self, name: str) -> bool:
        """Return whether a file exists."""
        with self._explained(f"look for {name}"):
            return bool(self.file_system.exists(f"{self.root}/{name}"))

    def write(self, name: str, data: bytes) -> None:
        """Write a file that appears under its name only when it is complete, on any file system."""
        self._make_folder()
        with self._explained(f"write {name}"):
            try:
                self._write(name, data)
            except FileNotFoundError:  # another worker took the draft for one of a killed writer
                self._write(name, data)

    def _write(self, name: str, data: bytes) -> None:
        draft = f"{self.root}/.{name}.{uuid.uuid4().hex}.tmp"
        try:
            self.file_system.pipe_file(draft, data)
            self.file_system.mv(draft, f"{self.root}/{name}")
        except BaseException:
            with suppress(Exception):
                self.file_system.rm_file(draft)
            raise

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless the file exists, and return whether it was written.

        If several workers create a file at once, only one succeeds on S3 (s3fs 2025.7) and on Google's
        storage (gcsfs 2024.12). On storage where fsspec looks first and writes then, two may succeed; two
        workers then hold one lease, and the work is done twice.
        """
        self._make_folder()
        with self._explained(f"write {name}"):
            try:
                self.file_system.pipe_file(f"{self.root}/{name}", data, mode="create")
            except FileExistsError:
                return False
        return self.read(name) == data

    def delete(self, name: str) -> None:
        """Delete a file if the file exists."""
        with self._explained(f"delete {name}"), suppress(FileNotFoundError):
            self.file_system.rm_file(f"{self.root}/{name}")

    def names(self) -> list[str]:
        """Return the names of all files."""
        with self._explained("list its files"), suppress(FileNotFoundError):
            paths = self.file_system.ls(self.root, detail=False)
            return [str(path).rpartition("/")[2] for path in paths]
        return []

    def delete_leftovers(self, done: Container[str], ending: str) -> None:
        """Delete the files of work that is done whose names have an ending, such as drafts (``.tmp``).

        The writer of such a draft was killed, or it makes what is done already and then writes once more.
        The age of other drafts is unknown without a clock, so they stay.
        """
        for file in self.names():
            work = file.removeprefix(".").partition(".")[0]
            if file.endswith(ending) and work in done:
                self.delete(file)

    def _make_folder(self) -> None:
        if not self._exists:
            with self._explained("make it"):
                self.file_system.makedirs(self.root, exist_ok=True)
            self._exists = True

    @contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        """Turn any error of a file system into a sentence."""
        try:
            yield
        except Exception as error:
            raise LlaraEvalError(
                f"{self}: cannot {action} ({type(error).__name__}: {error}). Give the same command again: it "
                "goes on from what is finished"
            ) from error


class RemoteLeases(Leases):
    """Leases at a URL: a lease counts as abandoned if its content stays the same for too long.

    The clock of the storage is unknown. Therefore each renewal changes the content of a lease, and a worker
    that waits for the lease measures the time with its own clock.
    """

    def __init__(self, files: RemoteFiles, *, expires: float) -> None:
        super().__init__(Path(files.root), expires=expires)
        self._files = files
        self._renewed: dict[str, float] = {}

    def take(self, name: str) -> bool:
        """Take a lease that is free or abandoned; return False if another worker holds it."""
        file = f"{name}.lease"
        lease = self._files.read(file)
        if lease is not None:
            if self._unchanged(name, lease) <= self.expires and not self._is_dead(Holder.of(lease)):
                return False
            if self._files.read(file) != lease:  # another worker has taken the lease over
                return False
            self._files.delete(file)
        self._renewed[name] = now = self._now()
        return self._files.create(file, self._lease(now))

    def holder(self, name: str) -> Holder:
        """Return the holder of a lease; nobody if the lease is free."""
        return Holder.of(self._files.read(f"{name}.lease") or b"")

    def address(self, name: str) -> str:
        """Return the address of a lease."""
        return f"{self._files}/{name}.lease"

    def renew(self, name: str) -> None:
        """Renew a lease, unless it was renewed a short while ago."""
        now = self._now()
        if now - self._renewed[name] >= self.expires / _RENEWALS and self._is_mine(name):
            self._files.write(f"{name}.lease", self._lease(now))
            self._renewed[name] = now

    def release(self, name: str) -> None:
        """Give a lease back, unless another worker has taken it over."""
        if self._is_mine(name):
            self._files.delete(f"{name}.lease")

    def remove_leftovers(self, done: Container[str]) -> None:
        """Remove the leases of work that is done, and the drafts of these leases."""
        self._files.delete_leftovers(done, "")

    def _is_mine(self, name: str) -> bool:
        return self.holder(name).id == self._owner.id

    def _lease(self, now: float) -> bytes:
        return json.dumps(plain(replace(self._owner, renewed=now))).encode()


class RemoteFolder(StoreFolder):
    """The files of a folder at a URL, and the local folder ``path`` of their copies."""

    def __init__(self, path: Path, files: RemoteFiles) -> None:
        super().__init__(path)
        self._files = files
        self._checked: set[str] = set()

    def __truediv__(self, name: str) -> "RemoteFolder":
        return RemoteFolder(self.path / name, self._files / name)

    def __str__(self) -> str:
        return str(self._files)

    def claim(self, key: Mapping[str, Any]) -> None:
        """Write the cache key of this folder, or compare it with the recorded key, here and at the URL."""
        super().claim(key)
        remote = self._files.read("key.json")
        if remote is None:
            self.upload("key.json")
        elif remote != (self.path / "key.json").read_bytes():
            raise DataError(
                f"{self}/key.json holds another key, or is damaged; delete {self} to make it again"
            )

    def agree(self, name: str, choose: Callable[[], bytes]) -> bytes:
        """Return the content of a file at the URL, which the first of all workers chooses and writes."""
        content = self._files.read(name)
        if content is None:
            own = super().agree(name, choose)
            self._files.create(name, own)
            content = self._files.read(name) or own
        return content

    def upload(self, *names: str) -> None:
        """Copy files to the URL, in this order."""
        for name in names:
            self._files.write(name, (self.path / name).read_bytes())

    def download(self, *names: str) -> bool:
        """Copy files from the URL; return whether all of them are now on this machine."""
        for name in names:
            data = self._files.read(name)
            if data is None:
                return False
            with atomic_write(self.path / name) as file:
                file.write(data)
        return True

    def has(self, name: str, *, is_local: bool) -> bool:
        """Return whether all workers can read a file; a local file that the URL lacks is uploaded."""
        is_remote = self._files.has(name)
        if is_local and not is_remote:
            self.upload(name)
        return is_local or is_remote

    def delete_remote(self, name: str) -> None:
        """Delete a file at the URL."""
        self._files.delete(name)

    def facts(self, record: str, file: str) -> dict[str, Any] | None:
        """Return the facts in a file's record at the URL; :meth:`fetch` checks the file itself."""
        local, remote = super().facts(record, file), decode_record(self._files.read(record) or b"")
        if local is not None and (remote is None or not self._files.has(file)):
            self.upload(file, record)
        return local or remote

    def fetch(self, record: str, file: str) -> Path:
        """Copy a file that has a record at the URL to this machine, check the copy, and return its path.

        Raises:
            DataError: The file at the URL is damaged.
        """
        if file not in self._checked and super().facts(record, file) is None:
            self.download(file, record)
            if super().facts(record, file) is None:
                self.delete_remote(record)
                raise DataError(f"{self}: {file} is damaged; give the same command again to make it again")
        self._checked.add(file)
        return self.path / file

    def leases(self, seconds: float) -> Leases:
        """Return leases at the URL, which workers on all machines see."""
        return RemoteLeases(self._files / "leases", expires=seconds)

    def remove_leftovers(self, done: Container[str]) -> None:
        """Remove the files of killed workers; at the URL, only those of work that is done."""
        super().remove_leftovers(done)
        self._files.delete_leftovers(done, ".tmp")


def open_store_folder(address: str | None, home: Path, *, offline: bool = False) -> StoreFolder:
    """Return the folder of all stores at an address: a local path, a URL of fsspec, or None.

    None is the address of the cache folder ``home``, which also holds the copies of files at a URL. With
    ``offline``, only URLs of this machine are opened: no other file system of fsspec says whether it will use
    the network.

    Raises:
        UsageError: The URL has no protocol, or one that fsspec does not know; or the URL is not of this
            machine, and the network must not be used.
        MissingPartError: The library for the protocol is not installed.
        LlaraEvalError: The server cannot be reached, or refuses.
    """
    if address is None:
        return StoreFolder(home)
    if "://" in address or "::" in address:
        if address.startswith(":"):
            raise UsageError(f"{address!r} has no protocol; write protocol://folder, or the path of a folder")
        if offline and ("::" in address or address.partition("://")[0] not in _LOCAL):
            raise UsageError(
                f"{address}: this store may need the network, which must not be used; name a folder, or a "
                f"URL of {' or '.join(_LOCAL)}, or leave out --offline"
            )
        return RemoteFolder(home, RemoteFiles.open(address))
    return StoreFolder(user_path(address))
