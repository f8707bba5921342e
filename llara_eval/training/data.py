"""Rows of JSON Lines files, read on demand: training data may be larger than memory."""

import gzip
import hashlib
import io
import json
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llara_eval.core.errors import DataError
from llara_eval.core.files import atomic_write, sha256_of
from llara_eval.core.lines import parse_object
from llara_eval.core.protocols import SILENT, Advance, Progress


class RowFormat(NamedTuple):
    """What the rows of a file must look like.

    Attributes:
        name: Stands in the names of cached indexes. A check that becomes stricter needs another name, or
            files that were checked before are not checked again.
        problem_of: Says in words what is wrong with a row, or returns None.
    """

    name: str
    problem_of: Callable[[Mapping[str, Any]], str | None]


_MARK = b"\xef\xbb\xbf"


class Rows(Sequence[dict[str, Any]]):
    """The rows of one or more files, checked once and then read by their number.

    Args:
        paths: ``.jsonl`` or ``.jsonl.gz`` files.
        row_format: What the rows must look like.
        cache: Folder for the indexes of the files, and for decompressed files.
        progress: Where to show how far the first reading is.
        sources: The files that ``paths`` were made from, where they were made.

    Attributes:
        fingerprint: SHA-256 over the checksums of the files.
        sources: SHA-256 → name of each source.

    Raises:
        DataError: A row is malformed (with file and line), or a file has no rows.
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
            offsets, lines = _index(path, plain, digest, row_format, cache, progress)
            self._files.append(plain)
            positions.append(np.stack([np.full(len(offsets), number), offsets, lines]))
        self._positions: NDArray[np.int64] = np.concatenate(positions, axis=1)  # file, byte offset, line

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self._positions.shape[1])

    def __getitem__(self, row: Any) -> Any:
        """Return one row."""
        number, offset, _ = self._positions[:, row]
        file = self._open[number]
        file.seek(offset)
        return json.loads(file.readline())

    def place(self, row: int) -> str:
        """Return the file and the line of a row, for messages."""
        number, _, line = self._positions[:, row]
        return f"{self._names[number]}:{line}"

    def split(self, held_out: int) -> "tuple[Rows, Rows]":
        """Return all rows but the last ``held_out``, and those.

        Raises:
            DataError: No row would be left in the first part.
        """
        if held_out >= len(self):
            raise DataError(
                f"{', '.join(self.sources.values())}: {len(self)} rows, {held_out} to be held out"
            )
        halves = []
        for chosen in (slice(0, len(self) - held_out), slice(len(self) - held_out, None)):
            half = object.__new__(Rows)
            half.__dict__.update(self.__dict__, _positions=self._positions[:, chosen])
            halves.append(half)
        return halves[0], halves[1]

    def sample(self, count: int) -> list[dict[str, Any]]:
        """Return about ``count`` rows, evenly spread."""
        return [self[row] for row in range(0, len(self), max(1, len(self) // count))]

    @cached_property
    def _open(self) -> list[BinaryIO]:
        return [file.open("rb") for file in self._files]


def order(rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order of rows in an epoch, decided by seed and epoch alone."""
    return np.random.default_rng(np.random.SeedSequence([seed, epoch])).permutation(rows)


def _decompressed(path: Path, digest: str, cache: Path) -> Path:
    """Return a file that can be read at random: the file itself, or a decompressed copy in the cache."""
    if path.suffix != ".gz":
        return path
    plain = cache / f"{digest[:16]}.jsonl"
    if not plain.is_file():
        try:
            with gzip.open(path, "rb") as compressed, atomic_write(plain) as out:
                shutil.copyfileobj(compressed, out)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path}: cannot be decompressed: {error}") from error
    return plain


def _index(
    path: Path, plain: Path, digest: str, row_format: RowFormat, cache: Path, progress: Progress
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the byte offset and the line number of each row, found once for a file and a format."""
    cached = cache / f"{digest[:16]}.{row_format.name}.npy"
    if cached.is_file():
        index = np.load(cached, allow_pickle=False)
        return index[0], index[1]
    with progress.task(f"check {path.name}", plain.stat().st_size) as advance:
        pairs = list(_checked(path, plain, row_format, advance))
    if not pairs:
        raise DataError(f"{path}: no rows")
    index = np.array(pairs, dtype=np.int64).T
    buffer = io.BytesIO()
    np.save(buffer, index, allow_pickle=False)
    with atomic_write(cached) as out:
        out.write(buffer.getbuffer())
    return index[0], index[1]


def _checked(path: Path, plain: Path, row_format: RowFormat, advance: Advance) -> Iterator[tuple[int, int]]:
    """Yield byte offset and line number of every row that is not blank."""
    offset = 0
    with plain.open("rb") as file:
        for number, line in enumerate(file, 1):
            mark = len(_MARK) if number == 1 and line.startswith(_MARK) else 0
            content = line[mark:].strip()
            if content:
                try:
                    text = content.decode()
                except UnicodeDecodeError as error:
                    raise DataError.at(path, number, f"not UTF-8 ({error.reason})") from error
                problem = row_format.problem_of(parse_object(path, number, text))
                if problem is not None:
                    raise DataError.at(path, number, problem)
                yield offset + mark, number
            offset += len(line)
            advance(len(line))
