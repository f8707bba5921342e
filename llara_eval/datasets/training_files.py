"""The files of training rows in a folder that is no test collection, such as a data set of pairs of the hub.

A README.md that lists configurations says what is which, as on the hub. Else the first folder of a name is a
configuration (``triplet/train-00000-of-00001.parquet``), and the file is called after its split.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from llara_eval.core.errors import DataError
from llara_eval.datasets.files import card_of, names_in
from llara_eval.datasets.layout import (
    DEFAULTS,
    Address,
    Item,
    choose_configuration,
    first_forms,
    listed_by,
    stem_of,
)

logger = logging.getLogger(__name__)

TRAIN = "train"
"""The split that is trained on."""

_EVALUATION = frozenset({"dev", "eval", "test", "val", "valid", "validation"})
"""Splits that are never trained on."""


def training_files(path: Path) -> tuple[Path, ...]:
    """Return the files of training rows of a folder, or of a configuration, ``folder:configuration``.

    They are those of the split ``train`` or, where there is none, all but those of splits for evaluation;
    their names are logged. Of several forms of one thing, one counts.

    Raises:
        DataError: The folder has no file of training rows, or no such configuration.
        CheckFailedError: The folder has several configurations, and none is named.
    """
    folder, configuration = Address.of(path)
    names = sorted(names_in(folder))
    items = _by_card(names, card_of(folder)) or _by_name(names)
    by_configuration: dict[str, dict[str, tuple[str, ...]]] = {}
    for (name, _, split), files in first_forms(items).items():
        if split not in _EVALUATION:
            by_configuration.setdefault(name, {})[split] = files
    configuration = choose_configuration([*by_configuration], configuration, folder, partial=False)
    splits = by_configuration.get(configuration, {})
    kept = splits[TRAIN] if TRAIN in splits else tuple(file for files in splits.values() for file in files)
    if not kept:
        raise DataError(
            f"{path} has neither documents and queries nor a file of training rows, such as train.jsonl"
        )
    logger.info("%s: training rows from %s", path, ", ".join(kept))
    return tuple(folder / file for file in kept)


def _by_card(names: Sequence[str], card: str) -> list[Item]:
    """Return the files that the configurations of a README.md list."""
    return [
        Item("" if configuration in DEFAULTS else configuration, "rows", split, name)
        for configuration, split, name in listed_by(card, names)
    ]


def _by_name(names: Sequence[str]) -> Iterator[Item]:
    """Yield the files by configuration and split as their names say."""
    splits = (TRAIN, *_EVALUATION)
    for name in names:
        *folders, file = name.split("/")
        configuration = folders[0] if folders and folders[0] not in (*DEFAULTS, *splits) else ""
        split = next((folder for folder in folders if folder in splits), stem_of(file))
        yield Item(configuration, "rows", split, name)
