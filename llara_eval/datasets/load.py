"""A name or a folder → a :class:`Dataset` with judged queries, judgements and a streamed corpus."""

import hashlib
import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from llara_eval.core.errors import DataError
from llara_eval.core.leases import Leases
from llara_eval.core.lines import find_file
from llara_eval.core.paths import DATA, home
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.core.types import Qrels, Query
from llara_eval.datasets import known as catalogue
from llara_eval.datasets import msmarco
from llara_eval.datasets.corpus import Corpus, read_queries
from llara_eval.datasets.known import KnownSet
from llara_eval.datasets.msmarco_sets import MSMARCO_SETS, MsMarcoSet
from llara_eval.scoring.trec import read_qrels

logger = logging.getLogger(__name__)

DEMO = "demo"
"""Name of the small test collection that comes with the package."""

DEMO_FOLDER = DATA / "demo"

_LONGEST_DOWNLOAD = 86_400.0
"""Seconds after which a download that another process began is taken for given up."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A test collection with one split of judgements.

    Attributes:
        name: The full name of a public set that is what it claims to be (``beir/scifact``,
            ``msmarco-passage/dev``); else the folder's name.
        split: The split the judgements are of.
        queries: The judged queries, in file order.
        qrels: Judgements of this split.
        corpus: The documents, streamed.
        drop_own_ids: Whether a query's own id is left out of its ranking.
        fingerprint: SHA-256 over documents, judged queries and judgements.
        warnings: What was noticed and counted, but does not stop an evaluation.
        mismatch: In what a folder that bears a public set's name differs from that set.
    """

    name: str
    split: str
    queries: tuple[Query, ...]
    qrels: Qrels
    corpus: Corpus
    drop_own_ids: bool
    fingerprint: str
    warnings: tuple[str, ...]
    mismatch: str | None = None


class Naming(NamedTuple):
    """What a data set is called, as far as that shows before it is read.

    Attributes:
        known: The public set it claims to be.
        other_name: What it is called if it is not that set.
    """

    known: KnownSet | MsMarcoSet | None
    other_name: str

    @property
    def names(self) -> tuple[str, ...]:
        """What its results may be filed under."""
        return (self.known.name, self.other_name) if self.known else (self.other_name,)

    @property
    def split(self) -> str:
        """The usual split."""
        return self.known.split if self.known else "test"


class Found(NamedTuple):
    """A data set as it lies on disk, before its documents are read.

    Attributes:
        known: The public set it claims to be.
        other_name: What it is called if it is not that set.
        split: The split of the judgements.
        qrels: Judgements.
        queries: The judged queries.
        corpus: The documents.
    """

    known: KnownSet | MsMarcoSet | None
    other_name: str
    split: str
    qrels: Qrels
    queries: tuple[Query, ...]
    corpus: Corpus


def load(
    name_or_folder: str,
    *,
    data_dir: Path,
    split: str | None = None,
    offline: bool = False,
    progress: Progress = SILENT,
) -> Dataset:
    """Find a data set and read all of it once.

    Args:
        name_or_folder: A folder in BEIR layout, the name of a public BEIR set (with or without
            ``beir/``), a name of :data:`MSMARCO_SETS`, the name of a folder in ``data_dir``, or
            ``demo``.
        data_dir: Where named sets are looked for and downloaded to.
        split: The judgements to use; the set's usual one by default.
        offline: Never download.
        progress: Where to show progress.

    Raises:
        DataError: The set is not to be had, or anything in it is malformed.
    """
    found = find(name_or_folder, data_dir=data_dir, split=split, offline=offline)
    judged = frozenset(doc_id for grades in found.qrels.values() for doc_id in grades)
    title, expected = (found.known.name, found.known.documents) if found.known else ("documents", None)
    with progress.task(f"read {title}", expected) as advance:
        facts = found.corpus.scan(judged, advance)

    warnings = []
    if facts.judged_unknown:
        warnings.append(
            f"{len(facts.judged_unknown)} judged documents are not in the corpus "
            f"({facts.judged_unknown[0]!r}, …); they count as not found"
        )
    if facts.empty:
        warnings.append(f"{facts.empty} documents have neither title nor text")
    empty_queries = [query.query_id for query in found.queries if not query.text.strip()]
    if empty_queries:
        warnings.append(f"{len(empty_queries)} queries have no text ({empty_queries[0]!r}, …)")

    name, drop_own_ids, mismatch = found.other_name, False, None
    if found.known is not None:
        mismatch = _difference(found.known, found.split, facts.documents, found.qrels)
        if mismatch is None:
            name = found.known.name
            drop_own_ids = isinstance(found.known, KnownSet) and found.known.drop_own_ids
        else:
            warnings.append(
                f"the folder is called {found.corpus.path.parent.name} but is not {found.known.name}: "
                f"{mismatch}; its results are filed under {name!r}"
            )
    return Dataset(
        name=name,
        split=found.split,
        queries=found.queries,
        qrels=found.qrels,
        corpus=found.corpus,
        drop_own_ids=drop_own_ids,
        fingerprint=_fingerprint(facts.fingerprint, found.queries, found.qrels),
        warnings=tuple(warnings),
        mismatch=mismatch,
    )


def find(name_or_folder: str, *, data_dir: Path, split: str | None = None, offline: bool = False) -> Found:
    """Find a data set and read its judgements and queries; arguments and errors are those of :func:`load`."""
    official = MSMARCO_SETS.get(name_or_folder)
    if official is None:
        return _in_folder(name_or_folder, data_dir, split, offline)
    if split not in (None, official.split):
        raise DataError(f"{official.name} has no split {split!r}: its judgements are in its name")
    return _in_official_files(official, data_dir, offline)


def naming(name_or_folder: str, *, data_dir: Path) -> Naming:
    """Return what a data set is called, whether it is at hand or not; nothing is read or downloaded."""
    official = MSMARCO_SETS.get(name_or_folder)
    if official is not None:
        return Naming(official, _own_name(official.name, data_dir))
    try:
        folder = locate(name_or_folder, data_dir=data_dir, offline=True).resolve()
    except DataError:  # its results may be at hand
        folder = Path(name_or_folder).resolve()
    return Naming(_expected(name_or_folder, folder), folder.name)


def judgements(name: str, split: str, *, data_dir: Path) -> Qrels:
    """Return the judgements of a data set that is at hand, by the name of its results.

    Raises:
        DataError: They are not at hand, or malformed.
    """
    official = MSMARCO_SETS.get(name.removeprefix(_own_name("", data_dir)))
    if official is not None:
        return read_qrels(find_file(data_dir / official.folder, official.qrels_file))
    return read_qrels(qrels_file(locate(name, data_dir=data_dir, offline=True), split))


def _in_folder(name_or_folder: str, data_dir: Path, split: str | None, offline: bool) -> Found:
    """Read judgements and queries of a folder in BEIR layout."""
    folder = locate(name_or_folder, data_dir=data_dir, offline=offline)
    called = naming(name_or_folder, data_dir=data_dir)
    split = split or called.split
    qrels, queries = read_judged(folder, split)
    return Found(*called, split, qrels, queries, Corpus(find_file(folder, "corpus.jsonl")))


def _in_official_files(official: MsMarcoSet, data_dir: Path, offline: bool) -> Found:
    """Read judgements and queries of MS MARCO."""
    files = _official_files(official, data_dir, offline)
    qrels = read_qrels(files.qrels)
    queries = _judged(files.queries, msmarco.read_queries(files.queries), qrels, official.split)
    called = naming(official.name, data_dir=data_dir)
    return Found(*called, called.split, qrels, queries, files.documents)


def _official_files(official: MsMarcoSet, data_dir: Path, offline: bool) -> msmarco.Files:
    """Return the files of a set of MS MARCO, downloading those that are missing if need be."""
    if not offline and msmarco.missing(official, data_dir):
        from llara_eval.datasets.msmarco_download import fetch

        with _alone():
            fetch(official, data_dir)
    return msmarco.find(official, data_dir)


def _own_name(name: str, data_dir: Path) -> str:
    """Return what a set of MS MARCO is called that is not the public one: its data folder comes first."""
    return f"{data_dir.resolve().name}/{name}"


def locate(name_or_folder: str, *, data_dir: Path, offline: bool = False) -> Path:
    """Return the folder of a data set, downloading a public one if need be.

    Raises:
        DataError: There is no such folder or set, or it cannot be downloaded.
    """
    if name_or_folder == DEMO:
        return DEMO_FOLDER
    as_path = Path(name_or_folder).expanduser()
    if as_path.is_dir():
        return as_path
    if name_or_folder in MSMARCO_SETS:
        return _official_files(MSMARCO_SETS[name_or_folder], data_dir, offline).corpus.parent
    known = catalogue.find(name_or_folder)
    for place in (known.folder if known else name_or_folder, name_or_folder):
        if not Path(place).is_absolute() and ".." not in Path(place).parts and (data_dir / place).is_dir():
            return data_dir / place
    if known is None:
        raise DataError(
            f"{name_or_folder!r} is neither a folder, nor a folder in {data_dir}, nor a public set; "
            "`llara-eval datasets` lists the names"
        )
    if offline and known.url:
        raise DataError(
            f"{known.name} is not in {data_dir} and --offline forbids the download of {known.url}; "
            "unpack that zip there, or name a folder that has it"
        )
    from llara_eval.datasets.download import fetch_archive

    with _alone():
        if not (data_dir / known.folder).is_dir():
            fetch_archive(known, data_dir)
    return data_dir / known.folder


def _alone() -> AbstractContextManager[bool]:
    """Let one process at a time download; the others wait, and find what it has brought."""
    return Leases(home() / "leases", expires=_LONGEST_DOWNLOAD).hold("download", wait=True)


def read_judged(folder: Path, split: str) -> tuple[dict[str, dict[str, int]], tuple[Query, ...]]:
    """Read the judgements of a split and the queries they are of.

    Raises:
        DataError: The split does not exist, or a judged query has no text.
    """
    qrels = read_qrels(qrels_file(folder, split))
    path = find_file(folder, "queries.jsonl")
    return qrels, _judged(path, read_queries(path), qrels, split)


def _judged(path: Path, texts: dict[str, Query], qrels: Qrels, split: str) -> tuple[Query, ...]:
    """Return the judged queries, in file order."""
    lost = sorted(set(qrels) - set(texts))
    if lost:
        raise DataError(
            f"{path}: {len(lost)} judged queries of split {split!r} are not there ({lost[0]!r}, …); "
            "add them, or take their judgements out"
        )
    return tuple(query for query in texts.values() if query.query_id in qrels)


def splits(folder: Path) -> dict[str, Path]:
    """Return the files of judgements in a folder by the split they are of."""
    files = [*(folder / "qrels").glob("*.tsv.gz"), *(folder / "qrels").glob("*.tsv")]
    return {path.name.removesuffix(".gz").removesuffix(".tsv"): path for path in files}


def qrels_file(folder: Path, split: str) -> Path:
    """Return the judgements file of a split.

    Raises:
        DataError: It does not exist; the message lists the splits that do.
    """
    there = splits(folder)
    if split not in there:
        raise DataError(
            f"{folder / 'qrels'}: no judgements for split {split!r}; "
            + (f"there are: {', '.join(sorted(there))}" if there else "no *.tsv is there")
        )
    return there[split]


def _expected(name_or_folder: str, folder: Path) -> KnownSet | None:
    """Return the public set a resolved folder claims to be by the name it was asked for or bears."""
    return (
        catalogue.find(name_or_folder)
        or catalogue.find(folder.name)
        or (catalogue.find(f"cqadupstack/{folder.name}") if folder.parent.name == "cqadupstack" else None)
    )


def _difference(known: KnownSet | MsMarcoSet, split: str, documents: int, qrels: Qrels) -> str | None:
    """Say in what a folder differs from the pinned counts of a public set, or None."""
    if known.documents not in (None, documents):
        return f"{documents:,} documents, not {known.documents:,}"
    if split != known.split:
        return None
    if len(qrels) != known.queries:
        return f"{len(qrels):,} judged queries, not {known.queries:,}"
    judgements = sum(map(len, qrels.values()))
    if known.judgements not in (None, judgements):
        return f"{judgements:,} judgements, not {known.judgements:,}"
    return None


def _fingerprint(corpus: str, queries: tuple[Query, ...], qrels: Qrels) -> str:
    content = hashlib.sha256(corpus.encode())
    for query in queries:
        content.update("\x1f".join(query).encode() + b"\x1e")
    for query_id in sorted(qrels):
        for doc_id, grade in sorted(qrels[query_id].items()):
            content.update(f"{query_id}\x1f{doc_id}\x1f{grade}\x1e".encode())
    return content.hexdigest()
