"""Adaptation rows: a text and the text that follows it.

The data file of the released code (``cfli/pretrain_wiki``) is read unchanged: JSONL of ``input``,
``output_summarize`` (the input again) and ``output_predict`` (the next chunk of the same article). Such
a file is also made from plain text: each source is cut into chunks that end with a sentence.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby, pairwise
from operator import itemgetter
from pathlib import Path

from llara_eval.core.decode import decode
from llara_eval.core.errors import DataError
from llara_eval.core.files import sha256_of
from llara_eval.core.lines import objects, text_lines
from llara_eval.core.protocols import SILENT, Advance, Progress
from llara_eval.core.sealed import Writable, cached_file
from llara_eval.training.data import RowFormat, Rows, write_rows

FIELDS = ("input", "output_summarize", "output_predict")

_LONGEST = 1.5
"""A chunk has at most this many times the requested number of words."""

_ABBREVIATION = re.compile(r"(?:\b(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|vs|etc|No|Fig|Eq|al|e\.g|i\.e|cf|ca)\.)$")
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*$")


@dataclass(frozen=True, slots=True)
class AdaptationRow:
    """A text, what EBAE shall predict (the same text), and what EBAR shall predict (the next text)."""

    input: str
    output_summarize: str
    output_predict: str

    def __post_init__(self) -> None:
        """Refuse a row without text; ``output_predict`` may be empty.

        Raises:
            ValueError: ``input`` is blank.
        """
        if not self.input.strip():
            raise ValueError("input: no text")


FORMAT = RowFormat("adaptation", AdaptationRow)
"""Rows of ``input``, ``output_summarize`` and ``output_predict``."""


def read_rows(paths: Sequence[Path], *, words: int, cache: Path, progress: Progress = SILENT) -> Rows:
    """Read adaptation rows, or make them from text once.

    Args:
        paths: JSONL of adaptation rows or of ``text``, or plain text (``.txt``); compressed or not.
        words: Words of a chunk, roughly, where rows are made from text.
        cache: Folder for the files that are made from text, and for indexes.
        progress: The display of progress.

    Raises:
        DataError: A file is malformed, has neither form, or gives no pair of chunks.
    """
    files = []
    for path in paths:
        if _has_rows(path):
            files.append(path)
            continue
        target = cache / f"pairs-{sha256_of(path)[:16]}-{words}.jsonl"
        files.append(cached_file(target, partial(_write_pairs, path, words, progress)))
    return Rows(files, FORMAT, cache=cache, progress=progress, sources=paths)


def _write_pairs(path: Path, words: int, progress: Progress, file: Writable) -> None:
    rows = build(path, words)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path}: no two chunks of {words} words of one source; try fewer --chunk-words")
    with progress.task(f"cut {path.name}", None) as advance:
        write_rows(file, _counted(chain([first], rows), advance))


def build(path: Path, words: int) -> Iterator[dict[str, str]]:
    """Make adaptation rows of a file of text, without holding the file in memory.

    Args:
        path: JSONL of ``text`` (consecutive rows of one ``source`` are consecutive paragraphs), or plain
            text (one source).
        words: Words of a chunk, roughly.

    Yields:
        Rows of ``input``, ``output_summarize`` and ``output_predict``; a row never spans two sources.
    """
    for _, paragraphs in groupby(_paragraphs(path), key=itemgetter(0)):
        for text, following in pairwise(_chunks(map(itemgetter(1), paragraphs), words)):
            yield {"input": text, "output_summarize": text, "output_predict": following}


def _chunks(paragraphs: Iterable[str], words: int) -> Iterator[str]:
    """Yield the chunks of one source: whole sentences until there are enough words."""
    chunk: list[str] = []
    for paragraph in paragraphs:
        for sentence in sentences(paragraph, int(words * _LONGEST)):
            if chunk and len(chunk) + len(sentence) > words * _LONGEST:
                yield " ".join(chunk)
                chunk = []
            chunk += sentence
            if len(chunk) >= words:
                yield " ".join(chunk)
                chunk = []
    if chunk:
        yield " ".join(chunk)


def sentences(text: str, longest: int) -> Iterator[list[str]]:
    """Yield the sentences of a text as lists of words; a longer sentence is cut after ``longest`` words."""
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
    if ".txt" in path.suffixes:
        yield from ((path.name, line) for _, line in text_lines(path))
        return
    for number, row in objects(path):
        text = decode(row.get("text"), str, f"{path}:{number}: text")
        yield str(row.get("source", path.name)), text


def _counted(rows: Iterable[dict[str, str]], advance: Advance) -> Iterator[dict[str, str]]:
    for row in rows:
        yield row
        advance()


def _has_rows(path: Path) -> bool:
    """Return whether a file holds adaptation rows already, by its first row."""
    if ".txt" in path.suffixes:
        return False
    number, row = next(objects(path), (1, {}))
    if all(field in row for field in FIELDS):
        return True
    if "text" in row:
        return False
    raise DataError.at(
        path, number, f"expected {', '.join(FIELDS)}, or text; found {', '.join(row) or 'nothing'}"
    )
