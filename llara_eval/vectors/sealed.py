"""What a store says of itself: the key of a folder, and beside a file a record with a checksum of both."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llara_eval.core.errors import DataError
from llara_eval.core.files import write_json


def seal(record: Path, content: "hashlib._Hash", facts: Mapping[str, Any]) -> None:
    """Write the record of a file; a file with a record is whole, so this comes last.

    Args:
        record: Where to write it.
        content: SHA-256 of what was to be written into the file, not of what can be read from it now.
        facts: What else to note, as JSON values.
    """
    content.update(_canonical(facts))
    write_json(record, {**facts, "sha256": content.hexdigest()})


def sealed(record: Path, file: Path) -> dict[str, Any] | None:
    """Return the facts in a file's record; None if one of the two is not there, or not whole."""
    try:
        facts: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        checksum = facts.pop("sha256")
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    content.update(_canonical(facts))
    return facts if content.hexdigest() == checksum else None


def claim(folder: Path, key: Mapping[str, Any]) -> None:
    """Write down what decides a folder's content, or check that it is what is written there.

    Raises:
        DataError: What is written there is another key, or damaged.
    """
    file = folder / "key.json"
    try:
        there = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        write_json(file, key)
        return
    except ValueError:
        there = None
    if there != json.loads(_canonical(key)):
        raise DataError(f"{file} is of another key, or damaged; delete {folder}, and it is made again")


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
