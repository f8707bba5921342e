"""Download of MS MARCO's files by ir_datasets, which has their addresses and verifies them.

Only the transfer is left to ir_datasets. Its reader of passages repairs their mojibake, so that its corpus
is not the one that published numbers were measured on; we keep the files as they were distributed.
"""

import os
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path

from llara_eval.core.errors import DataError
from llara_eval.core.files import atomic_write
from llara_eval.datasets.known import KnownDataset
from llara_eval.datasets.msmarco import SOURCES, Source, missing


def fetch(known: KnownDataset, data_dir: Path) -> None:
    """Download the files that a data set lacks into its folder, verified.

    Raises:
        DataError: ir_datasets does not have a file, or the transfer failed.
    """
    folder = data_dir / known.folder
    files: dict[Source, list[str]] = {}
    for names in missing(known, data_dir):
        name = next((name for name in names if SOURCES[name].record), None)
        if name is None:
            raise DataError(
                f"{known.name}: {names[0]} cannot be downloaded by ir_datasets; put it into {folder}, "
                f"it comes from {SOURCES[names[0]].url}"
            )
        files.setdefault(SOURCES[name], []).append(name)
    folder.mkdir(parents=True, exist_ok=True)
    for source, members in files.items():
        download = _download(source, known.folder, folder)
        if source.url.endswith(".tar.gz"):
            _unpack(download, members, folder)
            download.unlink()
        else:
            shutil.move(download, folder / source.url.rpartition("/")[2])


def _download(source: Source, folder_name: str, folder: Path) -> Path:
    """Return the path of a file as it is distributed, in a folder of downloads below the data folder."""
    home = folder.parent / ".ir_datasets"
    os.environ.setdefault("IR_DATASETS_HOME", str(home))  # ir_datasets makes this folder when it is imported
    from ir_datasets.util import DownloadConfig

    records = DownloadConfig.context(folder_name, base_path=str(home / folder_name))
    try:
        return Path(records[source.record].path())
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"download of {source.url} by ir_datasets failed: {error}; "
            f"try again, or put the file into {folder}"
        ) from error


def _unpack(archive: Path, names: Iterable[str], folder: Path) -> None:
    """Write members of an archive into a folder, each whole or not at all, in one pass."""
    missing_names = set(names)
    with tarfile.open(archive, mode="r|gz") as members:
        for member in members:
            content = members.extractfile(member) if member.name in missing_names else None
            if content is not None:
                with atomic_write(folder / member.name) as out:
                    shutil.copyfileobj(content, out)
                missing_names.remove(member.name)
    if missing_names:
        raise DataError(f"{archive}: {', '.join(sorted(missing_names))} is not in it")
