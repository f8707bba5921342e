"""The reader of lines: UTF-8, gzipped or not; every error names the file and the line."""

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

from llara_eval.core.errors import DataError
from llara_eval.core.reading import is_present, largest, open_regular, too_large

BYTE_ORDER_MARK = "\ufeff"

_MARKED = (
    "begins with a byte-order mark (U+FEFF), which would be a part of its first word; it is allowed once, at "
    "the beginning of the file: remove it"
)


@contextmanager
def open_bytes(path: Path) -> Iterator[tuple[io.BufferedReader, io.BufferedReader]]:
    """Open a regular file for reading, gzipped if its name ends in ``.gz``.

    Yields:
        The content, and the file on disk, whose position shows how much of it has been read.

    Raises:
        FileNotFoundError: There is no such file.
        DataError: The path is there, but is not a regular file, or cannot be read.
    """
    with open_regular(path) as disk:
        if path.suffix == ".gz":
            with gzip.GzipFile(fileobj=disk) as content:
                yield io.BufferedReader(cast(Any, content)), disk
        else:
            yield disk, disk


def text_lines(path: Path, advance: Callable[[int], object] | None = None) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its end) of a UTF-8 file, gzipped if its name ends in ``.gz``.

    A line ends at a line feed, with or without a carriage return before it, and nowhere else. Each line is
    decoded on its own, so that an error names the right line. The byte-order mark of the file is skipped.
    ``advance`` is called with the number of bytes that were read from disk since the last call.

    Raises:
        DataError: The file cannot be opened, a line is not UTF-8, is larger than
            :func:`llara_eval.core.reading.largest` allows or begins with one more byte-order mark, or a
            gzipped file is damaged.
    """
    number = position = 0
    limit = largest()
    try:
        with open_bytes(path) as (content, disk):
            for number, raw in enumerate(iter(partial(content.readline, limit + 1), b""), 1):
                if len(raw) > limit:
                    raise DataError.at(path, number, too_large("a line"))
                if advance is not None and (now := disk.tell()) != position:
                    advance(now - position)
                    position = now
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if line[:1] == BYTE_ORDER_MARK:
                    raise DataError.at(path, number, _MARKED)
                yield number, line
    except UnicodeDecodeError as error:
        raise DataError.at(path, number, f"not UTF-8 ({error.reason})") from error
    except (EOFError, OSError, zlib.error) as error:
        raise DataError.at(path, number + 1, f"cannot be read further ({error}); is it complete?") from error


def objects(
    path: Path, advance: Callable[[int], object] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) for each non-blank line of a JSON Lines file, read by :func:`text_lines`.

    Raises:
        DataError: A line is not a JSON object, or the file cannot be read.
    """
    for number, line in text_lines(path, advance):
        if line.strip():
            yield number, parse_object(path, number, line)


def parse_object(path: Path, number: int, line: str) -> dict[str, Any]:
    """Return the JSON object on a line.

    Raises:
        DataError: The line is not a JSON object.
    """
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError.at(
            path, number, f"not valid JSON: {error.msg} at column {error.colno}: {line.strip()[:60]!r}"
        ) from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, or 100,000 nested brackets
        raise DataError.at(path, number, f"not usable JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError.at(path, number, f"expected a JSON object, found {line.strip()[:60]!r}")
    return value


def read_texts(path: Path, limit: int) -> list[str]:
    """Return at most ``limit`` texts of a file with one text on each line; blank lines are skipped.

    Raises:
        DataError: The file cannot be read, or holds no text.
    """
    texts = list(islice((text for _, line in text_lines(path) if (text := line.strip())), limit))
    if not texts:
        raise DataError(f"{path} holds no text")
    return texts


def find_file(folder: Path, name: str) -> Path:
    """Return the path of a file or, if there is no such file, of its gzipped form.

    Raises:
        DataError: The folder has neither file, or what has the name is not a regular file.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if is_present(path):
            return path
    raise DataError(f"{folder}: neither {name} nor {name}.gz exists; see docs/datasets.md")
