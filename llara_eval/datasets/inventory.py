"""The data sets known by name, those at hand, and whether what is at hand is what it should be."""

from pathlib import Path
from typing import Any, NamedTuple

from llara_eval.core.errors import DataError
from llara_eval.core.lines import find_file
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.datasets import known as catalogue
from llara_eval.datasets import load as datasets
from llara_eval.datasets.download import changes, find_receipt
from llara_eval.datasets.folder import qrels_file, splits
from llara_eval.datasets.known import KnownDataset, find
from llara_eval.scoring.trec import read_qrels

_NO_RECORD = "no record of a download"


def folder_of(name: str, data_dir: Path) -> Path | None:
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
    return [*others(data_dir), *(name for name in catalogue.KNOWN if folder_of(name, data_dir))]


def fetch(name: str, data_dir: Path, progress: Progress = SILENT) -> tuple[Path, bool]:
    """Return the folder of a data set, and whether it had to be downloaded.

    Raises:
        DataError: The data set cannot be downloaded, or the folder at hand is not whole.
    """
    at_hand = folder_of(name, data_dir)
    folder = at_hand or datasets.locate(name, data_dir=data_dir, progress=progress)
    _, lacks = _at_a_glance(folder, find(name))
    if lacks:
        raise DataError(f"{lacks[0]}; complete {folder}, or move it away and fetch again")
    return folder, at_hand is None


def describe(name: str, data_dir: Path) -> dict[str, Any]:
    """Return everything that is known of a data set without reading it, as JSON values.

    Raises:
        DataError: Nobody knows the name, and there is no such folder.
    """
    known = find(name)
    folder = folder_of(name, data_dir) if known else datasets.locate(name, data_dir=data_dir, offline=True)
    record, warnings = _at_a_glance(folder, known) if folder else ("", _interrupted(known, data_dir))
    facts = known or KnownDataset(name=name, folder=name, split="", licence="")
    return {
        "name": facts.name,
        "split": facts.split or None,
        "documents": facts.documents,
        "queries": facts.queries,
        "judgements": facts.judgements,
        "licence": facts.licence or None,
        "own_id_dropped": facts.drop_own_ids,
        "at_hand": folder is not None,
        "measures": list(facts.measures),
        "depth": facts.depth,
        "text_length": facts.text_length,
        "groups": list(facts.groups),
        "source": facts.source or None,
        "url": facts.url,
        "archive_bytes": facts.archive_bytes,
        "md5": facts.md5,
        "files": [" or ".join(names) for names in facts.files],
        "obtain": facts.obtain or None,
        "note": facts.note or None,
        "folder": folder and str(folder),
        "splits": sorted(splits(folder)) if folder else [],
        "fetched": record or None,
        "warnings": warnings,
    }


def _at_a_glance(folder: Path, known: KnownDataset | None) -> tuple[str, list[str]]:
    """Return what the receipt of a folder says and what the folder lacks, looking at names only."""
    try:
        if known is None or not known.files:
            find_file(folder, "corpus.jsonl")
            find_file(folder, "queries.jsonl")
            if known is not None:
                qrels_file(folder, known.split)
        receipt = find_receipt(folder)
    except DataError as error:
        return "", [str(error)]
    return f"{len(receipt.files)} files, archive md5 {receipt.md5}" if receipt else _NO_RECORD, []


def _interrupted(known: KnownDataset | None, data_dir: Path) -> list[str]:
    """Say how much of an archive has come, where its transfer broke."""
    part = data_dir / f"{known.archive}.zip.part" if known and known.archive else None
    if part is None or not part.is_file():
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
        files = splits(folder)
        split = None if find(name) or "test" in files else min(files, default=None)
        dataset = datasets.load(name, data_dir=data_dir, split=split, offline=True, progress=progress)
        for path in files.values():
            read_qrels(path)
        checksums, changed = _compare(folder, find(dataset.name), progress)
    except DataError as error:
        return Verdict(name, folder, problem=str(error))
    mismatch = dataset.mismatch and f"this is not the public data set of that name: {dataset.mismatch}"
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


def _compare(folder: Path, known: KnownDataset | None, progress: Progress) -> tuple[str, list[str]]:
    """Return what to say of a folder's checksums, and what is wrong with them."""
    receipt = find_receipt(folder)
    if receipt is None:
        instead = "the pinned counts compared" if known else "no counts are pinned"
        return f"{_NO_RECORD}; every line read, {instead}", []
    with progress.task("compare checksums", None):
        problems = changes(folder, receipt)
    if known and known.md5 not in (None, receipt.md5):
        problems.append(f"it was fetched from an archive with md5 {receipt.md5}, not {known.md5}")
    return "differ" if problems else f"{len(receipt.files)} files as fetched", problems
