"""Files that are whole or absent, and their checksums."""

import errno
import fcntl
import glob
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, TextIO

from llara_eval.core.errors import DataError, LlaraEvalError, UsageError

HERE = hashlib.sha256(os.uname().nodename.encode()).hexdigest()[:8]
_DAY = 86_400.0  # no clocks of two machines are that far apart

_LONGEST = 160
"""Characters of a path component made from a name; file systems allow 255 bytes, and drafts need some."""

WAYS_OUT: Mapping[int | None, str] = MappingProxyType(
    {
        errno.ENOSPC: "Make room there",
        errno.EDQUOT: "Make room there",
        errno.EFBIG: "Allow larger files (ulimit -f)",
        errno.EROFS: "Make that folder writable",
        errno.EACCES: "Make that folder writable",
        errno.EPERM: "Make that folder writable",
        errno.EISDIR: "Name a file that is no folder",
        errno.ENOTDIR: "A file stands where a folder should be: move it away",
        errno.EEXIST: "A file stands where a folder should be: move it away",
        errno.ENAMETOOLONG: "Give it a shorter name",
    }
)
"""Errors of a file system that the user can mend → what to do."""


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that appears under ``path`` only when the block ends without an error.

    Temporary file in the same folder, fsync, rename, fsync of the folder: a process killed at any instant
    leaves either the old content or the new one, and files appear in the order in which they were written
    even if the power fails.

    Args:
        path: Where the file shall appear; its folder is made.

    Yields:
        The temporary file, open for writing.

    Raises:
        LlaraEvalError: The disk is full, or the file may not be written there.
    """
    path = path.resolve()  # so that a symbolic link is kept and its target replaced
    if path.exists() and not path.is_file():
        raise LlaraEvalError(f"{path} is not a file that can be replaced: name another")
    with draft(path) as (file, draft_path):
        yield file
        file.flush()
        with explained(path, file.tell()):
            os.fsync(file.fileno())
            draft_path.replace(path)
    sync_folder(path.parent)


@contextmanager
def draft(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Open a temporary file beside ``path`` that is gone after the block, unless the block renamed it.

    The file is locked as long as its writer lives. The draft of a killed writer is removed when the next
    draft of the same file is made: see :func:`remove_drafts`.

    Yields:
        The file, open for writing, and its path.

    Raises:
        LlaraEvalError: The disk is full, or the file may not be written there.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_drafts(path.parent, path.name)
        handle, draft_path = _locked_file(path)
    raw = _Raw(handle, path)
    try:
        yield io.BufferedWriter(raw), draft_path
    finally:
        raw.close()  # not the buffer: closing that would write the rest of a file that is given up
        draft_path.unlink(missing_ok=True)


def remove_drafts(folder: Path, name: str | None = None) -> None:
    """Remove the drafts, of one file or of all in a folder, whose writers were killed.

    A lock may be seen on its own machine only (Lustre's localflock, some NFS and FUSE mounts), so a draft
    that another one made has to be a day old as well.
    """
    for draft_path in folder.glob(f".{'*' if name is None else glob.escape(name)}.*.tmp"):
        with suppress(OSError):
            handle = os.open(draft_path, os.O_RDONLY if draft_path.is_dir() else os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if f".{HERE}." in draft_path.name or time.time() - draft_path.stat().st_mtime > _DAY:
                    shutil.rmtree(draft_path) if draft_path.is_dir() else draft_path.unlink()
            finally:
                os.close(handle)


def _locked_file(path: Path) -> tuple[int, Path]:
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.{HERE}.", suffix=".tmp")
        with suppress(OSError):  # a file system without locks: nothing is removed there either
            fcntl.flock(handle, fcntl.LOCK_EX)
        os.fchmod(handle, 0o644)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # removed by another before it was locked


class _Raw(io.FileIO):
    """A file whose errors of writing are explained to the user."""

    def __init__(self, handle: int, path: Path) -> None:
        super().__init__(handle, "wb")
        self.path = path

    def write(self, data: Any) -> int:
        """Write bytes; an error names the size that the file would have had."""
        with explained(self.path, self.tell() + len(data)):
            return super().write(data)


@contextmanager
def explained(path: Path, size: int = 0) -> Iterator[None]:
    """Turn the error of a full or read-only disk into advice; ``size`` is the size of the file in bytes."""
    try:
        yield
    except OSError as error:
        if error.errno not in WAYS_OUT:
            raise
        needed = f"; it takes {size:,} bytes or more" if size else ""
        raise LlaraEvalError(
            f"{path} cannot be written ({error.strerror}{needed}). {WAYS_OUT[error.errno]}, or use "
            "another place (for caches: LLARA_EVAL_HOME), and give the same command again: what is finished "
            "is kept"
        ) from error


def sync_folder(folder: Path) -> None:
    """Write a folder's entries to disk, where its file system can, so that they survive a power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):
            raise
    finally:
        os.close(handle)


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


def read_json(path: Path) -> Any:
    """Read a file of JSON.

    Raises:
        DataError: The file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error


def refuse_inputs(output: Path, inputs: Iterable[Path]) -> None:
    """Raise a UsageError if an output file is one of the input files."""
    if output.resolve() in {path.resolve() for path in inputs}:
        raise UsageError(f"{output} would replace what is read; name another file")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def slug(name: str) -> str:
    """Turn a name from outside into one safe path component.

    ``/`` becomes ``--``; any other byte outside ``[A-Za-z0-9._=,+-]`` becomes ``%XX``, and so does a
    hyphen beside a hyphen or ``/`` and a dot in front, so that two names never share a path. One
    that would be too long for a file system ends with ``~`` and a part of its hash instead.
    """
    safe = re.sub(r"/|^\.|-(?=[-/])|(?<=[-/])-|[^A-Za-z0-9._=,+-]", _escape, name) or "%"
    if len(safe) <= _LONGEST:
        return safe
    return f"{safe[: _LONGEST - 17]}~{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:16]}"


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    return "--" if char == "/" else "".join(f"%{byte:02X}" for byte in char.encode(errors="surrogatepass"))
