"""The files of a folder that hold documents, queries and judgements: in BEIR's layout or the hub's.

A file or a folder is called ``corpus``, ``queries`` or ``qrels`` (on the hub also ``default`` or ``data``,
the default configuration), and the name of a file may have a split and the number of a part:
``corpus.jsonl``, ``qrels/test.tsv``, ``corpus/train-00000-of-00002.parquet``, ``default/test/0000.parquet``.
If the README.md of a folder lists configurations with these names, as on the hub, their files count.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from llara_eval.core.errors import DataError

CARD = "README.md"

_ROLES = {
    **{"corpus": "corpus", "queries": "queries", "query": "queries"},
    **{"qrels": "qrels", "default": "qrels", "data": "qrels"},
}
"""Name of a file, a folder or a configuration → what it holds."""

_ENDINGS = (".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".parquet")
"""Endings of the files that are read; of two forms of one thing, the first counts."""

_PART = re.compile(r"-\d{5}-of-\d{5}(-[0-9a-f]+)?$")
"""The end of the name of one of several files, before its ending."""

_DEPTH = 3
"""The levels of a folder in which files are looked for."""

Files = Mapping[str, tuple[str, ...]]
"""Split, or "" → names of files below a folder, with ``/`` as separator."""


class Layout(NamedTuple):
    """The files of a data set by their split."""

    corpus: Files
    queries: Files
    qrels: Files


def choose(files: Files, split: str | None) -> tuple[str, ...]:
    """Return the files of documents or queries for a split: its own, else those of no split, else all."""
    for key in (split, ""):
        if key is not None and key in files:
            return files[key]
    return tuple(name for names in files.values() for name in names)


def arrange(names: Iterable[str], card: str = "") -> Layout:
    """Return the layout of a folder.

    Args:
        names: The names of its files, with ``/`` as separator.
        card: The text of its README.md.

    Raises:
        DataError: The head of the README.md is not YAML.
    """
    listed = sorted(names)
    names_by_form: dict[tuple[str, str], dict[str, list[str]]] = {}
    for role, split, name in _by_card(listed, card) or _by_name(listed):
        ending = _ending(name)
        if ending and (role == "qrels" or not ending.startswith(".tsv")):
            names_by_form.setdefault((role, split), {}).setdefault(ending, []).append(name)
    files: dict[str, dict[str, tuple[str, ...]]] = {role: {} for role in Layout._fields}
    for (role, split), forms in names_by_form.items():
        files[role][split] = tuple(next(forms[ending] for ending in _ENDINGS if ending in forms))
    return Layout(**files)


def layout_of(folder: Path) -> Layout:
    """Return the layout of a folder on disk."""
    card = folder / CARD
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    return arrange(_names(folder), text)


def _names(folder: Path, depth: int = _DEPTH, prefix: str = "") -> Iterator[str]:
    """Yield the names of the files in the first levels of a folder; hidden ones are left out."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.startswith("."):
            continue
        if path.is_dir() and depth > 1:
            yield from _names(path, depth - 1, f"{prefix}{path.name}/")
        elif path.is_file():
            yield prefix + path.name


def _by_name(names: Iterable[str]) -> list[tuple[str, str, str]]:
    """Return role, split and name of each file whose name says what it holds."""
    found = []
    for name in names:
        *folders, file = name.split("/")
        stem = _PART.sub("", file.removesuffix(_ending(file)))
        if folders:
            role = _ROLES.get(folders[0])
            split = stem if len(folders) == 1 else folders[1]
        else:
            first, _, split = stem.partition("-")
            role = _ROLES.get(first) if first not in ("default", "data") else None
        if role is not None:
            split = "" if split in (role, folders[0] if folders else role) else split
            found.append((role, (split or "test") if role == "qrels" else split, name))
    explicit = any(name.startswith("qrels") for role, _, name in found if role == "qrels")
    return [item for item in found if item[0] != "qrels" or not explicit or item[2].startswith("qrels")]


def _ending(file: str) -> str:
    return next((ending for ending in _ENDINGS if file.endswith(ending)), "")


def _by_card(names: Iterable[str], card: str) -> list[tuple[str, str, str]]:
    """Return role, split and name of each file that a README.md lists, or nothing if it lists too few."""
    found = []
    for config in _configs(card):
        role = _ROLES.get(str(config.get("config_name")))
        for split, pattern in _patterns(config.get("data_files")) if role else ():
            matching = [name for name in names if fnmatchcase(name, pattern)]
            key = "" if split == config["config_name"] else split
            found += [(str(role), key, name) for name in matching]
    return found if {role for role, _, _ in found} == {"corpus", "queries", "qrels"} else []


def _configs(card: str) -> list[Mapping[str, Any]]:
    """Return the configurations in the head of a README.md."""
    import yaml

    head = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", card, re.DOTALL)
    try:
        values = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError as error:
        raise DataError(f"{CARD}: its head is not YAML ({error})") from error
    configs = values.get("configs") if isinstance(values, Mapping) else None
    return [config for config in configs or [] if isinstance(config, Mapping)]


def _patterns(data_files: Any) -> Iterator[tuple[str, str]]:
    """Yield split and pattern of the ``data_files`` of a configuration, in all forms that the hub allows."""
    if isinstance(data_files, str):
        yield "train", data_files
    elif isinstance(data_files, Mapping):
        for split, patterns in data_files.items():
            for pattern in patterns if isinstance(patterns, list) else [patterns]:
                yield str(split), str(pattern)
    elif isinstance(data_files, list):
        for item in data_files:
            if isinstance(item, Mapping):
                paths = item.get("path")
                yield from _patterns({str(item.get("split", "train")): paths})
            else:
                yield "train", str(item)
