"""A folder at a URL: whole files, read, written and deleted by any file system of fsspec.

Object storage neither renames nor locks, and nobody knows its clocks; nothing of the kind is asked of it.
"""

import json
import time
import uuid
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from llara_eval.core.errors import LlaraEvalError, MissingPartError, UsageError
from llara_eval.core.leases import Leases, is_alive

_SIGNS = 10  # signs of life in the time after which a lease expires: each takes two requests


class Objects:
    """The files of a folder.

    Args:
        files: A file system of fsspec.
        root: The folder there.
    """

    def __init__(self, files: Any, root: str) -> None:
        self.files = files
        self.root = root
        self._is_made = False

    @classmethod
    def open(cls, url: str) -> "Objects":
        """Return the folder at a URL.

        Raises:
            UsageError: The URL is of no known kind.
            MissingPartError: What speaks to it is not installed.
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
        """Return what is in a file; None if it is not there."""
        with self._explained(f"read {name}"), suppress(FileNotFoundError):
            return cast(bytes, self.files.cat_file(f"{self.root}/{name}"))
        return None

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        with self._explained(f"look for {name}"):
            return bool(self.files.exists(f"{self.root}/{name}"))

    def write(self, name: str, data: bytes) -> None:
        """Write a file, which has its name only when it is whole, whatever the file system does."""
        self._make()
        with self._explained(f"write {name}"):
            try:
                self._write(name, data)
            except FileNotFoundError:  # somebody took the draft for a killed writer's
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
        """Write a file unless it is there, and return whether that was so.

        Of several at once one succeeds on S3 (s3fs 2025.7) and Google's storage (gcsfs 2024.12). Where fsspec
        first looks and then writes, two may: for leases that means that work is done twice.
        """
        self._make()
        with self._explained(f"write {name}"):
            try:
                self.files.pipe_file(f"{self.root}/{name}", data, mode="create")
            except FileExistsError:
                return False
        return self.read(name) == data

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""
        with self._explained(f"delete {name}"), suppress(FileNotFoundError):
            self.files.rm_file(f"{self.root}/{name}")

    def names(self) -> list[str]:
        """Return the names of all files."""
        with self._explained("list its files"), suppress(FileNotFoundError):
            found = self.files.ls(self.root, detail=False)
            return [str(path).rpartition("/")[2] for path in found]
        return []

    def remove_drafts(self, done: Container[str]) -> None:
        """Remove drafts of work that is done; what is merely old, no clock there tells.

        Their writers were killed, or make again what is there, and then write once more.
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
        """Turn whatever a file system raises into a sentence."""
        try:
            yield
        except Exception as error:
            raise LlaraEvalError(
                f"{self}: cannot {action} ({type(error).__name__}: {error}). Give the same command again: it "
                "goes on from what is finished"
            ) from error


class ObjectLeases(Leases):
    """Leases that are objects: one is left behind if it stays the same for too long.

    Nobody knows the clocks there. Each sign of life changes what is written in a lease, and whoever waits for
    it measures with a clock of its own.
    """

    def __init__(self, objects: Objects, *, expires: float) -> None:
        super().__init__(Path(objects.root), expires=expires)
        self._objects = objects
        self._seen: dict[str, tuple[bytes, float]] = {}
        self._signs: dict[str, float] = {}

    def take(self, name: str) -> bool:
        """Take a lease that is free or was left behind; return False if another worker holds it."""
        file, now = f"{name}.lease", time.monotonic()
        held = self._objects.read(file)
        if held is not None:
            before, since = self._seen.get(name, (b"", now))
            if before != held:
                self._seen[name] = held, (since := now)
            holder = _holder(held)
            here = holder["host"] == self._owner["host"]
            if now - since <= self.expires and not (here and not is_alive(holder["pid"])):
                return False
            if self._objects.read(file) != held:  # another worker has taken it over
                return False
            self._objects.delete(file)
        self._signs[name] = now
        return self._objects.create(file, self._sign(now))

    def holder(self, name: str) -> dict[str, Any]:
        """Return who holds a lease: host, pid, id and the last sign of life."""
        return _holder(self._objects.read(f"{name}.lease") or b"")

    def where(self, name: str) -> str:
        """Return where a lease is."""
        return f"{self._objects}/{name}.lease"

    def renew(self, name: str) -> None:
        """Give a sign of life, unless one was given a short while ago."""
        now = time.monotonic()
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
        return bool(self.holder(name)["id"] == self._owner["id"])

    def _sign(self, now: float) -> bytes:
        return json.dumps({**self._owner, "sign": now}).encode()


def _work(file: str) -> str:
    """Return the name of the work that a file, a lease or a draft of one belongs to."""
    return file.removeprefix(".").partition(".")[0]


def _holder(held: bytes) -> dict[str, Any]:
    """Return who holds a lease; nobody if it is not whole."""
    try:
        return dict(json.loads(held))
    except ValueError:
        return {"host": "", "pid": 0, "id": ""}
