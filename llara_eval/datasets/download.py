"""Public archives: a broken transfer resumes, and an archive is unpacked only if its checksum is right.

A manifest beside the files holds the address and checksum of the archive and the checksums of the files, so
that the files can be verified without a network.
"""

import hashlib
import logging
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar

from llara_eval.core.decode import plain, read_record
from llara_eval.core.errors import DataError
from llara_eval.core.files import sha256_of, write_json
from llara_eval.core.folders import atomic_folder
from llara_eval.core.network import reason
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.core.reading import is_present
from llara_eval.datasets.known import RECIPES, KnownDataset

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"

_TIMEOUT = 30
"""Seconds without a byte before a transfer counts as broken."""

_CHUNK = 1 << 20

_ATTEMPTS = 4
"""How often a transfer is tried that fails for a passing reason."""

_WAIT = 1.0
"""Seconds before the second attempt; the time doubles with each one."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The origin of an unpacked archive and the checksums of its files.

    Attributes:
        schema: Version of this record.
        url: Address of the archive.
        md5: Checksum of the archive.
        files: Path of each file below the folder, with ``/`` as separator → SHA-256.
    """

    schema: Literal[1]
    url: str
    md5: str
    files: dict[str, str]


def fetch_archive(known: KnownDataset, data_dir: Path, progress: Progress = SILENT) -> None:
    """Download, verify and unpack a public data set into ``data_dir/<archive>``.

    Args:
        known: The data set.
        data_dir: The folder of data sets; it is created.
        progress: Shows how many bytes have arrived.

    Raises:
        DataError: The data set is licensed, the transfer failed (the next call resumes it), the checksum is
            wrong, the archive would write outside its folder or lacks it, or the target folder exists.
    """
    if known.archive is None or known.url is None or known.md5 is None:
        raise DataError(
            f"{known.name} is not in {data_dir}; it is licensed and never downloaded. {known.obtain} "
            f"Put corpus.jsonl, queries.jsonl and qrels/{known.split}.tsv into {data_dir / known.folder}, "
            f"made as {RECIPES} says"
        )
    target = data_dir / known.archive
    if target.exists():
        raise DataError(f"{target} exists but does not hold {known.name}: move it away, or complete it")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{data_dir}: no data set can be written into this folder ({error})") from error
    archive = data_dir / f"{known.archive}.zip"
    url = known.url
    if archive.is_file():
        _verify(archive, url, known.md5)
    else:
        logger.info("%s: licence %s; from %s", known.name, known.licence, url)
        url = _download_from_any(known.urls, archive, known.md5, progress)
    with atomic_folder(target) as folder:
        _unpack(archive, folder)
        write_manifest(folder, url=url, md5=known.md5)
    archive.unlink()


def _download_from_any(urls: Sequence[str], archive: Path, md5: str, progress: Progress) -> str:
    """Download an archive from the first address that gives it whole, and return that address.

    Raises:
        DataError: No address gives it; the message has the problem with each.
    """
    part = archive.with_suffix(".zip.part")
    problems: list[DataError] = []
    for url in urls:
        try:
            download(url, part, progress)
            _verify(part, url, md5)
        except DataError as error:
            problems.append(error)
            continue
        part.rename(archive)
        return url
    raise DataError("; then ".join(map(str, problems))) from problems[0]


def persistently(action: Callable[[], T], passes: Callable[[Exception], bool]) -> T:
    """Return the result of an action, which is repeated after a failure that may pass.

    Args:
        action: Called up to four times, with growing pauses.
        passes: Returns whether an error may pass; any other error is raised at once.
    """
    for attempt in range(_ATTEMPTS - 1):
        try:
            return action()
        except Exception as error:
            if not passes(error):
                raise
            logger.info("tried again in %.0f s: %s", _WAIT * 2**attempt, reason(error))
            time.sleep(_WAIT * 2**attempt)
    return action()


def download(url: str, part: Path, progress: Progress = SILENT) -> None:
    """Download ``url`` into ``part``, and resume where an earlier call or a broken transfer stopped.

    Raises:
        DataError: The server refused the request, or the transfer broke; ``part`` keeps the bytes received.
    """
    import requests

    try:
        persistently(lambda: _transfer(url, part, progress), _may_pass)
    except requests.RequestException as error:
        kept = part.stat().st_size if part.exists() else 0
        resumed = f"; {kept:,} bytes are kept in {part}, the same command resumes the download"
        raise DataError(f"download of {url} failed: {reason(error)}{resumed if kept else ''}") from error


def _may_pass(error: Exception) -> bool:
    """Return whether a failure may pass: a broken or truncated transfer, or an overloaded server."""
    import requests

    if isinstance(error, requests.HTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, requests.RequestException)


def _transfer(url: str, part: Path, progress: Progress) -> None:
    import requests

    resumed_at = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # byte ranges must count bytes of the file, not of its encoding
    if resumed_at:
        headers["Range"] = f"bytes={resumed_at}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # the file is complete
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            resumed_at = 0  # the server sends the whole file again
        length = int(response.headers.get("Content-Length", 0))
        with (
            part.open("ab" if resumed_at else "wb") as file,
            progress.task(f"download {part.stem}, bytes", resumed_at + length or None) as advance,
        ):
            advance(resumed_at)
            for block in response.iter_content(_CHUNK):
                advance(file.write(block))


def _verify(archive: Path, url: str, md5: str) -> None:
    with archive.open("rb") as file:
        checksum = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if checksum != md5:
        archive.unlink()
        raise DataError(
            f"{url}: the archive's md5 is {checksum}, not {md5}. The archive has been deleted; try again. If "
            "its md5 is still wrong, the file on the server has changed"
        )


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive whose top folder has the name of ``folder``; files beside that folder are dropped.

    Raises:
        DataError: A member would be written outside the folder, or the archive has no such folder.
    """
    with zipfile.ZipFile(archive) as content:
        members = {name: PurePosixPath(name.replace("\\", "/")) for name in content.namelist()}
    for name, path in members.items():
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"{archive}: the member {name!r} would be written outside its folder")
    if not any(path.parts[:1] == (folder.name,) for path in members.values()):
        raise DataError(f"{archive}: the archive has no folder {folder.name!r}")
    from beir.util import unzip  # this import is slow: it imports torch

    unzip(str(archive), str(folder.parent))


def write_manifest(folder: Path, *, url: str, md5: str) -> None:
    """Write the manifest of a folder with the unpacked files of an archive."""
    write_json(folder / MANIFEST, plain(Manifest(schema=1, url=url, md5=md5, files=_checksums(folder))))


def find_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a folder, or the part of the parent's manifest about the folder, or None.

    Raises:
        DataError: The manifest is malformed.
    """
    for root, prefix in ((folder, ""), (folder.parent, f"{folder.name}/")):
        if is_present(root / MANIFEST):
            try:
                manifest = read_record(root / MANIFEST, Manifest)
            except DataError as error:
                raise DataError(f"{error}; without this file, no checksums are compared") from error
            files = {
                name.removeprefix(prefix): checksum
                for name, checksum in manifest.files.items()
                if name.startswith(prefix)
            }
            return replace(manifest, files=files) if files else None
    return None


def changes(folder: Path, manifest: Manifest) -> list[str]:
    """Return a sentence for each file of the manifest that is changed or missing in a folder."""
    checksums = _checksums(folder)  # no path is ever taken from a manifest
    return [
        f"{name} has changed since the download" if name in checksums else f"{name} is missing"
        for name, checksum in manifest.files.items()
        if checksums.get(name) != checksum
    ]


def _checksums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
