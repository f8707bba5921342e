"""An inventory of data sets: public, on disk, complete, unchanged since their download."""

from pathlib import Path
from typing import Any, NamedTuple

from llara_eval.core.errors import CheckFailedError, DataError
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.datasets import hub_manifest
from llara_eval.datasets import known as catalogue
from llara_eval.datasets import load as datasets
from llara_eval.datasets.download import changes, find_manifest
from llara_eval.datasets.files import configurations_of
from llara_eval.datasets.folder import read_split, require_files, splits
from llara_eval.datasets.known import KnownDataset, find
from llara_eval.datasets.layout import Address

_NO_MANIFEST = "no record of a download"


def folder_of(name: str, data_dir: Path) -> Path | None:
    """Return the folder of a data set, or None if it is not on disk."""
    try:
        return datasets.locate(name, data_dir=data_dir, offline=True)
    except DataError:
        return None


def others(data_dir: Path) -> list[str]:
    """Return the names of the data sets in ``data_dir`` other than the public ones, with configurations."""
    return sorted(
        f"{folder.name}:{configuration}" if configuration else folder.name
        for folder, configurations in _configurations(data_dir).items()
        if not isinstance(configurations, Exception)
        for configuration in configurations
    )


def damaged(data_dir: Path) -> dict[str, str]:
    """Return the names of the folders in ``data_dir`` that :func:`others` leaves out, and what is wrong."""
    return {
        folder.name: str(error)
        for folder, error in _configurations(data_dir).items()
        if isinstance(error, Exception)
    }


def _configurations(data_dir: Path) -> dict[Path, list[str] | Exception]:
    """Return the configurations of each folder that is no public data set, or why it cannot be read."""
    configurations: dict[Path, list[str] | Exception] = {}
    for folder in sorted(data_dir.iterdir()) if data_dir.is_dir() else ():
        if folder.is_dir() and not folder.name.startswith(".") and not find(folder.name):
            try:
                configurations[folder] = configurations_of(folder)
            except (CheckFailedError, DataError, OSError) as error:
                configurations[folder] = error
    return configurations


def at_hand(data_dir: Path) -> list[str]:
    """Return the names of the data sets in ``data_dir``, damaged ones among them; the public ones last."""
    known = (name for name in catalogue.KNOWN if folder_of(name, data_dir))
    return [*others(data_dir), *damaged(data_dir), *known]


def fetch(name: str, data_dir: Path, progress: Progress = SILENT) -> tuple[Path, bool]:
    """Return the folder of a data set, and whether it has just been downloaded.

    Raises:
        DataError: The data set cannot be downloaded, or its folder lacks a file.
    """
    present = folder_of(name, data_dir)
    folder = present or datasets.locate(name, data_dir=data_dir, progress=progress)
    _, problems = _check_files(folder, find(name))
    if problems:
        raise DataError(f"{problems[0]}; complete {folder}, or move it away and fetch again")
    return folder, present is None


def describe(name: str, data_dir: Path) -> dict[str, Any]:
    """Return the facts about a data set as JSON values, without reading its documents.

    Raises:
        DataError: The name is neither that of a public data set nor that of a folder.
    """
    known = find(name)
    folder = folder_of(name, data_dir) if known else datasets.locate(name, data_dir=data_dir, offline=True)
    manifest, warnings = _check_files(folder, known) if folder else ("", _interrupted(known, data_dir))
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
        "hub": facts.hub,
        "archive_bytes": facts.archive_bytes,
        "md5": facts.md5,
        "files": [" or ".join(names) for names in facts.files],
        "obtain": facts.obtain or None,
        "note": facts.note or None,
        "folder": folder and str(folder),
        "splits": _splits(folder) if folder else [],
        "fetched": manifest or None,
        "warnings": warnings,
    }


def _splits(folder: Path) -> list[str]:
    """Return the splits of a folder; none if it cannot be read, of which there is a warning already."""
    try:
        return sorted(splits(folder))
    except (CheckFailedError, DataError):
        return []


def _check_files(folder: Path, known: KnownDataset | None) -> tuple[str, list[str]]:
    """Return a summary of a folder's manifest, and messages about a missing file or a bad manifest."""
    try:
        if known is None or not known.files:
            require_files(folder, known.split if known else None)
        manifest = find_manifest(Address.of(folder).folder)
    except (CheckFailedError, DataError) as error:
        return "", [str(error)]
    if manifest is not None:
        archive = f"archive md5 {manifest.md5}" if manifest.md5 else manifest.url
        return f"{len(manifest.files)} files, {archive}", []
    of_hub = hub_manifest.manifest_of(folder)
    if of_hub is None:
        return _NO_MANIFEST, []
    return f"{hub_manifest.source_of(folder)}, {_stated(of_hub)}", []


def _stated(manifest: hub_manifest.HubManifest) -> str:
    """Return for how many files the hub states a checksum."""
    parts = filter(None, (manifest, manifest.judgements))
    checksums = [checksum for part in parts for checksum in part.files.values()]
    return f"{sum(map(bool, checksums))} of {len(checksums)} files have a checksum"


def _interrupted(known: KnownDataset | None, data_dir: Path) -> list[str]:
    """Return a warning if an interrupted download has left the first bytes of an archive."""
    part = data_dir / f"{known.archive}.zip.part" if known and known.archive else None
    if part is None or not part.is_file():
        return []
    return [f"a download was interrupted, {part.stat().st_size:,} bytes are in {part}; fetch resumes it"]


class Verdict(NamedTuple):
    """The outcome of verifying one data set.

    Attributes:
        name: The name that the caller gave.
        folder: The folder; None if the data set is not on disk.
        documents: Number of documents; None, like the next two, if the files could not be read.
        queries: Number of judged queries.
        judgements: Number of judgements.
        checksums: The outcome of comparing checksums, or the comparison that was made instead.
        problem: The defects, in a sentence, or None.
        warnings: Sentences about unusual content that is no defect.
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
    """Read every line of a data set on disk, and compare it with its pinned counts and its manifest.

    The judgements of all splits are read, and those of the default split are counted. Nothing is downloaded.
    """
    folder = None
    try:
        folder = datasets.locate(name, data_dir=data_dir, offline=True)
        qrels_files = splits(folder)
        split = None if find(name) or "test" in qrels_files else min(qrels_files, default=None)
        dataset = datasets.load(name, data_dir=data_dir, split=split, offline=True, progress=progress)
        for name_of_split in qrels_files:
            read_split(folder, name_of_split)
        checksums, changed = _compare(folder, find(dataset.name), progress)
    except (CheckFailedError, DataError) as error:
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
    """Return the outcome of comparing a folder's checksums, and the differences."""
    manifest = find_manifest(Address.of(folder).folder)
    of_hub = hub_manifest.manifest_of(folder) if manifest is None else None
    if of_hub is not None:
        with progress.task("compare checksums", None):
            problems = hub_manifest.changes(of_hub)
        return "differ" if problems else _stated(of_hub), problems
    if manifest is None:
        comparison = "the pinned counts compared" if known else "no counts are pinned"
        return f"{_NO_MANIFEST}; every line read, {comparison}", []
    with progress.task("compare checksums", None):
        problems = changes(folder, manifest)
    if known and known.md5 not in (None, manifest.md5):
        problems.append(f"it was fetched from an archive with md5 {manifest.md5}, not {known.md5}")
    return "differ" if problems else f"{len(manifest.files)} files as fetched", problems
