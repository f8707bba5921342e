"""Data sets of the Hugging Face hub, by name and revision: only the files of the data set are downloaded.

The files stay in the hub's own cache; what belongs to a data set: :mod:`llara_eval.datasets.hub_manifest`.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from llara_eval.core.errors import DataError
from llara_eval.core.files import sha256_of
from llara_eval.core.network import hub_endpoint, hub_errors, not_downloaded
from llara_eval.datasets import hub_manifest
from llara_eval.datasets.download import persistently
from llara_eval.datasets.hub_manifest import PREFIX, HubManifest, HubName
from llara_eval.datasets.layout import APART, CARD, Files, arrange, arrange_judgements, choose_layout

logger = logging.getLogger(__name__)

_LISTED = 8
"""The most files that a message lists."""


def fetch(name: HubName, *, offline: bool) -> HubManifest:
    """Return the manifest of a data set, whose files are on disk; missing files are downloaded.

    Args:
        name: The name, with a revision and a configuration if need be.
        offline: Whether the network must not be used.

    Raises:
        DataError: The data set or the revision does not exist, access to it must be asked for, it has no
            files of a known layout, the transfer fails in spite of repetition, or a checksum is wrong.
        CheckFailedError: The data set has several configurations, and none is named.
    """
    from huggingface_hub import constants

    offline = offline or constants.HF_HUB_OFFLINE
    known = hub_manifest.known_commit(name)
    manifest = hub_manifest.find(name, known) if known else None
    if manifest is not None and (offline or known == name.revision):
        return manifest
    if offline:
        at = f"@{name.revision}" if name.revision else ""
        raise not_downloaded(f"{name}{at}")
    return _download(name)


def _download(name: HubName) -> HubManifest:
    """Download a data set, with its judgements where they are in a repository of their own."""
    commit = _newest(name)
    manifest = hub_manifest.find(name, commit.sha)
    if manifest is None:
        layout = choose_layout(
            arrange(commit.checksums, commit.card()), name.configuration, f"{PREFIX}{name.repo}"
        )
        apart = HubName(f"{name.repo}{APART}")
        judgements = None if layout.qrels or not all(layout[:2]) else _download_judgements(apart)
        missing = [role for role, files in layout._asdict().items() if not files]
        if missing and judgements is None:
            raise DataError(_lacks(commit, missing))
        manifest = _get(commit, list(layout), judgements)
        hub_manifest.write(name, manifest)
    hub_manifest.remember_commit(name, commit.sha)
    return manifest


def _download_judgements(name: HubName) -> HubManifest | None:
    """Download judgements that are in a repository of their own; return None if there is no such one."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        commit = _newest(name)
    except DataError as error:
        reason = error.__cause__
        if isinstance(reason, RepositoryNotFoundError) and not isinstance(reason, GatedRepoError):
            return None
        raise
    files = arrange_judgements(commit.checksums, commit.card())
    return _get(commit, [files]) if files else None


class _Commit(NamedTuple):
    """A commit of a data set on the hub.

    Attributes:
        name: The name of the data set.
        sha: The commit.
        checksums: Every file of the commit → SHA-256 as the hub states it, or "".
        licence: The licence of the card; empty where it states none.
    """

    name: HubName
    sha: str
    checksums: dict[str, str]
    licence: str

    def fetch(self, file: str) -> Path:
        """Return a file in the hub's cache, where it is downloaded if need be."""

        def request() -> str:
            path: str = _api().hf_hub_download(self.name.repo, file, repo_type="dataset", revision=self.sha)
            return path

        return Path(_ask(self.name, request))

    def card(self) -> str:
        """Return the text of the README.md; empty if there is none."""
        if CARD not in self.checksums:
            return ""
        return self.fetch(CARD).read_text(encoding="utf-8", errors="replace")


def _newest(name: HubName) -> _Commit:
    """Return the commit that a revision stands for now."""
    api = _api()
    info = _ask(name, lambda: api.dataset_info(name.repo, revision=name.revision, files_metadata=True))
    if not info.sha:
        raise DataError(f"{name}: the hub at {api.endpoint} states no commit, so nothing is pinned")
    checksums = {file.rfilename: file.lfs.sha256 if file.lfs else "" for file in info.siblings or []}
    return _Commit(name, info.sha, checksums, _licence(info))


def _get(commit: _Commit, parts: list[Files[str]], judgements: HubManifest | None = None) -> HubManifest:
    """Download files of a commit and return their manifest; the licence is said before.

    Raises:
        DataError: A transfer fails in spite of repetition, or a checksum is wrong.
    """
    name, sha, checksums, licence = commit
    files = sorted({file for part in parts for group in part.values() for file in group})
    logger.info(
        "%s at revision %s: licence %s; %d files, from %s",
        *(name.repo, sha[:12], licence or "not stated", len(files), _api().endpoint),
    )
    folder = Path()
    for file in [*files, *({CARD} & checksums.keys())]:
        path = commit.fetch(file)
        folder = path.parents[file.count("/")]
        if checksums[file] and sha256_of(path) != checksums[file]:
            path.resolve().unlink()
            path.unlink(missing_ok=True)  # without links, the cache has the file itself here
            raise DataError(
                f"{name.repo}: {file} has not the checksum that the hub states; it has been deleted, "
                "try again"
            )
    return HubManifest(
        schema=1,
        repo=name.repo,
        configuration=name.configuration,
        revision=sha,
        licence=licence,
        folder=str(folder),
        files={file: checksums[file] for file in files},
        judgements=judgements,
    )


def _lacks(commit: _Commit, missing: list[str]) -> str:
    """Return a sentence that says that documents, queries or judgements are missing."""
    listed = ", ".join([*commit.checksums][:_LISTED]) + (", …" if len(commit.checksums) > _LISTED else "")
    return (
        f"{commit.name} has no {' and no '.join(missing)} in a known layout (see docs/datasets.md); its "
        f"files: {listed or 'none'}"
    )


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=hub_endpoint())


def _licence(info: Any) -> str:
    """Return the licence of a card; empty where it states none."""
    stated = info.card_data and info.card_data.get("license")
    return ", ".join(stated) if isinstance(stated, list) else str(stated or "")


def _ask(name: HubName, request: Callable[[], Any]) -> Any:
    """Return what the hub answers; a request that fails for a passing reason is repeated."""
    page = f"https://huggingface.co/datasets/{name.repo}"
    with hub_errors(str(name), page=page, revision=name.revision):
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
