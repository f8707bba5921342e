"""Training rows of other tools in the form of ours: ``query``, ``pos`` and ``neg``.

- Tevatron: ``query``, ``positive_passages`` and ``negative_passages``, each a list of ``title`` and ``text``;
- sentence-transformers: a query (``query``, ``anchor``, ``question`` or ``sentence1``), a positive
  (``positive``, ``answer``, ``passage``, ``document`` or ``sentence2``) and perhaps negatives (``negative``,
  ``negative_1``, …); or a query, a passage or a list of them (``docs``), and a label of 1 or 0 for each.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llara_eval.core.errors import DataError
from llara_eval.core.tables import rows
from llara_eval.core.types import Document

logger = logging.getLogger(__name__)

Row = dict[str, Any]

FORMS = (
    "query, pos and neg (FlagEmbedding); query, positive_passages and negative_passages (Tevatron); query or "
    "anchor, positive and negative; or query, passage and label (sentence-transformers)"
)
"""What a row of training data may have, for messages."""

_QUERY = ("query", "anchor", "question", "sentence1")
_PASSAGE = ("positive", "answer", "passage", "document", "sentence2", "pos")
_LISTS = ("docs", "documents", "passages")
_LABELS = ("label", "labels", "score", "scores")
_TEVATRON = {"positive_passages": "pos", "negative_passages": "neg"}
_KEPT = ("query_id", "prompt")
"""Fields of a converted row that are kept."""


def converted(origin: Path, number: int, row: Row) -> Row:
    """Return a row of another tool with ``query``, ``pos`` and ``neg``; any other row is returned as it is.

    Args:
        origin: The file, for messages.
        number: The number of the row or line.
        row: The fields by name.

    Raises:
        DataError: A field is malformed, or two fields may both be meant.
    """
    if isinstance(row.get("pos"), list):
        return row
    kept = {name: row[name] for name in _KEPT if row.get(name) is not None}
    if "positive_passages" in row:
        texts = {ours: _passages(origin, number, row, theirs) for theirs, ours in _TEVATRON.items()}
        return {**kept, "query": _one(origin, number, row, _QUERY), **texts}
    if not (row.keys() & {*_PASSAGE, *_LISTS} and row.keys() & {*_QUERY}):
        return row
    query = _one(origin, number, row, _QUERY)
    labels = _labels(row)
    if labels is not None:
        texts = _labelled(origin, number, row, labels)
    else:
        texts = {"pos": [_one(origin, number, row, _PASSAGE)], "neg": _negatives(origin, number, row)}
    return {**kept, "query": query, **texts}


def read_groups(path: Path, advance: Callable[[int], object] | None = None) -> Iterator[tuple[int, Row]]:
    """Yield (number, row) of a training file, each row with ``query``, ``pos`` and ``neg``.

    The rows of a labelled file that have one query become one row, in the place of the first; queries without
    a positive are left out with a warning, since nothing can be learnt from them.

    Args:
        path: JSON Lines, gzipped if the name ends in ``.gz``, or Parquet.
        advance: Called with the number of bytes that were read since the last call.

    Raises:
        DataError: A row is malformed, or has none of the forms.
    """
    labelled: dict[str, tuple[int, Row]] = {}
    for number, row in rows(path, advance=advance):
        group = converted(path, number, row)
        if not isinstance(group.get("pos"), list):
            raise DataError.at(path, number, f"expected {FORMS}; found {', '.join(row) or 'nothing'}")
        if _labels(row) is None:
            yield number, group
            continue
        _, merged = labelled.setdefault(group["query"], (number, {**group, "pos": [], "neg": []}))
        for side in ("pos", "neg"):
            merged[side] += [text for text in group[side] if text not in merged[side]]
        both = set(merged["pos"]).intersection(merged["neg"])
        if both:
            raise DataError.at(
                path, number, f"a passage of this query has label 1 and 0: {both.pop()[:60]!r}"
            )
    kept = [(number, row) for number, row in labelled.values() if row["pos"]]
    yield from kept
    without = len(labelled) - len(kept)
    if without:
        logger.warning("%s: %d of %d queries have no positive and are left out", path, without, len(labelled))


def _labels(row: Row) -> str | None:
    """Return the field of the labels of a row of sentence-transformers, or None; other forms have none."""
    if isinstance(row.get("pos"), list) or "positive_passages" in row:
        return None
    return next((name for name in _LABELS if name in row), None)


def _one(origin: Path, number: int, row: Row, names: tuple[str, ...]) -> str:
    """Return the text of the one field with one of some names."""
    present = [name for name in names if name in row]
    if len(present) != 1:
        fields = " and ".join(present) or ", ".join(row)
        raise DataError.at(origin, number, f"expected one of {', '.join(names)}; found {fields}")
    return _text(origin, number, present[0], row[present[0]])


def _text(origin: Path, number: int, name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError.at(
            origin, number, f"{name}: expected a text that is not empty, found {str(value)[:60]!r}"
        )
    return value


def _passages(origin: Path, number: int, row: Row, name: str) -> list[str]:
    """Return title and text of each passage of a field of Tevatron."""
    passages = row.get(name)
    if not isinstance(passages, list | None):
        raise DataError.at(origin, number, f"{name}: expected a list, found {type(passages).__name__}")
    texts = []
    for passage in passages or []:
        if not isinstance(passage, Mapping):
            raise DataError.at(
                origin, number, f"{name}: expected title and text, found {str(passage)[:60]!r}"
            )
        title, text = (passage.get(field) or "" for field in ("title", "text"))
        whole = (
            Document("", title, text).contents if isinstance(title, str) and isinstance(text, str) else None
        )
        texts.append(_text(origin, number, name, whole))
    return texts


def _negatives(origin: Path, number: int, row: Row) -> list[str]:
    texts: list[str] = []
    for name, value in row.items():
        if name in ("neg", "negatives") or name.partition("_")[0] == "negative":
            values = value if isinstance(value, list) else [] if value is None else [value]
            texts += [_text(origin, number, name, text) for text in values]
    return texts


def _labelled(origin: Path, number: int, row: Row, labels: str) -> dict[str, list[str]]:
    """Return the passages with label 1 and those with label 0."""
    lists = [name for name in _LISTS if isinstance(row.get(name), list)]
    values = row[labels] if isinstance(row[labels], list) else [row[labels]]
    if lists:
        texts = [_text(origin, number, lists[0], text) for text in row[lists[0]]]
    else:
        texts = [_one(origin, number, row, _PASSAGE)]
    if len(lists) > 1 or len(values) != len(texts):
        raise DataError.at(origin, number, f"{labels}: expected one for each of {len(texts)} passages")
    sides: dict[str, list[str]] = {"pos": [], "neg": []}
    for text, value in zip(texts, values, strict=True):
        if value not in (0, 1):
            raise DataError.at(
                origin,
                number,
                f"{labels}: expected 1 (relevant) or 0, found {value!r}; where is the line between them?",
            )
        sides["pos" if value else "neg"].append(text)
    return sides
