"""A name or a folder → a :class:`Dataset`: found, downloaded where it is public, and checked."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from llara_eval.core.errors import DataError
from llara_eval.core.leases import Leases
from llara_eval.core.lines import find_file
from llara_eval.core.paths import DATA, home, user_path
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.core.suggest import did_you_mean
from llara_eval.core.types import Qrels
from llara_eval.datasets import hub, hub_manifest, irds, msmarco
from llara_eval.datasets import known as catalogue
from llara_eval.datasets.dataset import Dataset, Naming, UncheckedDataset, check
from llara_eval.datasets.download import find_manifest
from llara_eval.datasets.folder import corpus_of, judged_queries, read_judged, read_split
from llara_eval.datasets.hub_manifest import HubName
from llara_eval.datasets.known import KnownDataset
from llara_eval.datasets.layout import Address, is_folder
from llara_eval.datasets.limited import limited, limited_qrels, whole
from llara_eval.datasets.own_ids import OwnIds
from llara_eval.scoring.judgements import read_qrels

DEMO = "demo"
"""Name of the small test collection that comes with the package."""

DEMO_FOLDER = DATA / "demo"

_LONGEST_DOWNLOAD = 86_400.0
"""Seconds after which the download of another process counts as abandoned."""


def load(
    name_or_folder: str,
    *,
    data_dir: Path,
    split: str | None = None,
    offline: bool = False,
    own_ids: OwnIds | None = None,
    limit: int | None = None,
    progress: Progress = SILENT,
) -> Dataset:
    """Find a data set, download it if it is public and missing, and read all of it once.

    Args:
        name_or_folder: A folder (see :mod:`llara_eval.datasets.layout`), the name of a public data set (see
            :mod:`llara_eval.datasets.known`) or of a folder in ``data_dir``, ``demo``,
            ``hf:org/name[@revision]`` on the hub, or ``irds:ID`` of ir_datasets. A folder or a name of the
            hub may be followed by ``:`` and one of its configurations.
        data_dir: The folder of named data sets, also for downloads.
        split: The split of the judgements; None means the split whose scores are published, or ``test``.
        offline: Whether downloads are forbidden.
        own_ids: Whether the document with a query's own identifier is dropped from its ranking or kept; None:
            as the data set declares it.
        limit: The number of judged queries of a part of the data set, see
            :func:`llara_eval.datasets.limited.limited`; None: the whole data set.
        progress: The display of progress.

    Raises:
        DataError: The data set is missing and cannot be downloaded, or its content is malformed.
        CheckFailedError: The data set has several configurations, and none is named.
    """
    dataset = find(name_or_folder, data_dir=data_dir, split=split, offline=offline, progress=progress)
    if limit is not None:
        dataset = limited(dataset, limit, progress)
    return check(dataset, progress, own_ids=own_ids)


def find(
    name_or_folder: str, *, data_dir: Path, split: str | None, offline: bool, progress: Progress = SILENT
) -> UncheckedDataset:
    """Find a data set as :func:`load` does, but read only its judgements and queries."""
    official = _official(name_or_folder)
    if official is None:
        folder = locate(name_or_folder, data_dir=data_dir, offline=offline, progress=progress)
        names = naming(name_or_folder, data_dir=data_dir)
        split = split or names.split
        judged = read_judged(folder, split)
        return UncheckedDataset(names, split, *judged, corpus_of(folder, split), source=_source_of(folder))
    if split not in (None, official.split):
        raise DataError(f"{official.name} has no split {split!r}: its judgements are in its name")
    files = _official_files(official, data_dir, offline)
    qrels = read_qrels(files.qrels)
    queries = judged_queries(files.queries, msmarco.read_queries(files.queries), qrels, official.split)
    names = naming(official.name, data_dir=data_dir)
    return UncheckedDataset(names, official.split, qrels, queries, files.documents)


def _source_of(folder: Path) -> str:
    """Return where a folder was downloaded from, with the revision or the checksum; "" if that is unknown."""
    manifest = find_manifest(Address.of(folder).folder)
    if manifest is None:
        return hub_manifest.source_of(folder)
    return f"{manifest.url} (md5 {manifest.md5})" if manifest.md5 else manifest.url


def naming(name_or_folder: str, *, data_dir: Path) -> Naming:
    """Return the names that a data set may have, even if its files are missing; no file is read."""
    official = _official(name_or_folder)
    if official is not None:  # files with other counts are named after their data folder
        return Naming(official, f"{data_dir.resolve().name}/{official.name}")
    if name_or_folder.startswith((hub_manifest.PREFIX, irds.PREFIX)):
        return Naming(None, name_or_folder)
    try:
        folder = locate(name_or_folder, data_dir=data_dir, offline=True).resolve()
    except DataError:  # the files are missing, but there may be results
        folder = Path(name_or_folder).resolve()
    known = _claimed_dataset(name_or_folder, folder)
    taken = known is not None and known.name == folder.name
    return Naming(known, f"{folder.parent.name}/{folder.name}" if taken else folder.name)


def judgements(name: str, split: str, *, data_dir: Path) -> Qrels:
    """Return the judgements of a data set by the name of its results; nothing is downloaded.

    Raises:
        DataError: The judgements are missing or malformed.
    """
    name, limit = whole(name)
    qrels = _whole_judgements(name, split, data_dir)
    return qrels if limit is None else limited_qrels(qrels, limit)


def _whole_judgements(name: str, split: str, data_dir: Path) -> Qrels:
    for known in catalogue.KNOWN.values():
        if known.files and name in naming(known.name, data_dir=data_dir).names:
            return read_qrels(find_file(data_dir / known.folder, known.files[-1][0]))
    return read_split(locate(name, data_dir=data_dir, offline=True), split)


def _official(name: str) -> KnownDataset | None:
    """Return the data set of a name if it is read from official files, else None."""
    known = catalogue.find(name)
    return known if known and known.files else None


def _official_files(official: KnownDataset, data_dir: Path, offline: bool) -> msmarco.Files:
    """Return the official files of a data set; missing files are downloaded unless ``offline``."""
    if not offline and msmarco.missing(official, data_dir):
        from llara_eval.datasets.msmarco_download import fetch

        with _download_lease():
            fetch(official, data_dir)
    return msmarco.find(official, data_dir)


def locate(
    name_or_folder: str, *, data_dir: Path, offline: bool = False, progress: Progress = SILENT
) -> Path:
    """Return the folder of a data set; a missing public data set is downloaded unless ``offline``.

    Args:
        name_or_folder: See :func:`load`, as for the other arguments.
        data_dir: The folder of named data sets.
        offline: Whether downloads are forbidden.
        progress: The display of progress.

    Raises:
        DataError: The name is neither a folder nor a public data set, or the download fails or is forbidden.
        CheckFailedError: The data set of the hub has several configurations, and none is named.
    """
    if name_or_folder == DEMO:
        return DEMO_FOLDER
    as_path = user_path(name_or_folder)
    if is_folder(as_path):
        return as_path
    if name_or_folder.startswith(irds.PREFIX):
        with _download_lease():
            return irds.fetch(name_or_folder, data_dir, offline=offline, progress=progress)
    if (of_hub := hub_manifest.parse(name_or_folder)) is not None:
        return _of_hub(of_hub, offline=offline)
    official = _official(name_or_folder)
    if official is not None:
        return _official_files(official, data_dir, offline).corpus.parent
    known = catalogue.find(name_or_folder)
    for name in (known.folder if known else name_or_folder, name_or_folder):
        if not Path(name).is_absolute() and ".." not in Path(name).parts and is_folder(data_dir / name):
            return data_dir / name
    if known is None:
        raise DataError(
            f"{name_or_folder!r} is neither a folder, nor a folder in {data_dir}, nor a public data set; "
            f"`llara-eval datasets` lists the names, {hub_manifest.PREFIX}org/name is one of the hub, and "
            f"{irds.PREFIX}ID one of ir_datasets."
            + did_you_mean(name_or_folder, [DEMO, *catalogue.KNOWN, *catalogue.AVERAGES])
        )
    if known.hub and (of_hub := hub_manifest.parse(f"{hub_manifest.PREFIX}{known.hub}")):
        return _of_hub(of_hub, offline=offline)
    if offline and known.url:
        raise DataError(
            f"{known.name} is not in {data_dir} and --offline forbids the download of {known.url}; "
            "unpack that zip in this folder, or name a folder that has its content"
        )
    from llara_eval.datasets.download import fetch_archive

    with _download_lease():
        if not (data_dir / known.folder).is_dir():
            fetch_archive(known, data_dir, progress)
    return data_dir / known.folder


def _of_hub(name: HubName, *, offline: bool) -> Path:
    """Return the folder of a data set of the hub; one process at a time downloads."""
    with nullcontext() if offline else _download_lease():
        return hub.fetch(name, offline=offline).address


def _download_lease() -> AbstractContextManager[bool]:
    """Return a lease that lets one process at a time download; the others wait and then find the files."""
    return Leases(home() / "leases", expires=_LONGEST_DOWNLOAD).hold("download", wait=True)


def _claimed_dataset(name_or_folder: str, folder: Path) -> KnownDataset | None:
    """Return the public data set that has the given name or the name of a resolved folder, or None."""
    for name in (name_or_folder, folder.name, f"{folder.parent.name}/{folder.name}"):
        known = catalogue.find(name)
        if known and not known.files:
            return known
    return None
