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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from llara_eval.core.errors import CheckFailedError, DataError

CARD = "README.md"

APART = "-qrels"
"""What follows the name of a data set in the name of the repository or folder of its judgements."""

_ROLES = {"corpus": "corpus", "queries": "queries", "query": "queries", "qrels": "qrels"}
"""Name of a file, a folder, a configuration or a split → what it holds."""

DEFAULTS = ("default", "data")
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
        if not name or not colon or path.is_dir():
            return cls(path, "")
        return cls(path.with_name(name), configuration)


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder, or means a configuration of one."""
    return Address.of(path).folder.is_dir()


class Item(NamedTuple):
    """A file whose name, or a README.md, says what it holds.

    Attributes:
        configuration: The configuration, or "".
        role: ``corpus``, ``queries`` or ``qrels``; of files that are no data set, any word.
        split: The split, or "".
        name: The name of the file.
    """

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
    by_split = [Item("", "qrels", stem_of(name), name) for name in listed if "/" not in name]
    return arrange(listed, card)[""].qrels or _layouts(by_split)[""].qrels


def choose_layout(layouts: Layouts, configuration: str, origin: object) -> Layout[str]:
    """Return the layout of a configuration; arguments and errors: :func:`choose_configuration`."""
    whole = [name for name, layout in layouts.items() if all(layout)]
    return layouts[choose_configuration(whole, configuration, origin, partial=any(layouts[""]))]


def choose_configuration(whole: Sequence[str], configuration: str, origin: object, *, partial: bool) -> str:
    """Return the name of a configuration; where none is named, "" if it is whole, or the only one.

    Args:
        whole: The configurations that have all that is needed; "" is that of no configuration.
        configuration: The name that was given, or "".
        origin: The name of the data set in messages.
        partial: Whether there are files of no configuration.

    Raises:
        DataError: There is no such configuration.
        CheckFailedError: No configuration is named, and several may be meant; the message has their names.
    """
    names = [name for name in whole if name]
    listed = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "") or "none"
    if configuration:
        if configuration not in names:
            raise DataError(f"{origin} has no configuration {configuration!r}; it has {listed}")
        return configuration
    if "" in whole or not names:
        return ""
    if len(names) == 1 and not partial:
        return names[0]
    raise CheckFailedError(
        f"{origin}: it is unclear which configuration is meant, of {listed}; name one, such as "
        f"{origin}:{names[0]}"
    )


def first_forms(items: Iterable[Item]) -> dict[tuple[str, str, str], tuple[str, ...]]:
    """Return (configuration, role, split) → names of its files; of several forms of one thing, one counts."""
    names_by_form: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for configuration, role, split, name in items:
        ending = _ending(name)
        if ending and (role == "qrels" or not ending.startswith(".tsv")):
            forms = names_by_form.setdefault((configuration, role, split), {})
            forms.setdefault(ending, []).append(name)
    return {
        key: tuple(next(forms[ending] for ending in _ENDINGS if ending in forms))
        for key, forms in names_by_form.items()
    }


def _layouts(items: Iterable[Item]) -> Layouts:
    """Return the layout of each configuration; what it lacks is that of no configuration."""
    files: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {"": {role: {} for role in Layout._fields}}
    for (configuration, role, split), names in first_forms(items).items():
        roles = files.setdefault(configuration, {role: {} for role in Layout._fields})
        roles[role][split] = names
    shared = files[""]
    return {
        configuration: Layout(**{role: by_split or shared[role] for role, by_split in roles.items()})
        for configuration, roles in files.items()
    }


def _by_name(names: Iterable[str]) -> list[Item]:
    """Return the files whose name says what they hold."""
    items = [item for name in names if (item := _named(name, name)) is not None]
    # The default configuration has judgements only where no file is called qrels.
    explicit = any(
        item.role == "qrels" and not item.configuration and not _is_default(item.name) for item in items
    )
    return [item for item in items if not (item.role == "qrels" and explicit and _is_default(item.name))]


def _named(below: str, name: str) -> Item | None:
    """Return the item of a file by its name below a folder, or None if the name says nothing."""
    first, *rest = below.split("/")
    stem = stem_of(rest[-1] if rest else first)
    if not rest:
        word, _, split = stem.partition("-")
        if word in _ROLES:
            return _item("", _ROLES[word], split, name)
        part = _part_of(stem)
        return _item(*part, "", name) if part and part[1] else None
    if first in DEFAULTS and (inner := _named("/".join(rest), name)) is not None:
        return inner
    part = _part_of(first)
    split = rest[0] if len(rest) > 1 else "" if stem.isdigit() else stem
    return _item(*part, "" if split == first else split, name) if part else None


def _is_default(name: str) -> bool:
    """Return whether a file is in the folder of the default configuration."""
    return name.split("/")[0] in DEFAULTS


def _by_card(names: Sequence[str], card: str) -> list[Item]:
    """Return the files that the configurations of a README.md list."""
    items = []
    for configuration, split, name in listed_by(card, names):
        part = _part_of(configuration)
        if part is not None:
            items.append(_item(*part, "" if split == configuration else split, name))
    return items


def listed_by(card: str, names: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield configuration, split and name of each file that a README.md lists.

    Raises:
        DataError: The head of the README.md is not YAML.
    """
    for config in _configs(card):
        configuration = config.get("config_name")
        for split, pattern in _patterns(config.get("data_files")):
            for name in names:
                if isinstance(configuration, str) and fnmatchcase(name, pattern):
                    yield configuration, split, name


def _part_of(name: str) -> tuple[str, str] | None:
    """Return configuration and role of a name, the role "" of the default one, or None if it has no role."""
    if name in DEFAULTS:
        return "", ""
    if name in _ROLES:
        return "", _ROLES[name]
    match = _OF_CONFIGURATION.fullmatch(name)
    return match and (match["name"] or match["rest"], _ROLES[match["role"] or match["first"]])


def _item(configuration: str, role: str, split: str, name: str) -> Item:
    """Return the item of a file: a split that is named like a role has the files of that role."""
    if split in _ROLES and role in ("", _ROLES[split]):
        role, split = _ROLES[split], ""
    role = role or "qrels"
    return Item(configuration, role, (split or "test") if role == "qrels" else split, name)


def _ending(file: str) -> str:
    return next((ending for ending in _ENDINGS if file.endswith(ending)), "")


def stem_of(file: str) -> str:
    """Return the name of a file without its ending and the number of its part."""
    return _PART.sub("", file.removesuffix(_ending(file)))


def _configs(card: str) -> list[Mapping[str, Any]]:
    """Return the configurations in the head of a README.md, in which all scalars are text.

    Other values would be of no use: a language ``no`` is no truth value, and a date may be impossible.
    """
    import yaml

    head = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", card, re.DOTALL)
    try:
        values = yaml.BaseLoader(head[1]).get_single_data() if head else None
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{CARD}: its head is not YAML ({error})") from error
    configs = values.get("configs") if isinstance(values, Mapping) else None
    return [config for config in configs if isinstance(config, Mapping)] if isinstance(configs, list) else []


def _patterns(data_files: Any) -> Iterator[tuple[str, str]]:
    """Yield split and pattern of the ``data_files`` of a configuration, in all forms that the hub allows."""
    if isinstance(data_files, str):
        yield "train", data_files
    elif isinstance(data_files, Mapping):
        for split, patterns in data_files.items():
            for pattern in patterns if isinstance(patterns, list) else [patterns]:
                if isinstance(pattern, str):
                    yield split, pattern
    elif isinstance(data_files, list):
        for item in data_files:
            if isinstance(item, Mapping):
                split = item.get("split", "train")
                yield from _patterns({split: item.get("path")} if isinstance(split, str) else {})
            elif isinstance(item, str):
                yield "train", item
