"""The files of a data set on disk: of a folder, or of one of its configurations.

Judgements may be in a folder of their own, as on the hub in a repository of their own: those of the folder
``name`` in ``name-qrels`` beside it.
"""

from collections.abc import Iterator
from pathlib import Path

from llara_eval.core.reading import is_present, read_whole
from llara_eval.datasets.hub_manifest import manifest_of
from llara_eval.datasets.layout import (
    APART,
    CARD,
    Address,
    Files,
    Layout,
    Layouts,
    arrange,
    arrange_judgements,
    choose_layout,
)

_DEPTH = 3
"""The levels of a folder in which files are looked for."""


def layout_of(path: Path) -> Layout[Path]:
    """Return the files of a folder, or of a configuration, ``folder:configuration``.

    Raises:
        DataError: There is no such configuration.
        CheckFailedError: The folder has several configurations, and none is named.
    """
    folder, configuration = Address.of(path)
    layout = choose_layout(_layouts_of(folder), configuration, folder)
    corpus, queries, qrels = (_below(folder, files) for files in layout)
    if not qrels and (apart := _judgements_apart(path)) is not None:
        qrels = _below(apart, arrange_judgements(names_in(apart), card_of(apart)))
    return Layout(corpus, queries, qrels)


def is_collection(path: Path) -> bool:
    """Return whether a path is a folder, or a configuration of one, with documents or queries."""
    return any(layout.corpus or layout.queries for layout in _layouts_of(Address.of(path).folder).values())


def configurations_of(folder: Path) -> list[str]:
    """Return the configurations of a folder that are data sets: only "", that of none, if it is one."""
    layouts = _layouts_of(folder)
    named = [name for name, layout in layouts.items() if name and all(layout)]
    if named and not all(layouts[""]):
        return named
    return [""] if all(layout_of(folder)) else []


def _layouts_of(folder: Path) -> Layouts:
    """Return the layout of each configuration of a folder, and that of no configuration."""
    return arrange(names_in(folder), card_of(folder))


def _judgements_apart(path: Path) -> Path | None:
    """Return the folder of the judgements of a data set that has none itself, or None."""
    if (manifest := manifest_of(path)) is not None:
        return Path(manifest.judgements.folder) if manifest.judgements else None
    folder = Address.of(path).folder.resolve()
    beside = folder.parent / f"{folder.name}{APART}"
    return beside if beside.is_dir() else None


def _below(folder: Path, files: Files[str]) -> Files[Path]:
    return {split: tuple(folder / name for name in names) for split, names in files.items()}


def card_of(folder: Path) -> str:
    """Return the text of the README.md of a folder; empty if there is none."""
    path = folder / CARD
    return read_whole(path).decode(errors="replace") if is_present(path) else ""


def names_in(folder: Path, depth: int = _DEPTH, prefix: str = "") -> Iterator[str]:
    """Yield the names of the files in the first levels of a folder; hidden ones are left out."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.startswith("."):
            continue
        if path.is_dir() and depth > 1:
            yield from names_in(path, depth - 1, f"{prefix}{path.name}/")
        elif path.is_file():
            yield prefix + path.name
