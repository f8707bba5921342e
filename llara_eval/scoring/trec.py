"""Runs and judgements as files.

A run has six columns (TREC: ``query_id Q0 doc_id rank score tag``) or three (MS MARCO: ``query_id doc_id
rank``). Judgements have four columns (TREC and MS MARCO: ``query_id 0 doc_id grade``) or three and a header
(BEIR). All files may be gzipped. If the first line has a tab, only tabs separate columns, so that identifiers
may contain spaces.
"""

import math
import re
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llara_eval.core.errors import DataError
from llara_eval.core.files import text_writer
from llara_eval.core.lines import open_bytes, text_lines
from llara_eval.core.types import Hits, Run
from llara_eval.scoring.ranking import rank

_RUN_COLUMNS = {6: (0, 2, 4), 3: (0, 1, 2)}
"""Number of columns of a run → the columns of query id, document id, and score (of three columns: rank)."""

_BLOCK = 1 << 23
"""Bytes that are parsed at once; parsing takes several times as much memory."""

_TOO_LARGE = 2.0**128 - 2.0**103
"""The smallest number that rounds to infinity in float32."""


def write_run(path: Path, run: Run, tag: str) -> None:
    """Write a run as a tab-separated TREC file of six columns, with ranks from 1.

    The file is compressed without a time stamp if its name ends in ``.gz``. White space in the tag becomes
    ``_``.
    """
    tag = "_".join(tag.split()) or "run"
    with text_writer(path) as file:
        for query_id, doc_ids, scores in run:
            for position, (doc_id, score) in enumerate(zip(doc_ids, scores.astype(str), strict=True), 1):
                file.write(f"{query_id}\tQ0\t{doc_id}\t{position}\t{score}\t{tag}\n")


def read_run(path: Path, *, depth: int | None = None) -> Run:
    """Read a TREC or MS MARCO run file and rank it canonically.

    The rank column of a TREC run is ignored, as in trec_eval: scores decide. An MS MARCO run has only ranks,
    and a smaller rank becomes a higher score. The queries stay in the order in which the file first names
    them, and each keeps at most ``depth`` documents (None: all).

    Raises:
        DataError: The file is missing or empty, or a line, which the message names, is malformed.
    """
    columns, separator = _sniff(path)
    if columns not in _RUN_COLUMNS:
        raise DataError.at(path, 1, f"{columns} columns; a run has 6 (TREC) or 3 (MS MARCO)")
    hits = _hits_by_column(path, columns, separator) or Hits.of_rows(_run_rows(path, columns, separator))
    try:
        return rank(hits, depth=len(hits.score) if depth is None else depth)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _hits_by_column(path: Path, columns: int, separator: str | None) -> Hits | None:
    """Read a run all of whose lines are plain; return None for a run that must be read line by line."""
    import pyarrow as pa
    from pyarrow import csv

    names = [f"column {number}" for number in range(columns)]
    query, doc, value = (names[column] for column in _RUN_COLUMNS[columns])
    parsing = csv.ParseOptions(delimiter=separator or " ", quote_char=False)
    types = {query: pa.dictionary(pa.int32(), pa.string()), doc: pa.string(), value: pa.float64()}
    conversion = csv.ConvertOptions(column_types=types, include_columns=list(types))
    try:
        table = pa.concat_tables(
            csv.read_csv(pa.py_buffer(block), csv.ReadOptions(column_names=names), parsing, conversion)
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
    pa.default_memory_pool().release_unused()  # otherwise the parser keeps a third of all memory
    return hits


def _are_ranks(values: NDArray[np.float64]) -> bool:
    """Return whether numbers can be ranks; scores taken for ranks would reverse every ranking."""
    return bool(((values >= 0) & (values % 1 == 0)).all())


def _plain_blocks(path: Path, separator: str | None) -> Iterator[bytes]:
    """Yield a file in blocks of whole lines, as long as the lines can be read in only one way.

    In such lines no cell is empty and there are no control characters. If any white space separates columns,
    one space separates each pair of columns, and all characters are ASCII. A block begins with an empty line,
    so that the parser does not take a byte-order mark inside the file for one at the beginning.

    Raises:
        ValueError: A line can be read in more than one way.
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
                raise ValueError("a line can be read in more than one way")
            yield block


def _run_rows(path: Path, columns: int, separator: str | None) -> Iterator[tuple[str, str, float]]:
    """Yield (query_id, doc_id, score) of each line.

    Raises:
        DataError: A line is malformed.
    """
    query_column, doc_column, value_column = _RUN_COLUMNS[columns]
    for number, cells in _rows(path, columns, separator):
        cell = cells[value_column]
        value = _as_number(cell)
        if not abs(value) < _TOO_LARGE:
            raise DataError.at(path, number, f"{cell!r} is not a finite (float32) number")
        if columns == 3 and not _are_ranks(np.array([value])):
            raise DataError.at(
                path, number, f"{cell!r} is not a rank; a run with scores has six columns (TREC)"
            )
        if not cells[query_column] or not cells[doc_column]:
            raise DataError.at(path, number, "an identifier is empty")
        yield cells[query_column], cells[doc_column], value if columns == 6 else -value


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Read judgements: TREC, MS MARCO or BEIR, which the number of columns tells apart.

    Raises:
        DataError: The file is missing or empty, a line is malformed, or one pair has two grades.
    """
    columns, separator = _sniff(path)
    if columns not in (3, 4):
        raise DataError.at(path, 1, f"{columns} columns; judgements have 4 (TREC) or 3 (BEIR)")
    return collect_qrels(path, _judgements(path, columns, separator))


def _judgements(path: Path, columns: int, separator: str | None) -> Iterator[tuple[int, str, str, int]]:
    for index, (number, cells) in enumerate(_rows(path, columns, separator)):
        query_id, doc_id, grade = cells[0], cells[-2], cells[-1].strip()
        if index == 0 and columns == 3 and math.isnan(_as_number(grade)):
            continue  # BEIR's header
        if not re.fullmatch("-?[0-9]+", grade):
            raise DataError.at(path, number, f"the grade {grade!r} is not an integer")
        if not query_id or not doc_id:
            raise DataError.at(path, number, "an identifier is empty")
        yield number, query_id, doc_id, int(grade)


def collect_qrels(
    origin: Path | str, judgements: Iterable[tuple[int, str, str, int]]
) -> dict[str, dict[str, int]]:
    """Collect judgements (line number, query_id, doc_id, grade) as query_id → doc_id → grade.

    Raises:
        DataError: One pair has two grades, or there are no judgements.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, query_id, doc_id, grade in judgements:
        earlier = qrels.setdefault(query_id, {}).setdefault(doc_id, grade)
        if earlier != grade:
            pair = f"query {query_id!r} document {doc_id!r}"
            raise DataError.at(origin, number, f"{pair} is graded {earlier} and {grade}")
    if not qrels:
        raise DataError(f"{origin}: no judgements")
    return qrels


def _as_number(text: str) -> float:
    """Return the number in a cell; NaN if the cell holds no number."""
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
        problem = "not a regular file; write the text to one" if path.exists() else "no such file"
        raise DataError(f"{path}: {problem}")
    for _, line in text_lines(path):
        if not line.strip():
            continue
        separator = "\t" if "\t" in line else None
        return len(line.split(separator)), separator
    raise DataError(f"{path}: the file is empty")
