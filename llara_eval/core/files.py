"""Files that are complete or absent, and their checksums."""

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
from llara_eval.core.paths import real_path
from llara_eval.core.reading import open_regular, read_whole

HOST = hashlib.sha256(os.uname().nodename.encode()).hexdigest()[:8]
"""A hash of this machine's name, which is part of the names of drafts."""

_DAY = 86_400.0
"""Seconds of a day; the clocks of two machines differ by less."""

_LONGEST = 160
"""The most characters of a slug; file systems allow 255 bytes, and names of drafts are longer than slugs."""

WAYS_OUT: Mapping[int | None, str] = MappingProxyType(
    {
        errno.ENOSPC: "Free some space",
        errno.EDQUOT: "Free some space",
        errno.EFBIG: "Allow larger files (ulimit -f)",
        errno.EROFS: "Make that folder writable",
        errno.EACCES: "Make that folder writable",
        errno.EPERM: "Make that folder writable",
        errno.EISDIR: "Name a file, not a folder",
        errno.ENOTDIR: "Move the file away that is in the place of a folder",
        errno.EEXIST: "Move the file away that is in the place of a folder",
        errno.ENAMETOOLONG: "Choose a shorter name",
    }
)
"""Number of an error that the user can mend → the advice to the user."""


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that appears under ``path`` only if the block ends without an error.

    The folder of the file is made if it is missing. A temporary file in the same folder is written,
    synchronised and renamed, and then the folder is synchronised. A process that is killed at any instant
    therefore leaves either the old content or the new content, and files appear in the order in which they
    were written, even if the power fails.

    Raises:
        LlaraEvalError: The disk is full, or the path is not writable.
    """
    path = real_path(path)  # keeps a symbolic link, and replaces its target
    if (path.exists() and not path.is_file()) or path.is_symlink():  # a link that leads to itself
        raise LlaraEvalError(f"{path} is not a file that can be replaced; name another file")
    with draft(path) as (file, draft_path):
        yield file
        file.flush()
        with explained(path, file.tell()):
            os.fsync(file.fileno())
            draft_path.replace(path)
    sync_folder(path.parent)


def create(path: Path, content: bytes) -> bool:
    """Write a file unless there is one; return whether it was written.

    Of several processes that do so at once, one succeeds; the file is complete from the first instant.

    Raises:
        LlaraEvalError: The disk is full, or the path is not writable.
    """
    with draft(path) as (file, draft_path):
        file.write(content)
        file.flush()
        with explained(path, len(content)):
            os.fsync(file.fileno())
            try:
                os.link(draft_path, path)
            except FileExistsError:
                return False
    sync_folder(path.parent)
    return True


@contextmanager
def draft(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Open a temporary file beside ``path``, and yield the file and its path.

    The file is deleted after the block unless the block renames it.

    The file is locked as long as its writer lives. The next draft of the same file removes the draft of a
    killed writer: see :func:`remove_drafts`.

    Raises:
        LlaraEvalError: The disk is full, or the path is not writable.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_drafts(path.parent, path.name)
        handle, draft_path = _locked_file(path)
    raw = _Raw(handle, path)
    try:
        yield io.BufferedWriter(raw), draft_path
    finally:
        raw.close()  # closing the buffer would write the rest of a file that was given up
        draft_path.unlink(missing_ok=True)


def remove_drafts(folder: Path, name: str | None = None) -> None:
    """Remove the drafts of one file, or of all files in a folder, whose writers were killed.

    Other machines may not see a lock (Lustre's localflock, some NFS and FUSE mounts), so a draft of another
    machine must also be a day old.
    """
    for draft_path in folder.glob(f".{'*' if name is None else glob.escape(name)}.*.tmp"):
        with suppress(OSError):
            handle = os.open(draft_path, os.O_RDONLY if draft_path.is_dir() else os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if f".{HOST}." in draft_path.name or time.time() - draft_path.stat().st_mtime > _DAY:
                    shutil.rmtree(draft_path) if draft_path.is_dir() else draft_path.unlink()
            finally:
                os.close(handle)


def _locked_file(path: Path) -> tuple[int, Path]:
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.{HOST}.", suffix=".tmp")
        with suppress(OSError):  # on a file system without locks, no draft is removed
            fcntl.flock(handle, fcntl.LOCK_EX)
        os.fchmod(handle, 0o644)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # another process removed the file before it was locked


class _Raw(io.FileIO):
    """A file that turns errors of writing into advice."""

    def __init__(self, handle: int, path: Path) -> None:
        super().__init__(handle, "wb")
        self.path = path

    def write(self, data: Any) -> int:
        """Write bytes; an error names the size that the file would have."""
        with explained(self.path, self.tell() + len(data)):
            return super().write(data)


@contextmanager
def explained(path: Path, size: int = 0) -> Iterator[None]:
    """Turn any error of a write into advice; ``size`` is the size of the file in bytes."""
    try:
        yield
    except OSError as error:
        needed = f"; it takes {size:,} bytes or more" if size else ""
        advice = WAYS_OUT.get(error.errno, "Make that folder available")
        raise LlaraEvalError(
            f"{path} cannot be written ({error.strerror or error}{needed}). {advice}, or use "
            "another folder (for caches: LLARA_EVAL_HOME), and give the same command again: finished work is "
            "kept"
        ) from error


def sync_folder(folder: Path) -> None:
    """Write a folder's entries to disk, if the file system allows it, so that they survive a power loss.

    Raises:
        LlaraEvalError: The disk fails.
    """
    with explained(folder):
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
    """Open a UTF-8 text file for :func:`atomic_write`, compressed if its name ends in ``.gz``.

    The compressed form holds no time stamp, so equal texts give equal bytes.

    Raises:
        DataError: The text has a character that UTF-8 cannot hold: half of a surrogate pair.
        LlaraEvalError: The disk is full, or the path is not writable.
    """
    with atomic_write(path) as file:
        plain = path.suffix != ".gz"
        with nullcontext(file) if plain else gzip.GzipFile("", "wb", 9, file, mtime=0) as binary:
            text = io.TextIOWrapper(binary, encoding="utf-8", newline="\n")
            try:
                yield text
                text.detach()
            except UnicodeEncodeError as error:
                lone = error.object[error.start : error.end]
                raise DataError(
                    f"{path} cannot be written as UTF-8: {lone!r} in its text is no character of Unicode, "
                    "but half of one, or a byte of a file name that is not UTF-8"
                ) from error


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file by :func:`text_writer`."""
    with text_writer(path) as file:
        file.write(text)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON with a final newline by :func:`text_writer`."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: The file is missing, is not a regular file or not JSON, or is too large for a record.
    """
    try:
        return json.loads(read_whole(path).decode())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error


def refuse_inputs(output: Path, inputs: Iterable[Path]) -> None:
    """Raise a UsageError if an output file is one of the input files."""
    if real_path(output) in map(real_path, inputs):
        raise UsageError(f"{output} would replace an input; name another file")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as hexadecimal digits.

    Raises:
        FileNotFoundError: There is no such file.
        DataError: The path is there, but is not a regular file, or cannot be read.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def slug(name: str) -> str:
    """Turn any name into one safe path component.

    ``/`` becomes ``--``. Every other byte outside ``[A-Za-z0-9._=,+-]`` becomes ``%XX``, and so do a dot in
    front and a hyphen beside a hyphen or ``/``, so that two names never share a path. A component that would
    be too long for a file system ends with ``~`` and a part of the name's hash instead.
    """
    safe = re.sub(r"/|^\.|-(?=[-/])|(?<=[-/])-|[^A-Za-z0-9._=,+-]", _escape, name) or "%"
    if len(safe) <= _LONGEST:
        return safe
    return f"{safe[: _LONGEST - 17]}~{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:16]}"


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    return "--" if char == "/" else "".join(f"%{byte:02X}" for byte in char.encode(errors="surrogatepass"))
