"""The files of settings of a checkpoint folder, and the files of weights that they name."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llara_eval.core.decode import decode, read_record
from llara_eval.core.errors import DataError
from llara_eval.core.files import read_json
from llara_eval.core.paths import inside
from llara_eval.core.reading import is_present

WEIGHTS = "model.safetensors"
BIN = "pytorch_model.bin"

_COUNTED = ("layer", "block", "expert", "group")
"""Parts of the names of numbers that say how many modules of a kind a model has."""

_USUAL_COUNT = 1_000
"""The most modules of a kind that are believed without a look at the weights; published models have fewer."""


@dataclass(frozen=True, slots=True)
class _Index:
    """``model.safetensors.index.json``, without the keys that are not used."""

    weight_map: dict[str, str]


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings in a JSON file; empty if there is no such file.

    Raises:
        DataError: The path is there, but is not a regular file, or holds no JSON object.
    """
    return decode(read_json(path), dict[str, Any], path) if is_present(path) else {}


def subfolder(folder: Path, name: str, source: Path) -> Path:
    """Return a folder of a module, whose name comes from a file; an empty name means the folder itself.

    Raises:
        DataError: The name is absolute, or climbs out of the folder.
    """
    return folder if name in ("", ".", "./") else inside(folder, name, source)


def weight_files(folder: Path, *, pickled: bool = False) -> list[Path]:
    """Return the files that transformers reads weights from, the index of several first; they may be none.

    Args:
        folder: The folder of the model.
        pickled: Whether weights in pickled form are read.

    Raises:
        DataError: A file that is named is missing, or is not in the folder, or an index is malformed.
    """
    config = folder / "config.json"
    named = read_settings(config).get("transformers_weights")
    if named is not None:
        first = inside(folder, decode(named, str, config), config)
    elif is_present(folder / (BIN if pickled else WEIGHTS)):
        first = folder / (BIN if pickled else WEIGHTS)
    else:
        first = folder / f"{BIN if pickled else WEIGHTS}.index.json"
        if not is_present(first):
            return []
    files = [first]
    if first.name.endswith(".index.json"):
        files += sorted(
            {inside(folder, name, first) for name in read_record(first, _Index).weight_map.values()}
        )
    for file in files:
        if not is_present(file):
            raise DataError(f"{config if named is not None else first} names {file.name!r}, which is missing")
    return files


def check_counts(folder: Path) -> None:
    """Check that a configuration asks for no more modules than there are weights, before a model is built.

    Raises:
        DataError: A number of layers, or the like, is more than the files of weights hold tensors, and more
            than any published model has.
    """
    config = folder / "config.json"
    name, count = max(_counts(read_settings(config)), key=lambda pair: pair[1], default=("", 0))
    if count > _USUAL_COUNT and count > (tensors := _tensors(folder)):
        raise DataError(f"{config}: {name} is {count:,}, and the weights are {tensors:,} tensors")


def _tensors(folder: Path) -> int:
    """Return the number of tensors in the files of a model's weights, by their headers."""
    from safetensors import SafetensorError, safe_open

    total = 0
    for file in weight_files(folder):
        if file.suffix == ".safetensors":
            try:
                with safe_open(file, "pt") as opened:
                    total += len(opened.keys())
            except (SafetensorError, OSError) as error:
                raise DataError(f"{file}: cannot be read as safetensors: {error}") from error
    return total


def _counts(settings: Any) -> Iterator[tuple[str, int]]:
    """Yield the name and the value of each number of modules in settings, at any depth."""
    if isinstance(settings, list):
        for value in settings:
            yield from _counts(value)
    elif isinstance(settings, Mapping):
        for name, value in settings.items():
            if isinstance(value, int | float) and any(part in name for part in _COUNTED):
                yield name, int(value) if value == value and abs(value) != float("inf") else 0
            else:
                yield from _counts(value)
