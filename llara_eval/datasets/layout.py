"""The files of a listing that hold documents, queries and judgements: in BEIR's layout or the hub's.

A file or a folder is called ``corpus``, ``queries`` or ``qrels`` (on the hub also ``default`` or ``data``,
the default configuration), and the name of a file may have a split and the number of a part:
``corpus.jsonl``, ``qrels/test.tsv``, ``corpus/train-00000-of-00002.parquet``, ``default/test/0000.parquet``.
If the README.md lists configurations with these names, as on the hub, their files count.

Data sets in several languages have a configuration for each, as those of mteb: ``de-corpus``,
``de-queries`` and ``de-qrels`` (or ``corpus-de``, …) are the configuration ``de``. What one of them lacks is
shared by all, such as one corpus with queries in several languages. The hub also has data sets whose splits
are called ``corpus`` and ``queries``, and whose judgements are in another repository, ``<name>-qrels``.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from llara_eval.core.errors import CheckFailedError, DataError

CARD = "README.md"

APART = "-qrels"
"""What follows the name of a data set in the name of the repository or folder of its judgements."""

_ROLES = {"corpus": "corpus", "queries": "queries", "query": "queries", "qrels": "qrels"}
"""Name of a file, a folder, a configuration or a split → what it holds."""

_DEFAULTS = ("default", "data")
"""Names of the default configuration and its folder: judgements, if no split is named like a role."""

_OF_CONFIGURATION = re.compile(
    rf"(?P<name>.+)[-_](?P<role>{'|'.join(_ROLES)})|(?P<first>{'|'.join(_ROLES)})[-_](?P<rest>.+)"
)
"""The name of a part of one of several configurations: ``de-corpus`` or ``corpus-de``."""

_ENDINGS = (".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".parquet")
"""Endings of the files that are read; of two forms of one thing, the first counts."""

_PART = re.compile(r"-\d{5}-of-\d{5}(-[0-9a-f]+)?$")
"""The end of the name of one of several files, before its ending."""

_LISTED = 12
"""The most configurations that a message lists."""

File = TypeVar("File")
"""A file: its name below a folder with ``/`` as separator, or its path."""

Files = Mapping[str, tuple[File, ...]]
"""Split, or "" → files."""


class Layout(NamedTuple, Generic[File]):
    """The files of a data set by their split."""

    corpus: Files[File]
    queries: Files[File]
    qrels: Files[File]


Layouts = Mapping[str, Layout[str]]
"""Configuration, or "" for files of none → layout."""


class Address(NamedTuple):
    """A folder and one of its configurations, in a path ``folder:configuration``.

    Attributes:
        folder: The folder.
        configuration: The configuration; "" where none is named.
    """

    folder: Path
    configuration: str

    @classmethod
    def of(cls, path: Path) -> "Address":
        """Return the address that a path means: a colon in the name of a folder that exists is no sign."""
        name, colon, configuration = path.name.rpartition(":")
        return (
            cls(path, "")
            if not (name and colon) or path.is_dir()
            else cls(path.with_name(name), configuration)
        )


class _Item(NamedTuple):
    """A file whose name, or a README.md, says what it holds."""

    configuration: str
    role: str
    split: str
    name: str


def choose(files: Files[File], split: str | None) -> tuple[File, ...]:
    """Return the files of documents or queries for a split: its own, else those of no split, else all."""
    for key in (split, ""):
        if key is not None and key in files:
            return files[key]
    return tuple(name for names in files.values() for name in names)


def arrange(names: Iterable[str], card: str = "") -> Layouts:
    """Return the layouts of the files of a listing, that of no configuration among them.

    Args:
        names: The names of the files, with ``/`` as separator.
        card: The text of the README.md.

    Raises:
        DataError: The head of the README.md is not YAML.
    """
    listed = sorted(names)
    both = [_layouts(items) for items in (_by_card(listed, card), _by_name(listed))]
    return max(both, key=lambda layouts: max(sum(map(bool, layout)) for layout in layouts.values()))


def arrange_judgements(names: Iterable[str], card: str = "") -> Files[str]:
    """Return the judgements of a listing that has nothing else; a file may be named by its split alone."""
    listed = sorted(names)
    plain = arrange(listed, card)[""].qrels
    return (
        plain
        or _layouts(_Item("", "qrels", _stem(name), name) for name in listed if "/" not in name)[""].qrels
    )


def choose_configuration(layouts: Layouts, configuration: str, origin: object) -> Layout[str]:
    """Return the layout of a configuration; where none is named, that of no configuration or the only one.

    Args:
        layouts: The layouts.
        configuration: The name of the configuration, or "".
        origin: The name of the data set in messages.

    Raises:
        DataError: There is no such configuration.
        CheckFailedError: No configuration is named, and several may be meant; the message has their names.
    """
    plain = layouts[""]
    whole = [name for name, layout in layouts.items() if name and all(layout)]
    if configuration:
        if configuration not in whole:
            raise DataError(f"{origin} has no configuration {configuration!r}; it has {_enumerated(whole)}")
        return layouts[configuration]
    if all(plain) or not whole:
        return plain
    if len(whole) == 1 and not any(plain):
        return layouts[whole[0]]
    raise CheckFailedError(
        f"{origin}: it is unclear which configuration is meant, of {_enumerated(whole)}; name one, such as "
        f"{origin}:{whole[0]}"
    )


def _enumerated(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "") or "none"


def _layouts(items: Iterable[_Item]) -> Layouts:
    """Return the layout of each configuration; of several forms of one thing, one counts."""
    names_by_form: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for configuration, role, split, name in items:
        ending = _ending(name)
        if ending and (role == "qrels" or not ending.startswith(".tsv")):
            key = (configuration, role, split)
            names_by_form.setdefault(key, {}).setdefault(ending, []).append(name)
    files: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {"": {role: {} for role in Layout._fields}}
    for (configuration, role, split), forms in names_by_form.items():
        roles = files.setdefault(configuration, {role: {} for role in Layout._fields})
        roles[role][split] = tuple(next(forms[ending] for ending in _ENDINGS if ending in forms))
    shared = files[""]
    return {
        configuration: Layout(**{role: by_split or shared[role] for role, by_split in roles.items()})
        for configuration, roles in files.items()
    }


def _by_name(names: Iterable[str]) -> list[_Item]:
    """Return the files whose name says what they hold."""
    items = [item for name in names if (item := _named(name, name)) is not None]
    # The default configuration has judgements only where no file is called qrels.
    explicit = any(
        item.role == "qrels" and not item.configuration and not _is_default(item.name) for item in items
    )
    return [item for item in items if not (item.role == "qrels" and explicit and _is_default(item.name))]


def _named(below: str, name: str) -> _Item | None:
    """Return the item of a file by its name below a folder, or None if the name says nothing."""
    first, *rest = below.split("/")
    stem = _stem(rest[-1] if rest else first)
    if not rest:
        word, _, split = stem.partition("-")
        if word in _ROLES:
            return _item("", _ROLES[word], split, name)
        part = _part_of(stem)
        return _item(*part, "", name) if part and part[1] else None
    if first in _DEFAULTS and (inner := _named("/".join(rest), name)) is not None:
        return inner
    part = _part_of(first)
    split = rest[0] if len(rest) > 1 else "" if stem.isdigit() else stem
    return _item(*part, "" if split == first else split, name) if part else None


def _is_default(name: str) -> bool:
    """Return whether a file is in the folder of the default configuration."""
    return name.split("/")[0] in _DEFAULTS


def _by_card(names: Iterable[str], card: str) -> list[_Item]:
    """Return the files that the configurations of a README.md list."""
    items = []
    for config in _configs(card):
        name_of_config = str(config.get("config_name"))
        part = _part_of(name_of_config)
        for split, pattern in _patterns(config.get("data_files")) if part else ():
            matching = [name for name in names if fnmatchcase(name, pattern)]
            items += [
                _item(*part, "" if split == name_of_config else split, name) for name in matching if part
            ]
    return items


def _part_of(name: str) -> tuple[str, str] | None:
    """Return configuration and role of a name, the role "" of the default one, or None if it has no role."""
    if name in _DEFAULTS:
        return "", ""
    if name in _ROLES:
        return "", _ROLES[name]
    match = _OF_CONFIGURATION.fullmatch(name)
    return match and (match["name"] or match["rest"], _ROLES[match["role"] or match["first"]])


def _item(configuration: str, role: str, split: str, name: str) -> _Item:
    """Return the item of a file: a split that is named like a role has the files of that role."""
    if split in _ROLES and role in ("", _ROLES[split]):
        role, split = _ROLES[split], ""
    role = role or "qrels"
    return _Item(configuration, role, (split or "test") if role == "qrels" else split, name)


def _ending(file: str) -> str:
    return next((ending for ending in _ENDINGS if file.endswith(ending)), "")


def _stem(file: str) -> str:
    """Return the name of a file without its ending and the number of its part."""
    return _PART.sub("", file.removesuffix(_ending(file)))


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
