"""Checksums of files that this program made: a damaged file is never used.

A file has a record of facts about it, with a checksum of both. A folder has a list of the checksums of its
files. Record and list are written last, so that a file or a folder with one is complete.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from llara_eval.core.decode import decode
from llara_eval.core.errors import DataError
from llara_eval.core.files import atomic_write, read_json, sha256_of, write_json
from llara_eval.core.reading import open_regular, read_whole

CHECKSUMS = "checksums.json"
"""The list of a folder: path of each file below the folder → SHA-256."""

_THREADS = min(8, os.cpu_count() or 1)


class Writable(Protocol):
    """An object to which bytes can be written."""

    def write(self, data: Any, /) -> int:
        """Write bytes."""


class Hashing:
    """A file that hashes what is written into it.

    Attributes:
        content: SHA-256 of the bytes that were written.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.content = hashlib.sha256()

    def write(self, data: Any, /) -> int:
        """Write bytes."""
        self.content.update(data)
        return self._file.write(data)


def seal(record: Path, content: "hashlib._Hash", facts: Mapping[str, Any]) -> None:
    """Write the record of a file; a file with a record is complete, so the record is written last.

    Args:
        record: The path of the record.
        content: SHA-256 of the bytes that were written into the file, not of those that it returns now.
        facts: Other values to record, in JSON types.
    """
    content.update(canonical(facts))
    write_json(record, {**facts, "sha256": content.hexdigest()})


def sealed(record: Path, file: Path) -> dict[str, Any] | None:
    """Return the facts in a file's record; None if the file or the record is missing or damaged."""
    try:
        facts = decode_record(read_whole(record))
        with open_regular(file) as opened:
            content = hashlib.file_digest(opened, "sha256")
    except (OSError, DataError):
        return None
    if facts is None:
        return None
    checksum = facts.pop("sha256", None)
    content.update(canonical(facts))
    return facts if content.hexdigest() == checksum else None


def decode_record(record: bytes) -> dict[str, Any] | None:
    """Return the JSON object in a record, with its checksum; None if the record is damaged."""
    try:
        return decode(json.loads(record), dict[str, Any], "a record")
    except (ValueError, RecursionError, DataError):
        return None


def canonical(value: Mapping[str, Any]) -> bytes:
    """Return the JSON form of a mapping, in which the order of its keys does not matter."""
    return json.dumps(value, sort_keys=True).encode()


def cached_file(path: Path, write: Callable[[Writable], None]) -> Path:
    """Return a file of a cache, which is made if it is missing or damaged.

    Args:
        path: The path of the file, whose name contains a hash of all that decides the content.
        write: Writes the content.
    """
    record = path.with_name(f"{path.name}.json")
    if sealed(record, path) is None:
        with atomic_write(path) as file:
            hashing = Hashing(file)
            write(hashing)
        seal(record, hashing.content, {})
    return path


def seal_folder(folder: Path) -> None:
    """Write the list of the checksums of all files below a folder."""
    write_json(folder / CHECKSUMS, _checksums(folder))


def is_whole(folder: Path) -> bool:
    """Return whether a folder has a list of checksums, and exactly the files of the list, undamaged."""
    try:
        return not changes(folder)
    except (OSError, DataError):
        return False


def changes(folder: Path) -> list[str]:
    """Return the names of files that were added, changed or removed since :func:`seal_folder`.

    Raises:
        DataError: The folder has no list of checksums, or the list is malformed.
    """
    path = folder / CHECKSUMS
    listed, present = decode(read_json(path), dict[str, str], path), _checksums(folder)
    return sorted(name for name in {*listed, *present} if listed.get(name) != present.get(name))


def _checksums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / CHECKSUMS)
    with ThreadPoolExecutor(_THREADS) as threads:
        checksums = threads.map(sha256_of, files)
        names = [path.relative_to(folder).as_posix() for path in files]
        return dict(zip(names, checksums, strict=True))
