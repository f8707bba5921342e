"""Files that others wrote are opened here: regular files alone, and no more of them than memory holds.

A FIFO in place of a file would be waited for without end, and a device has no end. A line or a record of JSON
is parsed as a whole, which takes several times its size; a compressed file of 1 MB can hold one of 1 GB.
"""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from llara_eval.core.errors import DataError, UsageError

_VARIABLE = "LLARA_EVAL_LARGEST_MIB"

_LARGEST = 64.0
"""MiB of the largest line or record by default; the largest tokenizers take about half of that."""


def largest() -> int:
    """Return the most bytes of a line, or of a record of JSON: ``LLARA_EVAL_LARGEST_MIB``, 64 MiB by default.

    Raises:
        UsageError: The environment variable is not a positive number.
    """
    text = os.environ.get(_VARIABLE)
    if not text:
        return int(_LARGEST * 2**20)
    try:
        size = int(float(text) * 2**20)
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise UsageError(f"{_VARIABLE}={text!r} is not a positive number of MiB")
    return size


def too_large(what: str) -> str:
    """Return the message about a line or a file that is larger than :func:`largest` allows."""
    size = f"{largest() / 2**20:,.6g} MiB"
    return f"{what} of more than {size}; {_VARIABLE} allows more, if the file is what it should be"


def is_present(path: Path) -> bool:
    """Return whether there is a file; a link counts as the file that it leads to.

    Raises:
        DataError: The path is there, but is not a regular file, or cannot be looked at.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_symlink():
            raise DataError(f"{path}: a link to a file that does not exist") from error
        return False
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({_reason(error)})") from error
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: not a regular file; write its content to one")
    return True


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading.

    Raises:
        FileNotFoundError: There is no such file.
        DataError: The path is there, but is not a regular file, or cannot be read.
    """
    if not is_present(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    try:
        return path.open("rb")
    except PermissionError as error:
        raise DataError(f"{path}: cannot be read ({_reason(error)})") from error


def read_whole(path: Path) -> bytes:
    """Return the content of a small file, such as a record of JSON.

    Raises:
        FileNotFoundError: There is no such file.
        DataError: The path is there, but is not a regular file, cannot be read, or is larger than
            :func:`largest` allows.
    """
    with open_regular(path) as file:
        content = file.read(largest() + 1)
    if len(content) > largest():
        raise DataError(f"{path}: {too_large('a file')}")
    return content


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
