"""Files that are whole or absent, and their checksums."""

import gzip
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, TextIO

CHUNK = 1 << 20


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that appears under ``path`` only when the block ends without an error.

    Temporary file in the same folder, fsync, rename: a process killed at any instant leaves
    either the old content or the new one.

    Args:
        path: Where the file shall appear; its folder is made.

    Yields:
        The temporary file, open for writing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def text_writer(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 text file that appears as :func:`atomic_write` says; ``.gz`` is compressed.

    The compressed form holds no time stamp: equal writes give equal bytes.
    """
    with atomic_write(path) as file:
        plain = path.suffix != ".gz"
        with nullcontext(file) if plain else gzip.GzipFile("", "wb", 9, file, mtime=0) as binary:
            text = io.TextIOWrapper(binary, encoding="utf-8", newline="\n")
            yield text
            text.detach()


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all; a name ending in ``.gz`` is compressed."""
    with text_writer(path) as file:
        file.write(text)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON with a final newline, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def open_text(path: Path) -> TextIO:
    """Open a UTF-8 text file, compressed if its name ends in ``.gz``, without a byte-order mark."""
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8-sig", newline="\n")
    return path.open(encoding="utf-8-sig", newline="\n")


def bytes_read(file: TextIO) -> int:
    """Return how far a file that :func:`open_text` opened has been read, in bytes on disk."""
    return int(getattr(file.buffer, "fileobj", file.buffer).tell())


def undecodable_line(path: Path) -> int:
    """Return the number of the first line that is not UTF-8, or 0: readers decode ahead of the line."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 0


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def slug(name: str) -> str:
    """Turn a name from outside into one safe path component.

    ``/`` becomes ``--``; any other byte outside ``[A-Za-z0-9._=,+-]`` becomes ``%XX``, and so does a
    hyphen beside a hyphen or ``/`` and a dot in front, so that two names never share a path.
    """
    return re.sub(r"/|^\.|-(?=[-/])|(?<=[-/])-|[^A-Za-z0-9._=,+-]", _escape, name) or "%"


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    return "--" if char == "/" else "".join(f"%{byte:02X}" for byte in char.encode(errors="surrogatepass"))
