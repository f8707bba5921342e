"""Download of MS MARCO's files by ir_datasets, which knows their addresses and verifies their checksums.

ir_datasets does the transfer alone. Its reader of passages repairs mojibake, while published numbers were
measured on the passages as distributed; therefore the files are kept and read as distributed.
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
    """Download the missing files of a data set into its folder.

    Raises:
        DataError: ir_datasets does not have a file, the transfer failed, or an archive lacks a file.
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
    for source, names_in_source in files.items():
        download = _download(source, folder)
        if source.url.endswith(".tar.gz"):
            _unpack(download, names_in_source, folder)
            download.unlink()
        else:
            shutil.move(download, folder / source.url.rpartition("/")[2])


def _download(source: Source, folder: Path) -> Path:
    """Download a distributed file into a folder of ir_datasets below the data folder, and return its path."""
    home = folder.parent / ".ir_datasets"
    os.environ.setdefault("IR_DATASETS_HOME", str(home))  # importing ir_datasets creates this folder
    from ir_datasets.util import DownloadConfig

    records = DownloadConfig.context(folder.name, base_path=str(home / folder.name))
    try:
        return Path(records[source.record].path())
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"download of {source.url} by ir_datasets failed: {error}; "
            f"try again, or put the file into {folder}"
        ) from error


def _unpack(archive: Path, names: Iterable[str], folder: Path) -> None:
    """Write the named members of an archive into a folder, each whole or not at all, in one pass."""
    missing_names = set(names)
    with tarfile.open(archive, mode="r|gz") as members:
        for member in members:
            content = members.extractfile(member) if member.name in missing_names else None
            if content is not None:
                with atomic_write(folder / member.name) as out:
                    shutil.copyfileobj(content, out)
                missing_names.remove(member.name)
    if missing_names:
        raise DataError(f"{archive}: the archive lacks {', '.join(sorted(missing_names))}")
