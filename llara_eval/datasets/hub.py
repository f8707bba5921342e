"""Data sets of the Hugging Face hub, by name and revision: only the files of the data set are downloaded.

The files stay in the hub's own cache (``HF_HOME``), and a manifest in the cache folder here says which files
of a revision belong to the data set and with which checksums; a revision without a manifest is not complete.
Files without a checksum of the hub (small ones, which Git keeps itself) are listed with an empty one.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from llara_eval.core.decode import plain, read_record
from llara_eval.core.errors import DataError
from llara_eval.core.files import sha256_of, slug, write_json, write_text
from llara_eval.core.network import hub_endpoint, hub_errors, not_downloaded
from llara_eval.core.paths import home
from llara_eval.datasets.download import persistently
from llara_eval.datasets.layout import CARD, Layout, arrange

logger = logging.getLogger(__name__)

PREFIX = "hf:"
"""Begins the name of a data set of the hub: ``hf:org/name`` or ``hf:org/name@revision``."""

_LISTED = 8
"""The most files that a message lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubManifest:
    """The files of a data set at one revision.

    Attributes:
        schema: Version of this record.
        repo: Name of the data set on the hub.
        revision: The commit.
        licence: The licence of the data set's card; empty where it states none.
        folder: The folder of the files.
        files: Path of each file below the folder → SHA-256 as the hub states it, or "".
    """

    schema: Literal[1]
    repo: str
    revision: str
    licence: str
    folder: str
    files: dict[str, str]


class HubName(NamedTuple):
    """The name of a data set on the hub.

    Attributes:
        repo: ``org/name``.
        revision: A commit, branch or tag; None: the newest.
    """

    repo: str
    revision: str | None


def parse(name: str) -> HubName | None:
    """Return the parts of ``hf:org/name@revision``, or None for another name.

    Raises:
        DataError: The name begins with ``hf:`` and has another form.
    """
    if not name.startswith(PREFIX):
        return None
    repo, at, revision = name.removeprefix(PREFIX).partition("@")
    if repo.count("/") != 1 or not all(repo.split("/")) or (at and not revision):
        raise DataError(f"{name!r}: expected hf:organisation/name or hf:organisation/name@revision")
    return HubName(repo, revision or None)


def fetch(name: HubName, *, offline: bool) -> HubManifest:
    """Return the manifest of a data set, whose files are on disk; missing files are downloaded.

    Args:
        name: Name and revision.
        offline: Whether the network must not be used.

    Raises:
        DataError: The data set or the revision does not exist, access to it must be asked for, it has no
            files of a known layout, the transfer fails in spite of repetition, or a checksum is wrong.
    """
    from huggingface_hub import constants

    known = _known_commit(name)
    if known is not None and (manifest := _manifest(name.repo, known)) is not None:
        pinned = name.revision is not None and known == name.revision
        if pinned or offline or constants.HF_HUB_OFFLINE:
            return manifest
    if offline or constants.HF_HUB_OFFLINE:
        at = f"@{name.revision}" if name.revision else ""
        raise not_downloaded(f"{PREFIX}{name.repo}{at}")
    return _download(name)


def source_of(folder: Path) -> str:
    """Return ``hf:org/name@commit`` of a folder in the hub's cache, and "" of any other folder."""
    repo, commit = _of_cache(folder)
    return f"{PREFIX}{repo}@{commit}" if repo else ""


def manifest_of(folder: Path) -> HubManifest | None:
    """Return the manifest of a folder in the hub's cache, or None."""
    repo, commit = _of_cache(folder)
    return _manifest(repo, commit) if repo else None


def changes(manifest: HubManifest) -> list[str]:
    """Return a sentence for each file that has not the checksum that the hub states."""
    return [
        f"{file} is not as the hub states it"
        for file, checksum in manifest.files.items()
        if checksum and sha256_of(Path(manifest.folder) / file) != checksum
    ]


def _of_cache(folder: Path) -> tuple[str, str]:
    """Return repo and commit of a folder in the hub's cache, and empty texts of any other folder."""
    *_, repo, snapshots, commit = ("", "", *folder.resolve().parts)
    if snapshots != "snapshots" or not repo.startswith("datasets--"):
        return "", ""
    return "/".join(repo.split("--")[1:]), commit


def _download(name: HubName) -> HubManifest:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub_endpoint())
    info = _ask(name, lambda: api.dataset_info(name.repo, revision=name.revision, files_metadata=True))
    if not info.sha:
        raise DataError(
            f"{PREFIX}{name.repo}: the hub at {api.endpoint} states no commit, so nothing is pinned"
        )
    revision: str = info.sha
    checksums = {file.rfilename: file.lfs.sha256 if file.lfs else "" for file in info.siblings or []}
    if (manifest := _manifest(name.repo, revision)) is not None:
        _remember(name, revision)
        return manifest

    def get(file: str) -> Path:
        return Path(
            _ask(name, lambda: api.hf_hub_download(name.repo, file, repo_type="dataset", revision=revision))
        )

    card = get(CARD).read_text(encoding="utf-8", errors="replace") if CARD in checksums else ""
    files = _files(name.repo, arrange(checksums, card), list(checksums))
    licence = _licence(info)
    logger.info(
        "%s at revision %s: licence %s; %d files, from %s",
        *(name.repo, revision[:12], licence or "not stated", len(files), api.endpoint),
    )
    folder = Path()
    for file in [*files, *({CARD} & checksums.keys())]:
        path = get(file)
        folder = path.parents[file.count("/")]
        if checksums[file] and sha256_of(path) != checksums[file]:
            path.resolve().unlink()
            path.unlink()
            raise DataError(
                f"{name.repo}: {file} has not the checksum that the hub states; it has been deleted, "
                "try again"
            )
    manifest = HubManifest(
        schema=1,
        repo=name.repo,
        revision=revision,
        licence=licence,
        folder=str(folder),
        files={file: checksums[file] for file in files},
    )
    write_json(_manifest_path(name.repo, revision), plain(manifest))
    _remember(name, revision)
    return manifest


def _ask(name: HubName, request: Any) -> Any:
    """Return what the hub answers; a request that fails for a passing reason is repeated."""
    page = f"https://huggingface.co/datasets/{name.repo}"
    with hub_errors(f"{PREFIX}{name.repo}", page=page, revision=name.revision):
        return persistently(request, _passing)


def _passing(error: Exception) -> bool:
    """Return whether a failure may pass: a broken connection, a truncated file, an overloaded server.

    The hub's library asks again for a file, but not for the facts about a data set; it raises
    LocalEntryNotFoundError when it has given up.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    response = getattr(error, "response", None)
    if response is not None:
        is_file = "/resolve/" in str(response.url)
        return not is_file and (response.status_code in (408, 429) or response.status_code >= 500)
    given_up = isinstance(error, LocalEntryNotFoundError | ValueError)
    return isinstance(error, OSError | _http_error()) and not given_up


def _http_error() -> type[Exception]:
    """Return the base class of the errors of the HTTP library that the hub's library uses."""
    from huggingface_hub.errors import HfHubHTTPError

    base: type[Exception] = HfHubHTTPError.__bases__[0]
    return base


def _files(repo: str, layout: Layout, names: list[str]) -> list[str]:
    """Return the files of a layout.

    Raises:
        DataError: Documents, queries or judgements are missing.
    """
    missing = [role for role, files in layout._asdict().items() if not files]
    if missing:
        listed = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
        apart = f"; if its judgements are in {repo}-qrels, put the files of both into one folder"
        raise DataError(
            f"{PREFIX}{repo} has no {' and no '.join(missing)} in a known layout (see docs/datasets.md); its "
            f"files: {listed or 'none'}{apart if missing == ['qrels'] else ''}"
        )
    return sorted({file for files in layout for group in files.values() for file in group})


def _licence(info: Any) -> str:
    """Return the licence of a card; empty where it states none."""
    stated = info.card_data and info.card_data.get("license")
    return ", ".join(stated) if isinstance(stated, list) else str(stated or "")


def _manifest_path(repo: str, revision: str) -> Path:
    return home() / "hub" / slug(repo) / f"{slug(revision)}.json"


def _manifest(repo: str, revision: str) -> HubManifest | None:
    """Return the manifest of a revision if all its files are there."""
    path = _manifest_path(repo, revision)
    if not path.is_file():
        return None
    manifest = read_record(path, HubManifest)
    return manifest if all((Path(manifest.folder) / file).is_file() for file in manifest.files) else None


def _known_commit(name: HubName) -> str | None:
    """Return the commit that a revision stood for when it was last asked for."""
    ref = _manifest_path(name.repo, "refs") / slug(name.revision or "main")
    if ref.is_file():
        return ref.read_text(encoding="utf-8").strip()
    return name.revision


def _remember(name: HubName, revision: str) -> None:
    write_text(_manifest_path(name.repo, "refs") / slug(name.revision or "main"), revision)
