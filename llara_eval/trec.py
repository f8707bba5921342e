"""Runs and judgements as files.

Runs: six-column TREC (``query_id Q0 doc_id rank score tag``) and three-column MS MARCO
(``query_id doc_id rank``). Judgements: four-column TREC and MS MARCO (``query_id 0 doc_id grade``)
and BEIR's three columns with a header. All may be gzipped. Where the first line holds a tab, tabs
alone separate columns, so that identifiers may contain spaces.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd

from llara_eval.errors import DataError
from llara_eval.files import open_text, write_text
from llara_eval.ranking import rank
from llara_eval.types import Hits, Run, as_ids

_RUN_COLUMNS = {6: ["query_id", "q0", "doc_id", "rank", "score", "tag"], 3: ["query_id", "doc_id", "rank"]}


def write_run(path: Path, run: Run, tag: str) -> None:
    """Write a run as tab-separated six-column TREC, ranks from 1.

    Args:
        path: The file; a name ending in ``.gz`` is compressed, without a time stamp.
        run: The ranking.
        tag: The last column; white space in it becomes ``_``.
    """
    tag = "_".join(tag.split())
    lines = []
    for query_id, doc_ids, scores in run:
        for place, (doc_id, score) in enumerate(zip(doc_ids, scores.astype(str), strict=True), 1):
            lines.append(f"{query_id}\tQ0\t{doc_id}\t{place}\t{score}\t{tag}\n")
    write_text(path, "".join(lines))


def read_run(path: Path, *, depth: int | None = None) -> Run:
    """Read a TREC or MS MARCO run file and rank it canonically.

    The rank column of a TREC run is ignored, as trec_eval does: scores decide. An MS MARCO run has
    only ranks; a better rank is a higher score there.

    Args:
        path: The file, gzipped if its name ends in ``.gz``.
        depth: Keep at most so many documents a query; None keeps all.

    Raises:
        DataError: The file is missing, empty, or a line is malformed (named by its number).
    """
    columns, separator = _sniff(path)
    names = _RUN_COLUMNS.get(columns)
    if names is None:
        raise DataError.at(path, 1, f"{columns} columns; a run has 6 (TREC) or 3 (MS MARCO)")
    value = "score" if columns == 6 else "rank"
    try:
        table = pd.read_csv(
            path,
            sep=separator,
            header=None,
            names=names,
            index_col=False,
            usecols=["query_id", "doc_id", value],
            dtype={"query_id": "category", "doc_id": "category", value: "float64"},
            quoting=csv.QUOTE_NONE,
            na_filter=False,
            encoding="utf-8-sig",
            on_bad_lines="error",
        )
    except (ValueError, pd.errors.ParserError, EOFError, OSError) as error:
        raise _first_bad_line(path, columns, separator, error) from error
    query, doc = table["query_id"].cat, table["doc_id"].cat
    score = table[value].to_numpy() if columns == 6 else -table[value].to_numpy()
    if "" in query.categories or "" in doc.categories:
        raise _first_bad_line(path, columns, separator, ValueError("an identifier is empty"))
    hits = Hits(
        query_ids=as_ids(query.categories),
        doc_ids=as_ids(doc.categories),
        query=query.codes.to_numpy().astype(np.int64),
        doc=doc.codes.to_numpy().astype(np.int64),
        score=score.astype(np.float32),
    )
    try:
        return rank(hits, depth=len(table) if depth is None else depth)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Read judgements: TREC, MS MARCO or BEIR, told apart by the number of columns.

    Raises:
        DataError: The file is missing or empty, a line is malformed, or one pair has two grades.
    """
    columns, separator = _sniff(path)
    if columns not in (3, 4):
        raise DataError.at(path, 1, f"{columns} columns; judgements have 4 (TREC) or 3 (BEIR)")
    split_at = None if separator != "\t" else "\t"
    qrels: dict[str, dict[str, int]] = {}
    with open_text(path) as file:
        for number, line in _numbered(path, file):
            cells = line.rstrip("\r\n").split(split_at)
            if number == 1 and columns == 3 and not _is_integer(cells[-1]):
                continue  # BEIR's header
            if len(cells) != columns:
                raise DataError.at(path, number, f"{len(cells)} columns, expected {columns}")
            query_id, doc_id, grade = cells[0], cells[-2], cells[-1].strip()
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
    text = text.strip()
    return text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()


def _numbered(path: Path, file: TextIO) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line) of the non-blank lines; undecodable bytes are a DataError."""
    number = 0
    try:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line
    except UnicodeDecodeError as error:
        raise DataError.at(path, number + 1, f"not UTF-8 ({error.reason})") from error
    except (EOFError, OSError) as error:
        raise DataError.at(path, number + 1, f"cannot be read on: {error}") from error


def _sniff(path: Path) -> tuple[int, str]:
    """Return the number of columns of the first line and the separator as pandas wants it."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with open_text(path) as file:
        for _, line in _numbered(path, file):
            if "\t" in line:
                return len(line.rstrip("\r\n").split("\t")), "\t"
            return len(line.split()), r"\s+"
    raise DataError(f"{path}: the file is empty")


def _first_bad_line(path: Path, columns: int, separator: str, error: Exception) -> DataError:
    """Find the line a fast reader refused, so that the message can name it."""
    split_at = None if separator != "\t" else "\t"
    with open_text(path) as file:
        for number, line in _numbered(path, file):
            cells = line.rstrip("\r\n").split(split_at)
            if len(cells) != columns:
                return DataError.at(path, number, f"{len(cells)} columns, expected {columns}")
            value = cells[4] if columns == 6 else cells[2]
            try:
                float(value)
            except ValueError:
                return DataError.at(path, number, f"{value!r} is not a number")
            if not cells[0] or not cells[2 if columns == 6 else 1]:
                return DataError.at(path, number, "an identifier is empty")
    return DataError(f"{path}: {error}")
