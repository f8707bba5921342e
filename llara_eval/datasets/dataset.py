"""A data set: documents, queries and judgements, the measures, and warnings about the content."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from llara_eval.core.errors import DataError
from llara_eval.core.hashing import add_record
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.core.types import Qrels, Query
from llara_eval.datasets import known as catalogue
from llara_eval.datasets import memory
from llara_eval.datasets.corpus import DocumentStream
from llara_eval.datasets.folder import judged_queries
from llara_eval.datasets.known import DEPTH, KnownDataset
from llara_eval.datasets.own_ids import OwnIds, own_id_rule
from llara_eval.scoring.inputs import as_qrels
from llara_eval.scoring.measures import DEFAULT_MEASURES


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A test collection with one split of judgements, and how it is measured.

    Attributes:
        name: The full name of a public data set (``beir/scifact``, ``msmarco-passage/dev``) if the counts are
            those pinned for it; else the folder's name, or the name given to :meth:`from_memory`.
        split: The split of the judgements.
        queries: The judged queries, in file order.
        qrels: Judgements of the split.
        corpus: The documents, streamed.
        drop_own_ids: Whether the document with a query's own identifier is left out of its ranking.
        measures: The measures that are reported, the main one first.
        depth: Number of documents in a ranking.
        text_length: Maximum tokens of a document for systems with such a limit; None leaves it to the system.
        fingerprint: SHA-256 over documents, judged queries and judgements.
        source: Where it was downloaded from, with the revision or the checksum; "" if that is unknown.
        warnings: Sentences about content that is unusual but does not stop an evaluation.
        mismatch: The first difference from the public data set of the same name; None if there is none.
    """

    name: str
    split: str
    queries: tuple[Query, ...]
    qrels: Qrels
    corpus: DocumentStream
    drop_own_ids: bool = False
    measures: tuple[str, ...] = DEFAULT_MEASURES
    depth: int = DEPTH
    text_length: int | None = None
    fingerprint: str
    source: str = ""
    warnings: tuple[str, ...] = ()
    mismatch: str | None = None

    @classmethod
    def from_memory(
        cls,
        documents: Any,
        queries: Any,
        qrels: Any,
        *,
        name: str = "memory",
        split: str | None = None,
        drop_own_ids: bool | None = None,
        measures: Sequence[str] | None = None,
        depth: int | None = None,
        text_length: int | None = None,
    ) -> "Dataset":
        """Return a data set of objects in memory; a folder with the same content has the same fingerprint.

        Args:
            documents: Identifier → text, (title, text) or ``{"title": …, "text": …}``; rows of these with
                an identifier; or a data frame with ``doc_id`` (or ``_id``, ``id``), ``text`` and
                optionally ``title``. All documents are kept in memory.
            queries: Identifier → text; rows; or a data frame with ``query_id`` (or ``_id``, ``id``) and
                ``text``. Queries without judgements are left out.
            qrels: Query identifier → document identifier → grade; or a data frame with ``query_id``,
                ``doc_id`` and ``relevance`` (or ``score``, ``grade``).
            name: Name of the data set in its results. The name of a public data set is refused unless the
                counts agree; its facts are then the defaults of the arguments below.
            split: The split of the judgements.
            drop_own_ids: Whether the document with a query's own identifier is left out of its ranking; None:
                only where a public data set declares it.
            measures: The measures that are reported.
            depth: Number of documents in a ranking.
            text_length: Maximum tokens of a document for systems with such a limit.

        Raises:
            DataError: A row is malformed (the message has its number), or the name is that of a public data
                set with other counts.
        """
        naming = Naming(catalogue.find(name), name)
        split = split or naming.split
        judgements = as_qrels(qrels)
        judged = judged_queries("queries", memory.queries_of(queries), judgements, split)
        kept = memory.documents_of(documents)
        corpus = DocumentStream("documents", lambda: enumerate(kept, 1), unit="row")
        unchecked = UncheckedDataset(naming, split, judgements, judged, corpus)
        dataset = check(unchecked, declared=drop_own_ids)
        if dataset.mismatch:
            raise DataError(
                f"{name!r} is the name of a public data set, and this is another: {dataset.mismatch}; "
                "give it another name"
            )
        overrides: dict[str, Any] = {
            "measures": None if measures is None else tuple(measures),
            "depth": depth,
            "text_length": text_length,
        }
        return replace(dataset, **{field: value for field, value in overrides.items() if value is not None})


class Naming(NamedTuple):
    """The names that a data set may have, before its documents are counted.

    Attributes:
        known: The public data set of its name, or None.
        other_name: The name of its results if ``known`` is None or its counts differ.
    """

    known: KnownDataset | None
    other_name: str

    @property
    def names(self) -> tuple[str, ...]:
        """All names that its results may have."""
        return (self.known.name, self.other_name) if self.known else (self.other_name,)

    @property
    def split(self) -> str:
        """The default split."""
        return self.known.split if self.known else "test"


class UncheckedDataset(NamedTuple):
    """A data set before its documents are read.

    Attributes:
        naming: The names that it may have.
        split: The split of the judgements.
        qrels: Judgements of the split.
        queries: The judged queries, in file order.
        corpus: The documents, streamed.
        notes: Sentences that become warnings.
        source: Where it was downloaded from, with the revision or the checksum; "" if that is unknown.
    """

    naming: Naming
    split: str
    qrels: Qrels
    queries: tuple[Query, ...]
    corpus: DocumentStream
    notes: tuple[str, ...] = ()
    source: str = ""


def check(
    unchecked: UncheckedDataset,
    progress: Progress = SILENT,
    *,
    declared: bool | None = None,
    own_ids: OwnIds | None = None,
) -> Dataset:
    """Read all documents once, and return the data set with warnings about its content.

    Args:
        unchecked: The data set.
        progress: Where to show progress.
        declared: Whether the data set itself says that own ids are dropped or kept; None: it does not say.
        own_ids: What the user wants in place of the data set's own rule; a difference becomes part of the
            name.

    Raises:
        DataError: A document is malformed, an identifier occurs twice, or the corpus is empty.
    """
    (known, other_name), corpus = unchecked.naming, unchecked.corpus
    judged = frozenset(doc_id for grades in unchecked.qrels.values() for doc_id in grades)
    title, expected = (known.name, known.documents) if known else ("documents", None)
    with progress.task(f"read {title}", expected) as advance:
        facts = corpus.scan(judged, {query.query_id: query.text for query in unchecked.queries}, advance)

    warnings = list(unchecked.notes)
    if facts.judged_unknown:
        warnings.append(
            f"{len(facts.judged_unknown)} judged documents are not in the corpus "
            f"({facts.judged_unknown[0]!r}, …); they count as not found"
        )
    if facts.empty:
        warnings.append(f"{facts.empty} documents have neither title nor text")
    empty_queries = [query.query_id for query in unchecked.queries if not query.text.strip()]
    if empty_queries:
        warnings.append(f"{len(empty_queries)} queries have no text ({empty_queries[0]!r}, …)")

    mismatch = difference(known, unchecked.split, facts.documents, unchecked.qrels) if known else None
    if known and mismatch:
        warnings.append(
            f"{other_name} is not {known.name}: {mismatch}; its results are filed under {other_name!r}"
        )
    usual = known or KnownDataset(name=other_name, folder="")
    if declared is None and known and not mismatch:
        declared = known.drop_own_ids
    drop_own_ids, ending, more_warnings = own_id_rule(facts, declared, own_ids)
    return Dataset(
        name=(other_name if mismatch else usual.name) + ending,
        split=unchecked.split,
        queries=unchecked.queries,
        qrels=unchecked.qrels,
        corpus=corpus,
        drop_own_ids=drop_own_ids,
        measures=usual.measures,
        depth=usual.depth,
        text_length=usual.text_length,
        fingerprint=_fingerprint(facts.fingerprint, unchecked.queries, unchecked.qrels),
        source=unchecked.source,
        warnings=(*warnings, *more_warnings),
        mismatch=mismatch,
    )


def difference(known: KnownDataset, split: str, documents: int, qrels: Qrels) -> str | None:
    """Return the first count that differs from the pinned count of a public data set, or None."""
    counts = [("documents", documents, known.documents)]
    if split == known.split:
        counts += [
            ("judged queries", len(qrels), known.queries),
            ("judgements", sum(map(len, qrels.values())), known.judgements),
        ]
    for noun, count, pinned in counts:
        if pinned not in (None, count):
            return f"{count:,} {noun}, not {pinned:,}"
    return None


def _fingerprint(corpus: str, queries: tuple[Query, ...], qrels: Qrels) -> str:
    content = hashlib.sha256(corpus.encode())
    for query in queries:
        add_record(content, query)
    for query_id in sorted(qrels):
        for doc_id, grade in sorted(qrels[query_id].items()):
            add_record(content, (query_id, doc_id, str(grade)))
    return content.hexdigest()
