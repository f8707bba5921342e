"""The data sets known by name, those at hand, and whether what is at hand is what it should be."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

from llara_eval.core.errors import DataError
from llara_eval.core.lines import find_file
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.datasets import known as catalogue
from llara_eval.datasets import load as datasets
from llara_eval.datasets import receipts
from llara_eval.datasets.known import KnownSet
from llara_eval.datasets.msmarco_sets import MSMARCO_SETS
from llara_eval.scoring.trec import read_qrels


class ListedSet(Protocol):
    """What any table of known sets says of each, whatever benchmark it belongs to; a NamedTuple does.

    ``drop_own_ids`` and the attributes in ``EXTRAS`` are shown where there are such.
    """

    @property
    def name(self) -> str:
        """Full name."""

    @property
    def split(self) -> str:
        """The split everybody reports."""

    @property
    def documents(self) -> int | None:
        """Number of documents; None where it is not pinned."""

    @property
    def queries(self) -> int | None:
        """Number of judged queries of the split; None where it is not pinned."""

    @property
    def judgements(self) -> int | None:
        """Number of judgements of the split; None where it is not pinned."""

    @property
    def licence(self) -> str:
        """The terms of use, in a few words."""


EXTRAS = ("source", "url", "archive_bytes", "md5", "obtain", "note")
"""What a table may say besides."""

_NO_RECORD = "no record of a download"


def known_sets() -> dict[str, ListedSet]:
    """Return all sets known by name; a further table joins here."""
    return {**catalogue.KNOWN_SETS, **MSMARCO_SETS}


def find(name: str) -> ListedSet | None:
    """Return the known set of a name, with or without ``beir/`` in front, or None."""
    return catalogue.find(name) or known_sets().get(name)


def place_of(name: str, data_dir: Path) -> Path | None:
    """Return the folder of a data set that is at hand, or None."""
    try:
        return datasets.locate(name, data_dir=data_dir, offline=True)
    except DataError:
        return None


def others(data_dir: Path) -> list[str]:
    """Return the names of the folders in ``data_dir`` that hold a collection nobody knows."""
    folders = data_dir.iterdir() if data_dir.is_dir() else ()
    return sorted(folder.name for folder in folders if (folder / "qrels").is_dir() and not find(folder.name))


def at_hand(data_dir: Path) -> list[str]:
    """Return the names of the data sets in ``data_dir``, those nobody knows first."""
    return [*others(data_dir), *(name for name in known_sets() if place_of(name, data_dir))]


def fetch(name: str, data_dir: Path) -> tuple[Path, bool]:
    """Return the folder of a data set, and whether it had to be downloaded.

    Raises:
        DataError: It cannot be downloaded, or what is there is not whole.
    """
    there = place_of(name, data_dir)
    folder = there or datasets.locate(name, data_dir=data_dir)
    _, lacks = _at_a_glance(folder, find(name))
    if lacks:
        raise DataError(f"{lacks[0]}; complete {folder}, or move it away and fetch again")
    return folder, there is None


def describe(name: str, data_dir: Path) -> dict[str, Any]:
    """Return everything that is known of a data set without reading it, as JSON values.

    Raises:
        DataError: Nobody knows the name, and there is no such folder.
    """
    known = find(name)
    folder = place_of(name, data_dir) if known else datasets.locate(name, data_dir=data_dir, offline=True)
    record, warnings = _at_a_glance(folder, known) if folder else ("", _interrupted(known, data_dir))
    return {
        "name": known.name if known else name,
        "split": known and known.split,
        "documents": known and known.documents,
        "queries": known and known.queries,
        "judgements": known and known.judgements,
        "licence": known and known.licence,
        "own_id_dropped": getattr(known, "drop_own_ids", False),
        "at_hand": folder is not None,
        **{key: getattr(known, key, None) or None for key in EXTRAS},
        "folder": folder and str(folder),
        "splits": sorted(datasets.splits(folder)) if folder else [],
        "fetched": record or None,
        "warnings": warnings,
    }


def _at_a_glance(folder: Path, known: ListedSet | None) -> tuple[str, list[str]]:
    """Return what the receipt of a folder says and what the folder lacks, looking at names only."""
    try:
        if known is None or isinstance(known, KnownSet):  # what has a layout of its own is not looked into
            find_file(folder, "corpus.jsonl")
            find_file(folder, "queries.jsonl")
        if isinstance(known, KnownSet):
            datasets.qrels_file(folder, known.split)
        receipt = receipts.find(folder)
    except DataError as error:
        return "", [str(error)]
    return f"{len(receipt.files)} files, archive md5 {receipt.md5}" if receipt else _NO_RECORD, []


def _interrupted(known: ListedSet | None, data_dir: Path) -> list[str]:
    """Say how much of an archive has come, where its transfer broke."""
    part = data_dir / f"{getattr(known, 'archive', None)}.zip.part"
    if not part.is_file():
        return []
    return [
        f"a download was interrupted, {part.stat().st_size:,} bytes are in {part}; fetch goes on from there"
    ]


class Verdict(NamedTuple):
    """What the verification of one data set found.

    Attributes:
        name: The name it was asked for.
        folder: Where it is; None if it is not at hand.
        documents: Documents found; None, as the following, where they could not be read.
        queries: Judged queries found.
        judgements: Judgements found.
        checksums: What its receipt says of its files, or what stood in for one.
        problem: What is wrong, in a sentence, or None.
        warnings: What was noticed and does no harm.
    """

    name: str
    folder: Path | None = None
    documents: int | None = None
    queries: int | None = None
    judgements: int | None = None
    checksums: str = ""
    problem: str | None = None
    warnings: tuple[str, ...] = ()


def verify(name: str, data_dir: Path, progress: Progress = SILENT) -> Verdict:
    """Read every line of a data set at hand, and compare it with its pinned counts and its receipt.

    Judgements of all splits are read; counted are those of the usual one. Nothing is ever downloaded.
    """
    folder = None
    try:
        folder = datasets.locate(name, data_dir=data_dir, offline=True)
        splits = datasets.splits(folder)
        split = None if find(name) or "test" in splits else min(splits, default=None)
        dataset = datasets.load(name, data_dir=data_dir, split=split, offline=True, progress=progress)
        for path in splits.values():
            read_qrels(path)
        checksums, changed = _compare(folder, find(dataset.name), progress)
    except DataError as error:
        return Verdict(name, folder, problem=str(error))
    mismatch = dataset.mismatch and f"this is not the public set of that name: {dataset.mismatch}"
    return Verdict(
        name,
        folder,
        len(dataset.corpus),
        len(dataset.queries),
        sum(map(len, dataset.qrels.values())),
        checksums,
        "; ".join(filter(None, [mismatch, *changed])) or None,
        () if mismatch else dataset.warnings,
    )


def _compare(folder: Path, known: ListedSet | None, progress: Progress) -> tuple[str, list[str]]:
    """Return what to say of a folder's checksums, and what is wrong with them."""
    receipt = receipts.find(folder)
    if receipt is None:
        instead = "the pinned counts compared" if known else "no counts are pinned"
        return f"{_NO_RECORD}; every line read, {instead}", []
    with progress.task("compare checksums", None):
        changed = receipts.changes(folder, receipt)
    pinned = getattr(known, "md5", None)
    if pinned not in (None, receipt.md5):
        changed.append(f"it was fetched from an archive with md5 {receipt.md5}, not {pinned}")
    return "differ" if changed else f"{len(receipt.files)} files as fetched", changed
