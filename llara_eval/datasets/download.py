"""Public archives: fetched so that a broken transfer goes on, and unpacked only when proven right."""

import hashlib
import logging
import shutil
import zipfile
from pathlib import Path, PurePosixPath

import requests
from tqdm.auto import tqdm

from llara_eval.core.errors import DataError
from llara_eval.datasets import receipts
from llara_eval.datasets.known import RECIPES, KnownSet

logger = logging.getLogger(__name__)

_TIMEOUT = 30
"""Seconds without a byte before a transfer counts as broken."""

_CHUNK = 1 << 20


def fetch_archive(known: KnownSet, data_dir: Path) -> None:
    """Download, verify and unpack a public set into ``data_dir/<archive>``.

    ``beir.util.download_url`` starts again from nothing, accepts an error page as data and checks
    no checksum, so the transfer is ours; unpacking is ``beir.util.unzip``, into a temporary
    folder that is renamed when it is complete and has its receipt.

    Raises:
        DataError: The set is licensed, the transfer failed (what has come is kept and the next call goes
            on), the checksum is wrong, the archive would write outside its folder or lacks the set,
            or an incomplete folder is in the way.
    """
    if known.url is None or known.md5 is None:
        raise DataError(
            f"{known.name} is not in {data_dir}; it is licensed and never downloaded. {known.obtain} "
            f"Put corpus.jsonl, queries.jsonl and qrels/{known.split}.tsv into {data_dir / known.folder}, "
            f"made as {RECIPES} says"
        )
    target = data_dir / known.archive
    if target.exists():
        raise DataError(f"{target} is there but does not hold {known.name}: move it away, or complete it")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{data_dir}: not a folder data sets can be put into ({error})") from error
    archive = data_dir / f"{known.archive}.zip"
    if not archive.is_file():
        part = archive.with_suffix(".zip.part")
        download(known.url, part)
        _verify(part, known)
        part.rename(archive)
    else:
        _verify(archive, known)
    _refuse_escapes(archive)
    unpacked = data_dir / f".{known.archive}.unpacking"
    shutil.rmtree(unpacked, ignore_errors=True)
    from beir.util import unzip  # imports torch: only when something is unpacked

    unzip(str(archive), str(unpacked))
    if not (unpacked / known.archive).is_dir():
        raise DataError(f"{archive}: there is no folder {known.archive!r} in it")
    receipts.write(unpacked / known.archive, url=known.url, md5=known.md5)
    (unpacked / known.archive).rename(target)
    shutil.rmtree(unpacked)
    archive.unlink()


def download(url: str, part: Path) -> None:
    """Fetch ``url`` into ``part``, going on where an earlier call stopped.

    Raises:
        DataError: The server refused or the transfer broke; ``part`` keeps what has come.
    """
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # a position in a compressed stream says nothing
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                return  # all of it is here already
            answer.raise_for_status()
            if answer.status_code != requests.codes.partial_content:
                have = 0  # the server sends all of it again
            length = int(answer.headers.get("Content-Length", 0))
            with (
                part.open("ab" if have else "wb") as file,
                tqdm(
                    total=have + length or None,
                    initial=have,
                    unit="B",
                    unit_scale=True,
                    desc=part.stem,
                    disable=None,
                ) as bar,
            ):
                for block in answer.iter_content(_CHUNK):
                    bar.update(file.write(block))
    except requests.RequestException as error:
        kept = part.stat().st_size if part.exists() else 0
        raise DataError(
            f"download of {url} failed: {error}; {kept:,} bytes are kept in {part}, "
            "the same command goes on from there"
        ) from error


def _verify(archive: Path, known: KnownSet) -> None:
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != known.md5:
        archive.unlink()
        raise DataError(
            f"{known.url}: the archive's md5 is {found}, not {known.md5}; it has been deleted, try again, "
            "and if it stays so the server's file has changed"
        )


def _refuse_escapes(archive: Path) -> None:
    """Raise if a member of the archive would be written outside the folder it is unpacked to."""
    with zipfile.ZipFile(archive) as members:
        for name in members.namelist():
            path = PurePosixPath(name.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts:
                raise DataError(f"{archive}: the member {name!r} would be written outside its folder")
