"""Records of files: a record holds facts about a file, and a checksum of the file and the facts."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llara_eval.core.decode import decode
from llara_eval.core.errors import DataError
from llara_eval.core.files import write_json


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
        facts = decode_record(record.read_bytes())
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256")
    except OSError:
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
