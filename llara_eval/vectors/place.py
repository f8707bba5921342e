"""The folder of a store on this machine, and what a store asks of any folder.

A store writes whole files and maps them. Where the folder is at a URL
(:class:`llara_eval.vectors.remote.Remote`), the same calls copy files there and back.
"""

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from llara_eval.core.files import remove_drafts
from llara_eval.core.leases import Leases
from llara_eval.vectors.sealed import claim, sealed


class Folder:
    """A local folder.

    Args:
        path: Its path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, folder: "Path | Folder") -> "Folder":
        """Return a path as a local folder, and a folder as it is."""
        return folder if isinstance(folder, Folder) else Folder(folder)

    def __truediv__(self, name: str) -> "Folder":
        return Folder(self.path / name)

    def __str__(self) -> str:
        return str(self.path)

    def claim(self, key: Mapping[str, Any]) -> None:
        """Write the key that decides the content, or check it: :func:`llara_eval.vectors.sealed.claim`."""
        claim(self.path, key)

    def share(self, *names: str) -> None:
        """Copy files to the URL, if the folder has one, in this order."""

    def bring(self, *names: str) -> bool:
        """Copy files from the URL; return whether all of them are on this machine now."""
        return False

    def has(self, name: str, *, here: bool) -> bool:
        """Whether all workers can read a file, given whether it is on this machine and whole."""
        return here

    def drop(self, name: str) -> None:
        """Delete a file that is damaged at the URL."""

    def record(self, record: str, file: str) -> dict[str, Any] | None:
        """Return the facts in a file's record; None if the file is missing or damaged."""
        return sealed(self.path / record, self.path / file)

    def need(self, record: str, file: str) -> Path:
        """Return the path on this machine of a file that has a record."""
        return self.path / file

    def leases(self, seconds: float) -> Leases:
        """Return leases of work on this folder, which expire after so many seconds."""
        return Leases(self.path / "leases", expires=seconds)

    def tidy(self, done: Container[str]) -> None:
        """Remove what killed workers left on this machine, leases of work that is done among it."""
        remove_drafts(self.path)
        self.leases(0.0).forget(done)
