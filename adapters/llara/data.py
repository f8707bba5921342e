"""Adaptation rows: a text and the text that follows it.

The released code's data file (``cfli/pretrain_wiki``) is read unchanged: JSONL with ``input``,
``output_summarize`` (the input again) and ``output_predict`` (the next chunk of the same article). Such
a file is also made from plain text: each source is cut into chunks that end with a sentence.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llara_eval.core.errors import DataError
from llara_eval.core.files import atomic_write, sha256_of
from llara_eval.core.lines import parse_object, text_lines
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.training.data import RowFormat

FIELDS = ("input", "output_summarize", "output_predict")

_LONGEST = 1.5
"""A chunk never has more words than this many times the words wanted."""

_ABBREVIATION = re.compile(r"(?:\b(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|vs|etc|No|Fig|Eq|al|e\.g|i\.e|cf|ca)\.)$")
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*$")


def problem_of(row: Mapping[str, Any]) -> str | None:
    """Say what is wrong with an adaptation row, or return None; an empty ``output_predict`` is no mistake."""
    for field in FIELDS:
        if not isinstance(row.get(field), str):
            return f"{field}: expected text, found {json.dumps(row.get(field))[:60]}"
    return None if row["input"].strip() else "input: no text"


FORMAT = RowFormat("adaptation", problem_of)
"""Rows of ``input``, ``output_summarize`` and ``output_predict``."""


def prepare(paths: Sequence[Path], *, words: int, cache: Path, progress: Progress = SILENT) -> list[Path]:
    """Return files of adaptation rows: those given, or files made of them, once.

    Args:
        paths: JSONL with adaptation rows or with ``text``, or plain text (``.txt``); compressed or not.
        words: Words of a chunk, roughly, where rows are made from text.
        cache: Where files that are made are kept.
        progress: Where to show progress.

    Raises:
        DataError: A file has neither form, or gives no pair of chunks.
    """
    files = []
    for path in paths:
        if _has_rows(path):
            files.append(path)
            continue
        target = cache / f"pairs-{sha256_of(path)[:16]}-{words}.jsonl"
        if not target.is_file():
            count = 0
            with progress.task(f"cut {path.name}", None) as advance, atomic_write(target) as out:
                for row in build(path, words):
                    out.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
                    advance()
                    count += 1
                if not count:
                    raise DataError(
                        f"{path}: no two chunks of {words} words of one source; try fewer --chunk-words"
                    )
        files.append(target)
    return files


def build(path: Path, words: int) -> Iterator[dict[str, str]]:
    """Make adaptation rows of a file of text, without holding it in memory.

    Args:
        path: JSONL with ``text`` (consecutive rows of one ``source`` are consecutive paragraphs), or
            plain text (one source).
        words: Words of a chunk, roughly.

    Yields:
        Rows with ``input``, ``output_summarize`` and ``output_predict``; a row never spans two sources.
    """
    before: tuple[str, str] | None = None
    for source, chunk in _chunks(path, words):
        if before is not None and before[0] == source:
            yield {"input": before[1], "output_summarize": before[1], "output_predict": chunk}
        before = source, chunk


def _chunks(path: Path, words: int) -> Iterator[tuple[str, str]]:
    """Yield source and text of each chunk: whole sentences until there are enough words."""
    current, held = "", list[str]()
    for source, paragraph in _paragraphs(path):
        if source != current:
            if held:
                yield current, " ".join(held)
            current, held = source, []
        for sentence in sentences(paragraph, int(words * _LONGEST)):
            if held and len(held) + len(sentence) > words * _LONGEST:
                yield current, " ".join(held)
                held = []
            held += sentence
            if len(held) >= words:
                yield current, " ".join(held)
                held = []
    if held:
        yield current, " ".join(held)


def sentences(text: str, longest: int) -> Iterator[list[str]]:
    """Yield the sentences of a text as lists of words; one that is too long is cut between words."""
    sentence: list[str] = []
    for word in text.split():
        sentence.append(word)
        ended = _SENTENCE_END.search(word) and not _ABBREVIATION.search(word)
        if ended or len(sentence) == longest:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _paragraphs(path: Path) -> Iterator[tuple[str, str]]:
    """Yield source and text of each paragraph."""
    for number, line in text_lines(path):
        if ".txt" in path.suffixes:
            yield path.name, line
        elif line.strip():
            row = parse_object(path, number, line)
            if not isinstance(row.get("text"), str):
                raise DataError.at(
                    path, number, f"text: expected text, found {json.dumps(row.get('text'))[:60]}"
                )
            yield str(row.get("source", path.name)), row["text"]


def _has_rows(path: Path) -> bool:
    """Whether a file holds adaptation rows already, by its first line."""
    if ".txt" in path.suffixes:
        return False
    number, first = next(((number, line) for number, line in text_lines(path) if line.strip()), (1, "{}"))
    row = parse_object(path, number, first)
    if all(field in row for field in FIELDS):
        return True
    if "text" in row:
        return False
    raise DataError.at(
        path, number, f"expected {', '.join(FIELDS)}, or text; found {', '.join(row) or 'nothing'}"
    )
