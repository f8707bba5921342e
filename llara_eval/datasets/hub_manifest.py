"""What was downloaded from the Hugging Face hub: names of its data sets, and a manifest of each revision.

The files stay in the hub's own cache (``HF_HOME``), and a manifest in the cache folder here says which files
of a revision belong to the data set and with which checksums; a revision without a manifest is not complete.
Files without a checksum of the hub (small ones, which Git keeps itself) are listed with an empty one. Where
judgements are in a repository of their own, ``<name>-qrels``, their manifest is a part of it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from llara_eval.core.decode import plain, read_record
from llara_eval.core.errors import DataError
from llara_eval.core.files import sha256_of, slug, write_json, write_text
from llara_eval.core.paths import home
from llara_eval.core.reading import is_present, read_whole
from llara_eval.datasets.layout import Address

PREFIX = "hf:"
"""Begins the name of a data set of the hub: ``hf:org/name``, ``hf:org/name:configuration@revision``."""


class HubName(NamedTuple):
    """The name of a data set on the hub.

    Attributes:
        repo: ``org/name``.
        revision: A commit, branch or tag; None: the newest.
        configuration: One of its configurations; "" where none is named.
    """

    repo: str
    revision: str | None = None
    configuration: str = ""

    def __str__(self) -> str:
        """Return the name without its revision."""
        return f"{PREFIX}{self.repo}" + (f":{self.configuration}" if self.configuration else "")


def parse(name: str) -> HubName | None:
    """Return the parts of ``hf:org/name:configuration@revision``, or None for another name.

    Raises:
        DataError: The name begins with ``hf:`` and has another form.
    """
    if not name.startswith(PREFIX):
        return None
    address, at, revision = name.removeprefix(PREFIX).partition("@")
    repo, colon, configuration = address.partition(":")
    parts = [*repo.split("/"), *([revision] if at else ()), *([configuration] if colon else ())]
    if repo.count("/") != 1 or not all(parts):
        raise DataError(
            f"{name!r}: expected hf:organisation/name or hf:organisation/name:configuration@revision"
        )
    return HubName(repo, revision or None, configuration)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubManifest:
    """The files of a data set at one revision.

    Attributes:
        schema: Version of this record.
        repo: Name of the data set on the hub.
        configuration: The configuration whose files are listed; "" where none was named.
        revision: The commit.
        licence: The licence of the data set's card; empty where it states none.
        folder: The folder of the files.
        files: Path of each file below the folder → SHA-256 as the hub states it, or "".
        judgements: The manifest of the judgements, if they are in a repository of their own.
    """

    schema: Literal[1]
    repo: str
    configuration: str
    revision: str
    licence: str
    folder: str
    files: dict[str, str]
    judgements: "HubManifest | None" = None

    @property
    def address(self) -> Path:
        """The folder of the data set, or ``folder:configuration``."""
        return Path(self.folder + (f":{self.configuration}" if self.configuration else ""))

    @property
    def is_whole(self) -> bool:
        """Whether all files are on disk."""
        here = all((Path(self.folder) / file).is_file() for file in self.files)
        return here and (self.judgements is None or self.judgements.is_whole)


def source_of(path: Path) -> str:
    """Return ``hf:org/name@commit`` of a folder in the hub's cache, and "" of any other folder."""
    name = _of_cache(path)
    if name is None:
        return ""
    manifest = manifest_of(path)
    apart = manifest and manifest.judgements
    return f"{name}@{name.revision}" + (f" and {PREFIX}{apart.repo}@{apart.revision}" if apart else "")


def manifest_of(path: Path) -> HubManifest | None:
    """Return the manifest of a folder in the hub's cache, or None."""
    name = _of_cache(path)
    return name and find(name, str(name.revision))


def changes(manifest: HubManifest) -> list[str]:
    """Return a sentence for each file that has not the checksum that the hub states."""
    return [
        f"{file} is not as the hub states it"
        for part in filter(None, (manifest, manifest.judgements))
        for file, checksum in part.files.items()
        if checksum and sha256_of(Path(part.folder) / file) != checksum
    ]


def _of_cache(path: Path) -> HubName | None:
    """Return the name of a folder in the hub's cache with its commit, and None of any other folder."""
    folder, configuration = Address.of(path)
    *_, repo, snapshots, commit = ("", "", *folder.resolve().parts)
    if snapshots != "snapshots" or not repo.startswith("datasets--"):
        return None
    return HubName("/".join(repo.split("--")[1:]), commit, configuration)


def find(name: HubName, commit: str) -> HubManifest | None:
    """Return the manifest of a commit if all its files are on disk."""
    path = _path_of(name, commit)
    manifest = read_record(path, HubManifest) if is_present(path) else None
    return manifest if manifest and manifest.is_whole else None


def write(name: HubName, manifest: HubManifest) -> None:
    """Write the manifest of a data set whose files are on disk."""
    write_json(_path_of(name, manifest.revision), plain(manifest))


def known_commit(name: HubName) -> str | None:
    """Return the commit that a revision stood for when it was last asked for."""
    path = _reference(name)
    return read_whole(path).decode(errors="replace").strip() if is_present(path) else name.revision


def remember_commit(name: HubName, commit: str) -> None:
    """Write the commit that a revision stands for now."""
    write_text(_reference(name), commit)


def _path_of(name: HubName, commit: str) -> Path:
    """Return the file of a manifest."""
    key = f"{commit}:{name.configuration}" if name.configuration else commit
    return home() / "hub" / slug(name.repo) / f"{slug(key)}.json"


def _reference(name: HubName) -> Path:
    """Return the file with the commit that a branch, a tag or the newest revision stood for."""
    return home() / "hub" / slug(name.repo) / "refs" / slug(name.revision or "main")
