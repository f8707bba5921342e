"""What a store says of itself: the key of a folder, and beside a file a record with the checksum of both."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llara_eval.core.decode import decode
from llara_eval.core.errors import DataError
from llara_eval.core.files import write_json


def seal(record: Path, content: "hashlib._Hash", facts: Mapping[str, Any]) -> None:
    """Write the record of a file; a file with a record is whole, so the record is written last.

    Args:
        record: The path of the record.
        content: SHA-256 of what was to be written into the file, not of what can be read from it now.
        facts: What else is recorded, as JSON values.
    """
    content.update(_canonical(facts))
    write_json(record, {**facts, "sha256": content.hexdigest()})


def sealed(record: Path, file: Path) -> dict[str, Any] | None:
    """Return the facts in a file's record; None if one of the two is missing or damaged."""
    try:
        facts = _decode(record.read_bytes())
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256")
    except (OSError, DataError):
        return None
    checksum = facts.pop("sha256", None)
    content.update(_canonical(facts))
    return facts if content.hexdigest() == checksum else None


def facts_of(record: bytes) -> dict[str, Any] | None:
    """Return the facts in a record whose file is not looked at; None if the record is damaged."""
    try:
        return {name: value for name, value in _decode(record).items() if name != "sha256"}
    except DataError:
        return None


def claim(folder: Path, key: Mapping[str, Any]) -> None:
    """Write the key that decides a folder's content, or compare it with the key that the folder has.

    Raises:
        DataError: The folder has another key, or its key is damaged.
    """
    file = folder / "key.json"
    try:
        same = _decode(file.read_bytes()) == json.loads(_canonical(key))
    except FileNotFoundError:
        write_json(file, key)
        return
    except DataError:
        same = False
    if not same:
        raise DataError(f"{file} is of another key, or damaged; delete {folder}, and it is made again")


def _decode(record: bytes) -> dict[str, Any]:
    try:
        return decode(json.loads(record), dict[str, Any], "a record")
    except (ValueError, RecursionError) as error:
        raise DataError(f"a record is not JSON: {error}") from error


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
