"""The folder of a store on this machine, with the operations that a store needs of any folder.

A store writes complete files and maps them into memory. If the store is at a URL
(:class:`llara_eval.vectors.remote.RemoteFolder`), the same operations copy files to and from the URL.
"""

import hashlib
import json
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

from llara_eval.core.errors import DataError
from llara_eval.core.files import create, remove_drafts, write_json
from llara_eval.core.leases import Leases
from llara_eval.core.reading import is_present, read_whole
from llara_eval.core.sealed import canonical, decode_record, sealed


class StoreFolder:
    """A local folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __truediv__(self, name: str) -> "StoreFolder":
        return StoreFolder(self.path / name)

    def __str__(self) -> str:
        return str(self.path)

    def of_key(self, key: Mapping[str, Any]) -> "StoreFolder":
        """Return the subfolder that is named by the hash of a cache key."""
        text = json.dumps(key, sort_keys=True, ensure_ascii=False)
        return self / hashlib.sha256(text.encode()).hexdigest()[:32]

    def claim(self, key: Mapping[str, Any]) -> None:
        """Write the cache key of this folder, or compare it with the key that the folder has.

        Raises:
            DataError: The folder has another key, or its key is damaged or not a regular file.
        """
        file = self.path / "key.json"
        if not is_present(file):
            write_json(file, key)
        elif decode_record(read_whole(file)) != json.loads(canonical(key)):
            raise DataError(f"{file} holds another key, or is damaged; delete {self.path} to make it again")

    def agree(self, name: str, choose: Callable[[], bytes]) -> bytes:
        """Return the content of a file that the first of all workers chooses and writes."""
        if not is_present(self.path / name):
            create(self.path / name, choose())
        return read_whole(self.path / name)

    def upload(self, *names: str) -> None:
        """Copy files to the URL, if the folder has one, in this order."""

    def download(self, *names: str) -> bool:
        """Copy files from the URL; return whether all of them are now on this machine."""
        return False

    def has(self, name: str, *, is_local: bool) -> bool:
        """Return whether all workers can read a file; ``is_local``: this machine has it, undamaged."""
        return is_local

    def delete_remote(self, name: str) -> None:
        """Delete a file that is damaged at the URL."""

    def facts(self, record: str, file: str) -> dict[str, Any] | None:
        """Return the facts in a file's record; None if the file is missing or damaged."""
        return sealed(self.path / record, self.path / file)

    def fetch(self, record: str, file: str) -> Path:
        """Return the path on this machine of a file that has a record."""
        return self.path / file

    def leases(self, seconds: float) -> Leases:
        """Return the leases of work on this folder, which expire after ``seconds``."""
        return Leases(self.path / "leases", expires=seconds)

    def remove_leftovers(self, done: Container[str]) -> None:
        """Remove the files of killed workers from this machine, and the leases of work that is done."""
        remove_drafts(self.path)
        self.leases(0.0).remove_leftovers(done)
