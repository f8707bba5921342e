"""A part of a data set, to try a system in minutes: some judged queries, and a pool of documents.

The part has a name of its own (``beir/fever+limit-100``), so that its results are never averaged, compared or
reproduced as those of the whole data set: among fewer documents, every system scores higher.
"""

import heapq
import re
from dataclasses import replace

from llara_eval.core.errors import UsageError
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.core.types import Document, Qrels
from llara_eval.datasets.corpus import REPORT_EVERY, DocumentStream, hash64
from llara_eval.datasets.dataset import Naming, UncheckedDataset, difference

POOL = 100
"""Documents for each query, beside those that are judged for it."""

_NAME = re.compile(r"(?P<name>.+?)(\+limit-(?P<limit>[1-9][0-9]*))?(\+own-ids-(drop|keep))?")


def whole_name(name: str) -> tuple[str, int | None]:
    """Return the name of the whole data set, and the number of queries of a part of it; None: all queries.

    Args:
        name: The name of a data set in its results, such as ``beir/fever+limit-100+own-ids-drop``.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return name, None
    return match["name"], int(match["limit"]) if match["limit"] else None


def limited_qrels(qrels: Qrels, limit: int) -> Qrels:
    """Return the judgements of ``limit`` queries, which a hash of their ids draws."""
    drawn = set(sorted(qrels, key=hash64)[:limit])
    return {query_id: grades for query_id, grades in qrels.items() if query_id in drawn}


def limited(dataset: UncheckedDataset, limit: int, progress: Progress = SILENT) -> UncheckedDataset:
    """Return a data set of ``limit`` judged queries and a pool of documents, which stays in memory.

    The pool has all judged documents of these queries, and ``limit`` × :data:`POOL` others; a hash of the ids
    draws queries and documents, so that the part is the same wherever it is made. A data set with no more
    judged queries is returned as it is.

    Args:
        dataset: The data set; its documents are read once.
        limit: The number of queries, at least 1.
        progress: Where to show progress.

    Raises:
        UsageError: The limit is less than 1.
        DataError: A document is malformed.
    """
    if limit < 1:
        raise UsageError(f"a limit of {limit} queries; expected at least 1")
    if limit >= len(dataset.qrels):
        return dataset
    qrels = limited_qrels(dataset.qrels, limit)
    judged = {doc_id for grades in qrels.values() for doc_id in grades}
    kept: list[tuple[int, Document]] = []
    drawn: list[tuple[int, int, Document]] = []  # a heap with the largest hash on top
    known, other_name = dataset.naming
    expected = known.documents if known else None
    number = 0
    with progress.task(f"draw from {dataset.naming.names[0]}", expected) as advance:
        for number, document in enumerate(dataset.corpus, 1):
            if document.doc_id in judged:
                kept.append((number, document))
            else:
                item = (-hash64(document.doc_id), number, document)
                (heapq.heappush if len(drawn) < limit * POOL else heapq.heappushpop)(drawn, item)
            if not number % REPORT_EVERY:
                advance(REPORT_EVERY)
        advance(number % REPORT_EVERY)
    pool = sorted(kept + [(number, document) for _, number, document in drawn])
    if known and difference(known, dataset.split, number, dataset.qrels):
        known = None
    name = f"{known.name if known else other_name}+limit-{limit}"
    part = known and replace(known, name=name, documents=None, queries=None, judgements=None)
    corpus = DocumentStream(dataset.corpus.origin, lambda: iter(pool), unit=dataset.corpus.unit)
    return dataset._replace(
        naming=Naming(part, name),
        qrels=qrels,
        queries=tuple(query for query in dataset.queries if query.query_id in qrels),
        corpus=corpus,
        notes=(
            *dataset.notes,
            f"{limit:,} of {len(dataset.qrels):,} queries and {len(pool):,} of {number:,} documents: the "
            "values are comparable with those of the same part alone",
        ),
    )
