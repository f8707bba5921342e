"""A name or a folder → a :class:`Dataset` with judged queries, judgements and a streamed corpus."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from llara_eval import catalogue
from llara_eval.catalogue import KnownSet
from llara_eval.collection import Corpus, find_file, read_queries
from llara_eval.errors import DataError
from llara_eval.protocols import SILENT, Progress
from llara_eval.trec import read_qrels
from llara_eval.types import Qrels, Query

logger = logging.getLogger(__name__)

DEMO = "demo"
"""Name of the small test collection that comes with the package."""

DEMO_FOLDER = Path(__file__).parent / "data" / "demo"


@dataclass(frozen=True, slots=True)
class Dataset:
    """A test collection with one split of judgements.

    Attributes:
        name: ``beir/<set>`` for a public set that is what it claims to be; else the folder's name.
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
            ``beir/``), the name of a folder in ``data_dir``, or ``demo``.
        data_dir: Where named sets are looked for and downloaded to.
        split: The judgements to use; the set's usual one by default.
        offline: Never download.
        progress: Where to show progress.

    Raises:
        DataError: The set is not to be had, or anything in it is malformed.
    """
    folder = locate(name_or_folder, data_dir=data_dir, offline=offline)
    known = _expected(name_or_folder, folder)
    split = split or (known.split if known else "test")
    qrels, queries = read_judged(folder, split)
    corpus = Corpus(find_file(folder, "corpus.jsonl"))
    judged = frozenset(doc_id for grades in qrels.values() for doc_id in grades)
    with progress.task(f"read {known.name if known else 'documents'}", known and known.documents) as advance:
        facts = corpus.scan(judged, advance)

    warnings = []
    if facts.judged_unknown:
        warnings.append(
            f"{len(facts.judged_unknown)} judged documents are not in the corpus "
            f"({facts.judged_unknown[0]!r}, …); they count as not found"
        )
    if facts.empty:
        warnings.append(f"{facts.empty} documents have neither title nor text")
    empty_queries = [query.query_id for query in queries if not query.text.strip()]
    if empty_queries:
        warnings.append(f"{len(empty_queries)} queries have no text ({empty_queries[0]!r}, …)")

    drop_own_ids = False
    full_name = folder.resolve().name
    mismatch = None
    if known is not None:
        mismatch = _difference(known, split, facts.documents, qrels)
        if mismatch is None:
            full_name, drop_own_ids = known.name, known.drop_own_ids
        else:
            warnings.append(
                f"the folder is called {folder.name} but is not {known.name}: {mismatch}; "
                f"its results are filed under {full_name!r}"
            )
    return Dataset(
        name=full_name,
        split=split,
        queries=queries,
        qrels=qrels,
        corpus=corpus,
        drop_own_ids=drop_own_ids,
        fingerprint=_fingerprint(facts.fingerprint, queries, qrels),
        warnings=tuple(warnings),
        mismatch=mismatch,
    )


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
    known = catalogue.find(name_or_folder)
    for place in (known.folder if known else name_or_folder, name_or_folder):
        if not Path(place).is_absolute() and ".." not in Path(place).parts and (data_dir / place).is_dir():
            return data_dir / place
    if known is None:
        raise DataError(
            f"{name_or_folder!r} is neither a folder, nor a folder in {data_dir}, nor a public BEIR set; "
            "`llara-eval datasets` lists the names"
        )
    if offline and known.url:
        raise DataError(
            f"{known.name} is not in {data_dir} and --offline forbids the download of {known.url}; "
            "unpack that zip there, or name a folder that has it"
        )
    from llara_eval.download import fetch_archive

    fetch_archive(known, data_dir)
    return data_dir / known.folder


def read_judged(folder: Path, split: str) -> tuple[dict[str, dict[str, int]], tuple[Query, ...]]:
    """Read the judgements of a split and the queries they are of.

    Raises:
        DataError: The split does not exist, or a judged query has no text.
    """
    qrels = read_qrels(qrels_file(folder, split))
    path = find_file(folder, "queries.jsonl")
    texts = read_queries(path)
    lost = sorted(set(qrels) - set(texts))
    if lost:
        raise DataError(
            f"{path}: {len(lost)} judged queries of split {split!r} are not there ({lost[0]!r}, …); "
            "add them, or take their judgements out"
        )
    return qrels, tuple(query for query in texts.values() if query.query_id in qrels)


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
            + (f"there are: {', '.join(sorted(there))} (use --split)" if there else "no *.tsv is there")
        )
    return there[split]


def _expected(name_or_folder: str, folder: Path) -> KnownSet | None:
    """Return the public set a folder claims to be by the name it was asked for or bears."""
    own = folder.resolve()
    return (
        catalogue.find(name_or_folder)
        or catalogue.find(own.name)
        or (catalogue.find(f"cqadupstack/{own.name}") if own.parent.name == "cqadupstack" else None)
    )


def _difference(known: KnownSet, split: str, documents: int, qrels: Qrels) -> str | None:
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
