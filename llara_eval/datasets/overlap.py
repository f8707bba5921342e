"""The texts of a test collection that a training file holds, found in one pass over the training file."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from llara_eval.core.errors import DataError
from llara_eval.core.files import sha256_of
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.core.tables import rows
from llara_eval.datasets.contamination import ANY, Finding
from llara_eval.datasets.dataset import Dataset
from llara_eval.datasets.same_text import STRENGTH, Index, Item, Kind, batches
from llara_eval.datasets.training_rows import converted

Documents = Literal["judged", "all"]

_FIELDS = {
    **{"query": "query", "pos": "pos", "neg": "neg"},
    **{"input": "text", "output_summarize": "text", "output_predict": "text", "text": "text"},
}
"""Field of a training row → role of its texts."""


class Match(NamedTuple):
    """The strongest match of a test text among the training texts of one role.

    Attributes:
        role: Role of the test text, see :class:`llara_eval.datasets.same_text.Item`.
        id: Identifier of the query or document.
        trained_as: Role of the training text.
        kind: Kind of match.
        score: See :class:`llara_eval.datasets.same_text.Hit`.
        line: Line of the training file; the first line if several match equally.
    """

    role: str
    id: str
    trained_as: str
    kind: Kind
    score: float
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Written(Finding):
    """A finding with its matches, as ``llara-eval overlap --output`` writes it; see :class:`Match`."""

    matches: list[dict[str, Any]]


class Report(NamedTuple):
    """The outcome of :func:`compare`.

    Attributes:
        finding: The counts.
        matches: A match for each test text and role of training texts, in the order of the test texts.
    """

    finding: Finding
    matches: list[Match]


def items(dataset: Dataset, documents: Documents = "judged", progress: Progress = SILENT) -> Iterator[Item]:
    """Yield the test texts of a data set: the judged queries, and the judged documents or all documents."""
    for query in dataset.queries:
        yield Item("query", query.query_id, query.text, query.text)
    relevant = {doc_id for grades in dataset.qrels.values() for doc_id, grade in grades.items() if grade > 0}
    judged = {doc_id for grades in dataset.qrels.values() for doc_id in grades}
    with progress.task(f"index {dataset.name}", len(dataset.corpus)) as advance:
        for document in dataset.corpus:
            doc_id = document.doc_id
            role = "relevant" if doc_id in relevant else "judged" if doc_id in judged else "other"
            if role != "other" or documents == "all":
                yield Item(role, doc_id, document.contents, document.text)
            advance()


def compare(path: Path, dataset: Dataset, index: Index, progress: Progress = SILENT) -> Report:
    """Read a training file once and report the test texts that it holds.

    Args:
        path: JSON Lines, gzipped if the name ends in ``.gz``, or Parquet: fine-tuning rows (``query``,
            ``pos``, ``neg``, each a text or a list, or a form of
            :mod:`llara_eval.datasets.training_rows`), adaptation rows (``input``, ``output_summarize``,
            ``output_predict``) or rows with ``text``.
        dataset: The data set of the index.
        index: The index of the test texts of the data set.
        progress: The display of progress.

    Raises:
        DataError: A row is malformed (the message has file and line), or the file has no texts.
    """
    counts: Counter[str] = Counter()
    best: dict[tuple[int, str], Match] = {}
    with progress.task(f"read {path.name}", path.stat().st_size) as advance:
        for batch in batches(_training_texts(path, advance)):
            counts.update(trained_as for _, trained_as, _ in batch)
            for hit in index.find([text for *_, text in batch]):
                line, trained_as, _ = batch[hit.text]
                match = Match(*index.names[hit.item], trained_as, hit.kind, hit.score, line)
                key = hit.item, trained_as
                if key not in best or strength(match) > strength(best[key]):
                    best[key] = match
    if not counts:
        raise DataError(f"{path}: no texts")
    finding = Finding(
        file=path.name,
        sha256=sha256_of(path),
        texts=dict(counts),
        dataset=dataset.name,
        split=dataset.split,
        dataset_fingerprint=dataset.fingerprint,
        tested=dict(Counter(role for role, _ in index.names)),
        seen=_counted(best),
    )
    return Report(finding, [best[key] for key in sorted(best)])


def _training_texts(path: Path, advance: Callable[[int], object]) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the role and the text of every text in a training file."""
    for line, original in rows(path, advance=advance):
        row = converted(path, line, original)
        fields = [field for field in _FIELDS if row.get(field) is not None]
        if not fields or ({"pos", "neg"}.intersection(fields) and "query" not in fields):
            names = (
                ", ".join(f"{field} of null" if row[field] is None else field for field in row) or "nothing"
            )
            raise DataError.at(path, line, f"expected query and pos, input, or text; found {names}")
        for field in fields:
            texts = [row[field]] if isinstance(row[field], str) else row[field]
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                shown = json.dumps(row[field], ensure_ascii=False)[:60]
                raise DataError.at(path, line, f"{field}: expected a text or a list of texts, found {shown}")
            yield from ((line, _FIELDS[field], text) for text in texts)


def _counted(best: Mapping[tuple[int, str], Match]) -> dict[str, dict[str, dict[str, int]]]:
    """Count test texts by their role, the role of the training text, and the kind of the strongest match."""
    strongest = dict(best)
    for (number, _), match in best.items():
        strongest[number, ANY] = max(match, strongest.get((number, ANY), match), key=strength)
    seen: dict[str, dict[str, dict[str, int]]] = {}
    for (_, trained_as), match in sorted(strongest.items()):
        counts = seen.setdefault(match.role, {}).setdefault(trained_as, {})
        counts[match.kind] = counts.get(match.kind, 0) + 1
    return seen


def strength(match: Match) -> tuple[int, float]:
    """Return the sort key of a match: the strength of its kind, then its score."""
    return STRENGTH[match.kind], match.score
