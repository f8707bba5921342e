"""Where a store lives: in a local folder, or at a URL with a local folder before it.

Stores write whole files and map them, so a remote one is a local one whose files are copied there as they are
made, and from there as they are needed. What lies there decides what is there. What has been copied stays
here: a search reads it twice, and the next evaluation again.
"""

import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from llara_eval.core.errors import DataError
from llara_eval.core.files import atomic_write, remove_drafts
from llara_eval.core.leases import Leases
from llara_eval.vectors.remote import ObjectLeases, Objects
from llara_eval.vectors.sealed import claim, sealed


class Folder:
    """A local folder.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, place: "Path | Folder") -> "Folder":
        """Return a place as it is, a path as a local folder."""
        return place if isinstance(place, Folder) else Folder(place)

    def __truediv__(self, name: str) -> "Folder":
        return Folder(self.path / name)

    def __str__(self) -> str:
        return str(self.path)

    def claim(self, key: Mapping[str, Any]) -> None:
        """Write down what decides the content, or check it; see :func:`llara_eval.vectors.sealed.claim`."""
        claim(self.path, key)

    def share(self, *names: str) -> None:
        """Copy files to where others see them, in this order."""

    def bring(self, *names: str) -> bool:
        """Copy files from where others put them; return whether all are here now."""
        return False

    def has(self, name: str, *, here: bool) -> bool:
        """Whether there is a file for all, given whether it is here and whole."""
        return here

    def drop(self, name: str) -> None:
        """Remove a file that is damaged where all see it."""

    def record(self, record: str, file: str) -> dict[str, Any] | None:
        """Return the facts in a file's record; None if the file is not there, or not whole."""
        return sealed(self.path / record, self.path / file)

    def need(self, record: str, file: str) -> Path:
        """Return the path of a file that has a record, to be read."""
        return self.path / file

    def leases(self, seconds: float) -> Leases:
        """Return leases of work on this folder, which expire after so long."""
        return Leases(self.path / "leases", expires=seconds)

    def tidy(self, done: Container[str]) -> None:
        """Remove what killed workers left here, leases of work that is done among it."""
        remove_drafts(self.path)
        self.leases(0.0).forget(done)


class Remote(Folder):
    """A folder at a URL, and the local one before it.

    Args:
        path: The local folder.
        objects: The remote one.
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
        """Write down what decides the content, or check it, on both sides."""
        super().claim(key)
        there = self._objects.read("key.json")
        if there is None:
            self.share("key.json")
        elif there != (self.path / "key.json").read_bytes():
            raise DataError(
                f"{self}/key.json is of another key, or damaged; delete {self}, and it is made again"
            )

    def share(self, *names: str) -> None:
        """Copy files there."""
        for name in names:
            self._objects.write(name, (self.path / name).read_bytes())

    def bring(self, *names: str) -> bool:
        """Copy files from there; return whether all are here now."""
        for name in names:
            data = self._objects.read(name)
            if data is None:
                return False
            with atomic_write(self.path / name) as file:
                file.write(data)
        return True

    def has(self, name: str, *, here: bool) -> bool:
        """Whether a file is there, given whether it is here and whole: then it is copied if need be."""
        there = self._objects.has(name)
        if here and not there:
            self.share(name)
        return here or there

    def drop(self, name: str) -> None:
        """Delete a file there."""
        self._objects.delete(name)

    def record(self, record: str, file: str) -> dict[str, Any] | None:
        """Return the facts in a file's record there; if they are true is seen when the file is needed."""
        here, there = super().record(record, file), _facts(self._objects.read(record) or b"")
        if here is not None and (there is None or not self._objects.has(file)):
            self.share(file, record)
        return here or there

    def need(self, record: str, file: str) -> Path:
        """Return the path of a file that has a record there, copied and checked if need be.

        Raises:
            DataError: It is damaged there.
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
        """Return leases that workers on all machines see."""
        return ObjectLeases(self._objects / "leases", expires=seconds)

    def tidy(self, done: Container[str]) -> None:
        """Remove what killed workers left, there only of work that is done."""
        super().tidy(done)
        self._objects.remove_drafts(done)


def _facts(record: bytes) -> dict[str, Any] | None:
    """Return the facts in a record without looking at its file; None if it is damaged."""
    try:
        facts = dict(json.loads(record))
    except ValueError:
        return None
    facts.pop("sha256", None)
    return facts


def open_place(place: str | None, home: Path) -> Folder:
    """Return where stores live.

    Args:
        place: A folder, a URL of fsspec, or None for the cache folder.
        home: The cache folder, where what lies at a URL is kept too.

    Raises:
        UsageError: The URL is of no known kind.
        MissingPartError: What speaks to it is not installed.
    """
    if place is None:
        return Folder(home)
    is_url = "://" in place or "::" in place
    return Remote(home, Objects.open(place)) if is_url else Folder(Path(place).expanduser())
