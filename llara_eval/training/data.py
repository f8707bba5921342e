"""Rows of JSON Lines files that are read on demand, since training data may be larger than memory."""

import gzip
import hashlib
import json
import shutil
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llara_eval.core.decode import decode
from llara_eval.core.errors import DataError
from llara_eval.core.files import sha256_of
from llara_eval.core.lines import parse_object
from llara_eval.core.protocols import SILENT, Advance, Progress
from llara_eval.core.reading import largest, too_large
from llara_eval.core.sealed import Writable, cached_file

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class RowFormat(NamedTuple):
    """The format of the rows of a file.

    Attributes:
        name: Part of the names of cached indexes. A record type that becomes stricter needs another name:
            files with a cached index are not checked again.
        record_type: The type that each row must decode to, see :func:`llara_eval.core.decode.decode`.
    """

    name: str
    record_type: type[Any]


class Rows(Sequence[dict[str, Any]]):
    """The rows of one or more files, checked once and then read by number.

    Args:
        paths: ``.jsonl`` or ``.jsonl.gz`` files.
        row_format: The format of the rows.
        cache: Folder for the indexes of the files, and for decompressed files.
        progress: The display of the check's progress.
        sources: The files that ``paths`` were made from, if they were.

    Attributes:
        fingerprint: SHA-256 over the checksums of the files.
        sources: SHA-256 → name of each source.

    Raises:
        DataError: A row is malformed (the message names file and line), or a file has no rows.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        row_format: RowFormat,
        *,
        cache: Path,
        progress: Progress = SILENT,
        sources: Sequence[Path] = (),
    ) -> None:
        self._names = [str(path) for path in paths]
        digests = [sha256_of(path) for path in paths]
        self.fingerprint = hashlib.sha256("".join(digests).encode()).hexdigest()
        self.sources = {sha256_of(path): path.name for path in sources or paths}
        self._files, positions = [], []
        for number, (path, digest) in enumerate(zip(paths, digests, strict=True)):
            plain = _decompressed(path, digest, cache)
            index = _index(path, plain, digest, row_format, cache, progress)
            self._files.append(plain)
            positions.append(np.insert(index, 0, number, axis=0))
        self._positions: NDArray[np.int64] = np.concatenate(positions, axis=1)  # file, byte offset, line

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self._positions.shape[1])

    def __getitem__(self, row: Any) -> Any:
        """Return one row."""
        number, offset, _ = self._positions[:, row]
        file = self._open_files[number]
        file.seek(offset)
        return json.loads(file.readline())

    def location(self, row: int) -> str:
        """Return ``file:line`` of a row, for messages."""
        number, _, line = self._positions[:, row]
        return f"{self._names[number]}:{line}"

    def split(self, held_out: int) -> "tuple[Rows, Rows]":
        """Return all rows but the last ``held_out``, and the last ``held_out`` rows.

        Raises:
            DataError: No row would be left in the first part.
        """
        first = len(self) - held_out
        if first <= 0:
            raise DataError(
                f"{', '.join(self.sources.values())}: {len(self)} rows, {held_out} to be held out"
            )
        trained, kept = copy(self), copy(self)
        for part in (trained, kept):
            part.__dict__.pop("_open_files", None)  # each part opens and closes its own files
        trained._positions, kept._positions = np.split(self._positions, [first], axis=1)
        return trained, kept

    def sample(self, count: int) -> list[dict[str, Any]]:
        """Return about ``count`` rows, evenly spread."""
        return [self[row] for row in range(0, len(self), max(1, len(self) // count))]

    @cached_property
    def _open_files(self) -> list[BinaryIO]:
        files: list[BinaryIO] = [path.open("rb") for path in self._files]
        for file in files:
            weakref.finalize(self, file.close)
        return files


def write_rows(file: Writable, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON Lines."""
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def order(rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order of rows in an epoch, which depends on seed and epoch alone."""
    return np.random.default_rng(np.random.SeedSequence([seed, epoch])).permutation(rows)


def _decompressed(path: Path, digest: str, cache: Path) -> Path:
    """Return a file that can be read at any offset: the file itself, or a decompressed copy in the cache."""
    if path.suffix != ".gz":
        return path

    def decompress(plain: Writable) -> None:
        try:
            with gzip.open(path, "rb") as compressed:
                shutil.copyfileobj(compressed, plain)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path}: cannot be decompressed: {error}") from error

    return cached_file(cache / f"{digest[:16]}.jsonl", decompress)


def _index(
    path: Path, plain: Path, digest: str, row_format: RowFormat, cache: Path, progress: Progress
) -> NDArray[np.int64]:
    """Return byte offset and line number (2, n) of the rows, cached for the file's content and the format."""

    def check(index: Writable) -> None:
        with progress.task(f"check {path.name}", plain.stat().st_size) as advance:
            positions = list(_checked(path, plain, row_format, advance))
        if not positions:
            raise DataError(f"{path}: no rows")
        np.save(index, np.array(positions, dtype=np.int64).T, allow_pickle=False)

    cached = cached_file(cache / f"{digest[:16]}.{row_format.name}.npy", check)
    return np.load(cached, allow_pickle=False)  # type: ignore[no-any-return]


def _checked(path: Path, plain: Path, row_format: RowFormat, advance: Advance) -> Iterator[tuple[int, int]]:
    """Yield byte offset and line number of every row that is not blank."""
    offset = 0
    with plain.open("rb") as file:
        limit = largest()
        for number, line in enumerate(iter(partial(file.readline, limit + 1), b""), 1):
            if len(line) > limit:
                raise DataError.at(path, number, too_large("a line"))
            mark = len(_BYTE_ORDER_MARK) if number == 1 and line.startswith(_BYTE_ORDER_MARK) else 0
            content = line[mark:].strip()
            if content:
                try:
                    text = content.decode()
                except UnicodeDecodeError as error:
                    raise DataError.at(path, number, f"not UTF-8 ({error.reason})") from error
                decode(parse_object(path, number, text), row_format.record_type, f"{path}:{number}")
                yield offset + mark, number
            offset += len(line)
            advance(len(line))
