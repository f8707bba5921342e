"""The folder of a store at a URL, with a local folder before it.

Stores write whole files and map them, so a remote store is a local one whose files are copied to the URL as
they are made, and from it as they are needed. What is at the URL decides what is complete. What has been
copied stays on this machine, since a search reads it twice, and the next evaluation again.

Files are read, written and deleted by any file system of fsspec. Object storage neither renames nor locks,
and its clock is unknown, so none of these is relied on.
"""

import json
import time
import uuid
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from llara_eval.core.decode import plain
from llara_eval.core.errors import DataError, LlaraEvalError, MissingPartError, UsageError
from llara_eval.core.files import atomic_write
from llara_eval.core.leases import Holder, Leases, is_alive
from llara_eval.vectors.place import Folder
from llara_eval.vectors.sealed import facts_of

_SIGNS = 10  # signs of life within the time after which a lease expires: each takes two requests

_clock = time.monotonic


class Objects:
    """The files of a folder at a URL.

    Args:
        files: A file system of fsspec.
        root: The path of the folder in it.
    """

    def __init__(self, files: Any, root: str) -> None:
        self.files = files
        self.root = root
        self._is_made = False

    @classmethod
    def open(cls, url: str) -> "Objects":
        """Return the folder at a URL.

        Raises:
            UsageError: fsspec does not know the protocol.
            MissingPartError: The library for the protocol is not installed.
        """
        from fsspec.core import url_to_fs

        try:
            files, root = url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            raise MissingPartError(f"{url}: {error}") from error
        except ValueError as error:
            raise UsageError(f"{url}: {error}") from error
        return cls(files, root.rstrip("/"))

    def __truediv__(self, name: str) -> "Objects":
        return Objects(self.files, f"{self.root}/{name}")

    def __str__(self) -> str:
        return str(self.files.unstrip_protocol(self.root))

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is no such file."""
        with self._explained(f"read {name}"), suppress(FileNotFoundError):
            return cast(bytes, self.files.cat_file(f"{self.root}/{name}"))
        return None

    def has(self, name: str) -> bool:
        """Whether a file exists."""
        with self._explained(f"look for {name}"):
            return bool(self.files.exists(f"{self.root}/{name}"))

    def write(self, name: str, data: bytes) -> None:
        """Write a file that appears under its name only when it is whole, on any file system."""
        self._make()
        with self._explained(f"write {name}"):
            try:
                self._write(name, data)
            except FileNotFoundError:  # another worker took the draft for that of a killed writer
                self._write(name, data)

    def _write(self, name: str, data: bytes) -> None:
        draft = f"{self.root}/.{name}.{uuid.uuid4().hex}.tmp"
        try:
            self.files.pipe_file(draft, data)
            self.files.mv(draft, f"{self.root}/{name}")
        except BaseException:
            with suppress(Exception):
                self.files.rm_file(draft)
            raise

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless it exists, and return whether it was written.

        Of several workers at once one succeeds on S3 (s3fs 2025.7) and Google's storage (gcsfs 2024.12).
        Where fsspec first looks and then writes, two may succeed: for leases, work is then done twice.
        """
        self._make()
        with self._explained(f"write {name}"):
            try:
                self.files.pipe_file(f"{self.root}/{name}", data, mode="create")
            except FileExistsError:
                return False
        return self.read(name) == data

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""
        with self._explained(f"delete {name}"), suppress(FileNotFoundError):
            self.files.rm_file(f"{self.root}/{name}")

    def names(self) -> list[str]:
        """Return the names of all files."""
        with self._explained("list its files"), suppress(FileNotFoundError):
            paths = self.files.ls(self.root, detail=False)
            return [str(path).rpartition("/")[2] for path in paths]
        return []

    def remove_drafts(self, done: Container[str]) -> None:
        """Remove the drafts of work that is done; the age of other drafts cannot be told without a clock.

        Their writers were killed, or make what is done already, and then write once more.
        """
        for file in self.names():
            if file.endswith(".tmp") and _work(file) in done:
                self.delete(file)

    def _make(self) -> None:
        if not self._is_made:
            with self._explained("make it"):
                self.files.makedirs(self.root, exist_ok=True)
            self._is_made = True

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


class ObjectLeases(Leases):
    """Leases at a URL: a lease is left behind if its content stays the same for too long.

    The clock of the storage is unknown. Each sign of life changes the content of a lease, and a worker that
    waits for it measures with its own clock.
    """

    def __init__(self, objects: Objects, *, expires: float) -> None:
        super().__init__(Path(objects.root), expires=expires)
        self._objects = objects
        self._seen: dict[str, tuple[bytes, float]] = {}
        self._signs: dict[str, float] = {}

    def take(self, name: str) -> bool:
        """Take a lease that is free or was left behind; return False if another worker holds it."""
        file, now = f"{name}.lease", _clock()
        held = self._objects.read(file)
        if held is not None:
            before, since = self._seen.get(name, (b"", now))
            if before != held:
                self._seen[name] = held, (since := now)
            holder = Holder.of(held)
            here = holder.host == self._owner.host
            if now - since <= self.expires and not (here and not is_alive(holder.pid)):
                return False
            if self._objects.read(file) != held:  # another worker has taken it over
                return False
            self._objects.delete(file)
        self._signs[name] = now
        return self._objects.create(file, self._sign(now))

    def holder(self, name: str) -> Holder:
        """Return the holder of a lease; nobody if it is free."""
        return Holder.of(self._objects.read(f"{name}.lease") or b"")

    def where(self, name: str) -> str:
        """Return the address of a lease."""
        return f"{self._objects}/{name}.lease"

    def renew(self, name: str) -> None:
        """Give a sign of life, unless one was given a short while ago."""
        now = _clock()
        if now - self._signs[name] >= self.expires / _SIGNS and self._is_mine(name):
            self._objects.write(f"{name}.lease", self._sign(now))
            self._signs[name] = now

    def release(self, name: str) -> None:
        """Give a lease back; one that another worker has taken over is left alone."""
        if self._is_mine(name):
            self._objects.delete(f"{name}.lease")

    def forget(self, done: Container[str]) -> None:
        """Remove leases of work that is done, and drafts of them."""
        for file in self._objects.names():
            if _work(file) in done:
                self._objects.delete(file)

    def _is_mine(self, name: str) -> bool:
        return self.holder(name).id == self._owner.id

    def _sign(self, now: float) -> bytes:
        return json.dumps(plain(replace(self._owner, sign=now))).encode()


def _work(file: str) -> str:
    """Return the name of the work that a file, a lease, or a draft of either belongs to."""
    return file.removeprefix(".").partition(".")[0]


class Remote(Folder):
    """A folder at a URL, and the local folder before it.

    Args:
        path: The local folder.
        objects: The folder at the URL.
    """

    def __init__(self, path: Path, objects: Objects) -> None:
        super().__init__(path)
        self._objects = objects
        self._whole: set[str] = set()

    def __truediv__(self, name: str) -> "Remote":
        return Remote(self.path / name, self._objects / name)

    def __str__(self) -> str:
        return str(self._objects)

    def claim(self, key: Mapping[str, Any]) -> None:
        """Write the key that decides the content, or check it, on both sides."""
        super().claim(key)
        shared = self._objects.read("key.json")
        if shared is None:
            self.share("key.json")
        elif shared != (self.path / "key.json").read_bytes():
            raise DataError(
                f"{self}/key.json is of another key, or damaged; delete {self}, and it is made again"
            )

    def share(self, *names: str) -> None:
        """Copy files to the URL, in this order."""
        for name in names:
            self._objects.write(name, (self.path / name).read_bytes())

    def bring(self, *names: str) -> bool:
        """Copy files from the URL; return whether all of them are on this machine now."""
        for name in names:
            data = self._objects.read(name)
            if data is None:
                return False
            with atomic_write(self.path / name) as file:
                file.write(data)
        return True

    def has(self, name: str, *, here: bool) -> bool:
        """Whether a file is at the URL; if it is not, it is copied there from here, where it is whole."""
        shared = self._objects.has(name)
        if here and not shared:
            self.share(name)
        return here or shared

    def drop(self, name: str) -> None:
        """Delete a file at the URL."""
        self._objects.delete(name)

    def record(self, record: str, file: str) -> dict[str, Any] | None:
        """Return the facts in a file's record at the URL; the file is checked when it is needed."""
        local, shared = super().record(record, file), facts_of(self._objects.read(record) or b"")
        if local is not None and (shared is None or not self._objects.has(file)):
            self.share(file, record)
        return local or shared

    def need(self, record: str, file: str) -> Path:
        """Return the path on this machine of a file that has a record at the URL, copied and checked.

        Raises:
            DataError: The file is damaged at the URL.
        """
        if file not in self._whole and super().record(record, file) is None:
            self.bring(file, record)
            if super().record(record, file) is None:
                self.drop(record)
                raise DataError(
                    f"{self}: {file} is damaged there; give the same command again, and it is made anew"
                )
        self._whole.add(file)
        return self.path / file

    def leases(self, seconds: float) -> Leases:
        """Return leases at the URL, which workers on all machines see."""
        return ObjectLeases(self._objects / "leases", expires=seconds)

    def tidy(self, done: Container[str]) -> None:
        """Remove what killed workers left; at the URL only of work that is done."""
        super().tidy(done)
        self._objects.remove_drafts(done)


def open_place(address: str | None, home: Path) -> Folder:
    """Return the folder of all stores.

    Args:
        address: A local folder, a URL of fsspec, or None for the cache folder.
        home: The cache folder, where copies of what is at a URL are kept too.

    Raises:
        UsageError: fsspec does not know the protocol of the URL.
        MissingPartError: The library for the protocol is not installed.
    """
    if address is None:
        return Folder(home)
    is_url = "://" in address or "::" in address
    return Remote(home, Objects.open(address)) if is_url else Folder(Path(address).expanduser())
