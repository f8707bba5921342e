"""Runs as files.

A run has six columns (TREC: ``query_id Q0 doc_id rank score tag``), four (``query_id doc_id rank score``) or
three (MS MARCO: ``query_id doc_id rank``); or it is a JSON object, query → document → score, or rows of JSON
Lines or Parquet with named columns. All but Parquet may be gzipped. How lines are divided into cells, and
which lines are comments, is in :mod:`llara_eval.scoring.cells`.
"""

import zlib
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from llara_eval.core.errors import DataError
from llara_eval.core.files import text_writer
from llara_eval.core.lines import open_bytes
from llara_eval.core.reading import largest
from llara_eval.core.tables import is_table, rows
from llara_eval.core.types import Hits, Run
from llara_eval.scoring import cells, columns
from llara_eval.scoring.cells import Form
from llara_eval.scoring.ranking import rank

_RUN_COLUMNS = {6: (0, 2, 4), 4: (0, 1, 3), 3: (0, 1, 2)}
"""Number of columns of a run → the columns of query id, document id, and score (of three columns: rank)."""

_BY_RANK = 3
"""The number of columns of a run without scores."""

_BLOCK = 1 << 23
"""Bytes that are parsed at once; parsing takes several times as much memory."""


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
    """Read a run file and rank it canonically.

    Where there are scores, they decide and ranks are ignored, as in trec_eval. An MS MARCO run has only
    ranks, and a smaller rank becomes a higher score; gaps between ranks are closed (see
    :mod:`llara_eval.scoring.written`). The queries stay in the order in which the file first names them, and
    each keeps at most ``depth`` documents (None: all).

    Raises:
        DataError: The file is missing or empty, or a line, which the message names, is malformed.
    """
    return rank_hits(path, read_hits(path), depth=depth)


def rank_hits(path: Path, hits: Hits, *, depth: int | None = None) -> Run:
    """Rank the hits of a file canonically; see :func:`read_run`."""
    try:
        return rank(hits, depth=len(hits.score) if depth is None else depth)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def has_ranks_alone(path: Path) -> bool:
    """Return whether a run file has ranks but no scores, as MS MARCO's have."""
    return not is_table(path) and not columns.is_json(path) and _form(path).columns == _BY_RANK


def read_hits(path: Path) -> Hits:
    """Read the hits of a run file, in the order of the file; without scores, the score is minus the rank.

    Raises:
        DataError: The file is missing or empty, or a line, which the message names, is malformed.
    """
    if is_table(path):
        names = {*columns.QUERY_COLUMNS, *columns.DOCUMENT_COLUMNS, *columns.SCORE_COLUMNS}
        return checked_hits(path, columns.cells_of_rows(path, rows(path, names), columns.SCORE_COLUMNS))
    if columns.is_json(path):
        run = columns.read_json(path)
        return checked_hits(path, columns.cells_of_table(path, run, columns.SCORE_COLUMNS), run)
    form = _form(path)
    return _hits_by_column(path, form) or Hits.of_rows(_run_rows(path, form))


def checked_hits(origin: Path | str, hits: Iterable[columns.Cells], query_ids: Iterable[object] = ()) -> Hits:
    """Check and collect hits whose scores are numbers, not text.

    Args:
        origin: The name of the source in messages.
        hits: The cells of each hit.
        query_ids: Queries that come first in the order of the run; they may have no hits.

    Raises:
        DataError: An identifier is empty, or a score is not a number.
    """
    return Hits.of_rows(
        [
            (
                columns.identifier(origin, number, query_id),
                columns.identifier(origin, number, doc_id),
                columns.score(origin, number, value),
            )
            for number, query_id, doc_id, value in hits
        ],
        (columns.identifier(origin, number, query_id) for number, query_id in enumerate(query_ids, 1)),
    )


def _form(path: Path) -> Form:
    """Return the form of a run's lines.

    Raises:
        DataError: The file is missing or empty, or has another number of columns than a run.
    """

    def is_of_run(line: list[str]) -> bool:
        is_judgement = len(line) == 4 and (line[1] in ("0", "Q0") or not line[2].isdecimal())
        return (
            len(line) in _RUN_COLUMNS
            and not is_judgement
            and cells.is_number(line[_RUN_COLUMNS[len(line)][2]])
        )

    number, form, is_run = cells.sniff(path, is_of_run)
    if form.columns not in _RUN_COLUMNS or (form.columns == 4 and not is_run):
        expected = "a run has 6 (TREC), 4 (query, document, rank, score) or 3 (MS MARCO)"
        raise DataError.at(path, number, f"{form.columns} columns; {expected}")
    return form


def _hits_by_column(path: Path, form: Form) -> Hits | None:
    """Read a run all of whose lines are plain; return None for a run that must be read line by line."""
    import pyarrow as pa
    from pyarrow import csv

    names = [f"column {number}" for number in range(form.columns)]
    query, doc, value = (names[column] for column in _RUN_COLUMNS[form.columns])
    parsing = csv.ParseOptions(delimiter=form.separator or " ", quote_char=False)
    types = {query: pa.dictionary(pa.int32(), pa.string()), doc: pa.string(), value: pa.float64()}
    conversion = csv.ConvertOptions(column_types=types, include_columns=list(types))
    try:
        table = pa.concat_tables(
            csv.read_csv(pa.py_buffer(block), csv.ReadOptions(column_names=names), parsing, conversion)
            for block in _plain_blocks(path, form.separator)
        )
    except (ValueError, EOFError, OSError, zlib.error):
        return None
    values = table[value].to_numpy()
    if not (np.abs(values) < columns.TOO_LARGE).all() or (
        form.columns == _BY_RANK and not _are_ranks(values)
    ):
        return None
    queries = table[query].combine_chunks()
    hits = Hits(
        query_ids=queries.dictionary.to_numpy(zero_copy_only=False),
        doc_ids=table[doc].to_numpy(),
        query=queries.indices.to_numpy().astype(np.int64),
        doc=np.arange(len(values)),
        score=(-values if form.columns == _BY_RANK else values).astype(np.float32),
    )
    del table, queries
    pa.default_memory_pool().release_unused()  # otherwise the parser keeps a third of all memory
    return hits


def _are_ranks(values: NDArray[np.float64]) -> bool:
    """Return whether numbers can be ranks; scores taken for ranks would reverse every ranking."""
    return bool(((values >= 0) & (values % 1 == 0)).all())


def _plain_blocks(path: Path, separator: str | None) -> Iterator[bytes]:
    """Yield a file in blocks of whole lines, as long as the lines can be read in only one way.

    In such lines there are no control characters, and no cell is empty, begins or ends with a space. If any
    white space separates columns, one space separates each pair of columns, and all characters are ASCII. A
    block begins with an empty line, so that the parser does not take a byte-order mark inside the file for
    one at the beginning.

    Raises:
        ValueError: A line can be read in more than one way.
    """
    with open_bytes(path) as (file, _):
        file.seek(len(BOM_UTF8) if file.read(len(BOM_UTF8)) == BOM_UTF8 else 0)
        while block := file.read(_BLOCK) + _rest_of_line(file):
            block = block.replace(b"\r\n", b"\n") if b"\r" in block else block
            block = b"\n" + block.strip(b"\n") + b"\n"
            block.decode("utf-8" if separator else "ascii")
            text = np.frombuffer(block, dtype=np.uint8)
            ends = (text == ord(separator or " ")) | (text == ord("\n"))
            white = text <= ord(" ")
            uneven = (ends[1:] & white[:-1]).any() or (white[1:] & ends[:-1]).any()
            control = ((text < ord(" ")) & ~ends).any()
            if uneven or control or b"\n#" in block or b"\n" + BOM_UTF8 in block:  # perhaps a comment
                raise ValueError("a line can be read in more than one way")
            yield block


def _rest_of_line(file: BinaryIO) -> bytes:
    """Return the bytes up to the end of a line; raise a ValueError if they are too many for a line."""
    rest = file.readline(largest())
    if len(rest) == largest() and not rest.endswith(b"\n"):
        raise ValueError("a line is too large")
    return rest


def _run_rows(path: Path, form: Form) -> Iterator[tuple[str, str, float]]:
    """Yield (query_id, doc_id, score) of each line.

    Raises:
        DataError: A line is malformed.
    """
    query_column, doc_column, value_column = _RUN_COLUMNS[form.columns]
    by_rank = form.columns == _BY_RANK
    for number, line in cells.rows(path, form):
        cell = line[value_column]
        value = cells.as_number(cell)
        if not abs(value) < columns.TOO_LARGE:
            raise DataError.at(path, number, f"{cell!r} is not a finite (float32) number")
        if by_rank and not _are_ranks(np.array([value])):
            raise DataError.at(
                path, number, f"{cell!r} is not a rank; a run with scores has six columns (TREC) or four"
            )
        query_id, doc_id = (columns.identifier(path, number, line[i]) for i in (query_column, doc_column))
        yield query_id, doc_id, -value if by_rank else value
