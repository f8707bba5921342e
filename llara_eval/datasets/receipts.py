"""The receipt that a fetched data set keeps: which archive it came from, and what its files were then."""

import json
from pathlib import Path
from typing import NamedTuple

from llara_eval.core.errors import DataError
from llara_eval.core.files import sha256_of, write_json

RECEIPT = "receipt.json"
_SCHEMA = 1


class Receipt(NamedTuple):
    """What was noted when an archive was unpacked.

    Attributes:
        url: Where the archive came from.
        md5: Its checksum.
        files: SHA-256 of each file, by its path below the folder, with ``/`` as separator.
    """

    url: str
    md5: str
    files: dict[str, str]


def write(folder: Path, *, url: str, md5: str) -> None:
    """Leave a receipt in a folder that has just been unpacked."""
    write_json(folder / RECEIPT, {"schema": _SCHEMA, "url": url, "md5": md5, "files": _checksums(folder)})


def find(folder: Path) -> Receipt | None:
    """Return the receipt for the files of a folder, its own or that of the folder above, or None.

    Raises:
        DataError: It cannot be read.
    """
    for root, below in ((folder, ""), (folder.parent, f"{folder.name}/")):
        if (root / RECEIPT).is_file():
            receipt = _read(root / RECEIPT)
            files = {
                name.removeprefix(below): value
                for name, value in receipt.files.items()
                if name.startswith(below)
            }
            return receipt._replace(files=files) if files else None
    return None


def changes(folder: Path, receipt: Receipt) -> list[str]:
    """Say in what the files of a folder differ from its receipt; files it does not name may come and go."""
    found = _checksums(folder)  # no path is ever taken from a receipt
    return [
        f"{name} is not as it was fetched" if name in found else f"{name} is no longer there"
        for name, checksum in receipt.files.items()
        if found.get(name) != checksum
    ]


def _read(path: Path) -> Receipt:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["schema"] != _SCHEMA:
            raise DataError(f"{path}: schema {value['schema']!r}; this version reads {_SCHEMA}")
        return Receipt(str(value["url"]), str(value["md5"]), dict(value["files"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not a receipt ({error!r}); without one, no checksums are compared"
        ) from error


def _checksums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECEIPT)
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
