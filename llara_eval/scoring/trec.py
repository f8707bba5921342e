"""Runs and judgements as files.

Runs: six-column TREC (``query_id Q0 doc_id rank score tag``) and three-column MS MARCO
(``query_id doc_id rank``). Judgements: four-column TREC and MS MARCO (``query_id 0 doc_id grade``)
and BEIR's three columns with a header. All may be gzipped. Where the first line holds a tab, tabs
alone separate columns, so that identifiers may contain spaces.
"""

import math
import zlib
from array import array
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llara_eval.core.errors import DataError
from llara_eval.core.files import text_writer
from llara_eval.core.lines import open_bytes, text_lines
from llara_eval.core.types import Hits, Run, as_ids
from llara_eval.scoring.ranking import rank

_RUN_COLUMNS = {6: (0, 2, 4), 3: (0, 1, 2)}
"""Columns of a run → where its query id, document id and score (3 columns: rank) stand."""

_BLOCK = 1 << 23
"""Bytes that are parsed at once; several times as many are held meanwhile."""

_TOO_LARGE = 2.0**128 - 2.0**103
"""From here on, a number rounds to infinity in float32."""


def write_run(path: Path, run: Run, tag: str) -> None:
    """Write a run as tab-separated six-column TREC, ranks from 1.

    Args:
        path: The file; a name ending in ``.gz`` is compressed, without a time stamp.
        run: The ranking.
        tag: The last column; white space in it becomes ``_``.
    """
    tag = "_".join(tag.split()) or "run"
    with text_writer(path) as file:
        for query_id, doc_ids, scores in run:
            for number, (doc_id, score) in enumerate(zip(doc_ids, scores.astype(str), strict=True), 1):
                file.write(f"{query_id}\tQ0\t{doc_id}\t{number}\t{score}\t{tag}\n")


def read_run(path: Path, *, depth: int | None = None) -> Run:
    """Read a TREC or MS MARCO run file and rank it canonically.

    The rank column of a TREC run is ignored, as trec_eval does: scores decide. An MS MARCO run has
    only ranks; a better rank is a higher score there.

    Args:
        path: The file, gzipped if its name ends in ``.gz``.
        depth: Keep at most so many documents a query; None keeps all.

    Returns:
        The run; its queries stand in the order in which the file first names them.

    Raises:
        DataError: The file is missing, empty, or a line is malformed (named by its number).
    """
    columns, separator = _sniff(path)
    if columns not in _RUN_COLUMNS:
        raise DataError.at(path, 1, f"{columns} columns; a run has 6 (TREC) or 3 (MS MARCO)")
    hits = _hits_by_column(path, columns, separator) or _hits_by_line(path, columns, separator)
    try:
        return rank(hits, depth=len(hits.score) if depth is None else depth)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _hits_by_column(path: Path, columns: int, separator: str | None) -> Hits | None:
    """Read a run whose every line is plain; None where one is not, for :func:`_hits_by_line` to judge."""
    import pyarrow as pa
    from pyarrow import csv

    names = [f"column {number}" for number in range(columns)]
    query, doc, value = (names[place] for place in _RUN_COLUMNS[columns])
    form = csv.ParseOptions(delimiter=separator or " ", quote_char=False)
    types = {query: pa.dictionary(pa.int32(), pa.string()), doc: pa.string(), value: pa.float64()}
    wanted = csv.ConvertOptions(column_types=types, include_columns=list(types))
    try:
        table = pa.concat_tables(
            csv.read_csv(pa.py_buffer(block), csv.ReadOptions(column_names=names), form, wanted)
            for block in _plain_blocks(path, separator)
        )
    except (ValueError, EOFError, OSError, zlib.error):
        return None
    values = table[value].to_numpy()
    if not (np.abs(values) < _TOO_LARGE).all() or (columns == 3 and not _are_ranks(values)):
        return None
    queries = table[query].combine_chunks()
    hits = Hits(
        query_ids=queries.dictionary.to_numpy(zero_copy_only=False),
        doc_ids=table[doc].to_numpy(),
        query=queries.indices.to_numpy().astype(np.int64),
        doc=np.arange(len(values)),
        score=(values if columns == 6 else -values).astype(np.float32),
    )
    del table, queries
    pa.default_memory_pool().release_unused()  # else a third of all memory stays with the parser
    return hits


def _are_ranks(values: NDArray[np.float64]) -> bool:
    """Whether numbers can be places in a ranking: scores in their stead would be read upside down."""
    return bool(((values >= 0) & (values % 1 == 0)).all())


def _plain_blocks(path: Path, separator: str | None) -> Iterator[bytes]:
    """Yield a file in blocks of whole lines, as long as there is only one way to read them.

    No cell is empty, there are no control characters, and where any white space separates columns it is one
    space each time and all characters are ASCII. A block begins with an empty line, so that no reader takes
    a byte-order mark inside the file for one at its beginning.

    Raises:
        ValueError: The file is not like that.
    """
    with open_bytes(path) as (lines, _):
        lines.seek(len(BOM_UTF8) if lines.read(len(BOM_UTF8)) == BOM_UTF8 else 0)
        while block := lines.read(_BLOCK) + lines.readline():
            block = block.replace(b"\r\n", b"\n") if b"\r" in block else block
            block = b"\n" + block.strip(b"\n") + b"\n"
            block.decode("utf-8" if separator else "ascii")
            text = np.frombuffer(block, dtype=np.uint8)
            ends = (text == ord(separator or " ")) | (text == ord("\n"))
            white = text < ord(" ") if separator else text <= ord(" ")
            if np.count_nonzero(white) > np.count_nonzero(ends) or (ends[1:] & ends[:-1]).any():
                raise ValueError("only a careful reader can tell what this is")
            yield block


def _hits_by_line(path: Path, columns: int, separator: str | None) -> Hits:
    """Read a run line by line, whatever it looks like.

    Raises:
        DataError: A line is malformed.
    """
    query_at, doc_at, value_at = _RUN_COLUMNS[columns]
    query_rows: dict[str, int] = {}
    doc_rows: dict[str, int] = {}
    query, doc, values = array("q"), array("q"), array("d")
    for number, cells in _rows(path, columns, separator):
        value = _as_number(cells[value_at])
        if not abs(value) < _TOO_LARGE:
            raise DataError.at(path, number, f"{cells[value_at]!r} is not a finite (float32) number")
        if columns == 3 and not _are_ranks(np.array([value])):
            raise DataError.at(
                path, number, f"{cells[value_at]!r} is not a rank; a run with scores has six columns (TREC)"
            )
        if not cells[query_at] or not cells[doc_at]:
            raise DataError.at(path, number, "an identifier is empty")
        query.append(query_rows.setdefault(cells[query_at], len(query_rows)))
        doc.append(doc_rows.setdefault(cells[doc_at], len(doc_rows)))
        values.append(value if columns == 6 else -value)
    return Hits(
        query_ids=as_ids(query_rows),
        doc_ids=as_ids(doc_rows),
        query=np.array(query, dtype=np.int64),
        doc=np.array(doc, dtype=np.int64),
        score=np.array(values, dtype=np.float32),
    )


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Read judgements: TREC, MS MARCO or BEIR, told apart by the number of columns.

    Raises:
        DataError: The file is missing or empty, a line is malformed, or one pair has two grades.
    """
    columns, separator = _sniff(path)
    if columns not in (3, 4):
        raise DataError.at(path, 1, f"{columns} columns; judgements have 4 (TREC) or 3 (BEIR)")
    qrels: dict[str, dict[str, int]] = {}
    for place, (number, cells) in enumerate(_rows(path, columns, separator)):
        query_id, doc_id, grade = cells[0], cells[-2], cells[-1].strip()
        if place == 0 and columns == 3 and math.isnan(_as_number(grade)):
            continue  # BEIR's header
        if not _is_integer(grade):
            raise DataError.at(path, number, f"the grade {grade!r} is not an integer")
        if not query_id or not doc_id:
            raise DataError.at(path, number, "an identifier is empty")
        known = qrels.setdefault(query_id, {}).setdefault(doc_id, int(grade))
        if known != int(grade):
            raise DataError.at(
                path, number, f"query {query_id!r} document {doc_id!r} is graded {known} and {grade}"
            )
    if not qrels:
        raise DataError(f"{path}: no judgements")
    return qrels


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()


def _as_number(text: str) -> float:
    """Return the number that a cell holds, NaN if it holds none."""
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def _rows(path: Path, columns: int, separator: str | None) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number from 1, cells) of the non-blank lines, each with as many cells as ``columns``."""
    for number, line in text_lines(path):
        if not line.strip():
            continue
        cells = line.split(separator)
        if len(cells) != columns:
            raise DataError.at(path, number, f"{len(cells)} columns, expected {columns}")
        yield number, cells


def _sniff(path: Path) -> tuple[int, str | None]:
    """Return the number of columns of the first line and the separator (None: any white space)."""
    if not path.is_file():
        what = "not a file that can be read twice: write it to one" if path.exists() else "no such file"
        raise DataError(f"{path}: {what}")
    for _, line in text_lines(path):
        if not line.strip():
            continue
        separator = "\t" if "\t" in line else None
        return len(line.split(separator)), separator
    raise DataError(f"{path}: the file is empty")
