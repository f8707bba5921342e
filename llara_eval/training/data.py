"""Rows of JSONL files read on demand: training data may be larger than memory."""

import gzip
import hashlib
import io
import json
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from llara_eval.core.errors import DataError
from llara_eval.core.files import CHUNK, atomic_write, sha256_of
from llara_eval.core.protocols import SILENT, Advance, Progress

Check = Callable[[Mapping[str, Any]], str | None]
"""Says in words what is wrong with a row, or None."""

_MARK = b"\xef\xbb\xbf"


class Rows(Sequence[dict[str, Any]]):
    """The rows of one or more files, checked once and then read by place.

    Args:
        paths: ``.jsonl`` or ``.jsonl.gz`` files.
        check: Says what is wrong with a row.
        cache: Where the places of rows, and what was compressed, are kept.
        progress: Where to show how far the first reading is.
        sources: The files these were made from, if they were.

    Attributes:
        fingerprint: SHA-256 over the checksums of the files.
        sources: SHA-256 → name of each source.

    Raises:
        DataError: A row is malformed (with file and line), or there is none.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        check: Check,
        *,
        cache: Path,
        progress: Progress = SILENT,
        sources: Sequence[Path] = (),
    ) -> None:
        self._names = [str(path) for path in paths]
        digests = [sha256_of(path) for path in paths]
        self.fingerprint = hashlib.sha256("".join(digests).encode()).hexdigest()
        self.sources = {sha256_of(path): path.name for path in sources or paths}
        self._files, places = [], []
        for number, (path, digest) in enumerate(zip(paths, digests, strict=True)):
            plain = _unpacked(path, digest, cache)
            offsets, lines = _index(path, plain, digest, check, cache, progress)
            self._files.append(plain)
            places.append(np.stack([np.full(len(offsets), number), offsets, lines]))
        self._places: NDArray[np.int64] = np.concatenate(places, axis=1)

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self._places.shape[1])

    def __getitem__(self, row: Any) -> Any:
        """Return one row."""
        number, offset, _ = self._places[:, row]
        file = self._open[number]
        file.seek(offset)
        return json.loads(file.readline())

    def place(self, row: int) -> str:
        """Return file and line of a row."""
        number, _, line = self._places[:, row]
        return f"{self._names[number]}:{line}"

    def split(self, last: int) -> "tuple[Rows, Rows]":
        """Return all rows but the last ones, and the last ones.

        Raises:
            DataError: There would be none left.
        """
        if last >= len(self):
            raise DataError(f"{', '.join(self.sources.values())}: {len(self)} rows, {last} to be held out")
        parts = []
        for chosen in (slice(0, len(self) - last), slice(len(self) - last, None)):
            part = object.__new__(Rows)
            part.__dict__.update(self.__dict__, _places=self._places[:, chosen])
            parts.append(part)
        return parts[0], parts[1]

    def sample(self, count: int) -> list[dict[str, Any]]:
        """Return about ``count`` rows, evenly spread."""
        return [self[row] for row in range(0, len(self), max(1, len(self) // count))]

    @cached_property
    def _open(self) -> list[BinaryIO]:
        return [file.open("rb") for file in self._files]


def order(rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order of rows in an epoch, decided by seed and epoch alone."""
    return np.random.default_rng(np.random.SeedSequence([seed, epoch])).permutation(rows)


def _unpacked(path: Path, digest: str, cache: Path) -> Path:
    """Return the file itself, or what is compressed in it: that cannot be read at random."""
    if path.suffix != ".gz":
        return path
    plain = cache / f"{digest[:16]}.jsonl"
    if not plain.is_file():
        try:
            with gzip.open(path, "rb") as packed, atomic_write(plain) as out:
                shutil.copyfileobj(packed, out, CHUNK)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path}: cannot be decompressed: {error}") from error
    return plain


def _index(
    path: Path, plain: Path, digest: str, check: Check, cache: Path, progress: Progress
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each row begins, and its line; found once for a file and a check."""
    kept = cache / f"{digest[:16]}.{check.__module__.rsplit('.', 1)[-1]}.npy"
    if kept.is_file():
        found = np.load(kept, allow_pickle=False)
        return found[0], found[1]
    with progress.task(f"check {path.name}", plain.stat().st_size) as advance:
        pairs = list(_checked(path, plain, check, advance))
    if not pairs:
        raise DataError(f"{path}: no rows")
    found = np.array(pairs, dtype=np.int64).T
    packed = io.BytesIO()
    np.save(packed, found, allow_pickle=False)
    with atomic_write(kept) as out:
        out.write(packed.getbuffer())
    return found[0], found[1]


def _checked(path: Path, plain: Path, check: Check, advance: Advance) -> Iterator[tuple[int, int]]:
    """Yield offset and line of every row that is not blank."""
    offset = 0
    with plain.open("rb") as file:
        for number, line in enumerate(file, 1):
            mark = len(_MARK) if number == 1 and line.startswith(_MARK) else 0
            content = line[mark:].strip()
            if content:
                try:
                    row = json.loads(content)
                except UnicodeDecodeError as error:
                    raise DataError.at(path, number, f"not UTF-8: {error.reason}") from error
                except ValueError as error:
                    raise DataError.at(path, number, f"not JSON: {error}") from error
                problem = (
                    check(row) if isinstance(row, dict) else f"expected an object, found {type(row).__name__}"
                )
                if problem is not None:
                    raise DataError.at(path, number, problem)
                yield offset + mark, number
            offset += len(line)
            advance(len(line))
