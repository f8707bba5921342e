"""Rows of files: JSON Lines, gzipped or not, and Parquet; every error names the file and the row."""

import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from llara_eval.core.errors import DataError
from llara_eval.core.lines import objects, open_bytes
from llara_eval.core.reading import is_present, open_regular

ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")
"""Endings of the files that :func:`rows` reads."""

_BATCH = 1_000
"""Rows of a Parquet file that are in memory at once."""

_POINTER = b"version https://git-lfs"
"""The first bytes of the small file that Git leaves in place of a large one."""


def is_table(path: Path) -> bool:
    """Return whether the name of a file says that :func:`rows` reads it."""
    return path.name.endswith(ENDINGS)


def rows(
    path: Path, columns: Collection[str] | None = None, advance: Callable[[int], object] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (number from 1, fields) of each row; of JSON Lines, the number is that of the line.

    Args:
        path: A file that ends in ``.parquet``, or a file of JSON Lines.
        columns: The columns of a Parquet file that are read, if it has them; None reads all.
        advance: Called with the number of bytes that were read since the last call.

    Raises:
        DataError: The file cannot be read, or a line is not a JSON object.
    """
    if is_present(path):
        with open_regular(path) as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise DataError(
                    f"{path}: this is a pointer of Git LFS, not the file; run git lfs pull in its repository"
                )
    if path.suffix == ".parquet":
        yield from _parquet_rows(path, columns, advance)
    else:
        yield from objects(path, advance)


def _parquet_rows(
    path: Path, columns: Collection[str] | None, advance: Callable[[int], object] | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            share = path.stat().st_size / max(1, file.metadata.num_rows)
            names = file.schema_arrow.names
            kept = names if columns is None else [name for name in names if name in columns]
            for batch in file.iter_batches(_BATCH, columns=kept):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
                if advance is not None:
                    advance(round(share * number) - round(share * (number - len(batch))))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError.at(path, number + 1, f"cannot be read further ({error}); is it complete?") from error


def open_json(path: Path) -> bytes:
    """Return the content of a file of JSON, gzipped if its name ends in ``.gz``.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with open_bytes(path) as (content, _):
            return content.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
