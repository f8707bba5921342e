"""Code of a checkpoint's own: it is named and refused, or runs because the user said so, and is recorded."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llara_eval.checkpoints.settings import subfolder
from llara_eval.core.decode import decode
from llara_eval.core.errors import UsageError
from llara_eval.core.files import read_json, sha256_of
from llara_eval.core.reading import is_present


@dataclass(frozen=True, slots=True)
class Permissions:
    """What the user allows beyond tensors in safetensors and classes of the libraries.

    Attributes:
        code: Whether code in a checkpoint's folder may run.
        bin_weights: Whether weights in ``pytorch_model.bin`` are read, by torch's reader of plain tensors.
    """

    code: bool = False
    bin_weights: bool = False


_CODE = ("auto_map", "custom_generate")
"""Settings, at any depth of any file of settings, whose texts name code."""

_KERNELS = ("attn_implementation", "_attn_implementation", "experts_implementation")
"""Settings whose texts name a compiled kernel of the hub if they contain a slash.

Source: https://huggingface.co/docs/transformers/attention_interface.
"""

_GENERATION = Path("custom_generate") / "generate.py"
"""Code that transformers runs, without a setting that names it, if code may run."""

_LIBRARY = "sentence_transformers."


def check_code(folder: Path, *, trusted: bool) -> None:
    """Check that a folder names no code of its own, or that its code may run.

    Args:
        folder: A checkpoint folder.
        trusted: Whether the user said that the folder's code may run.

    Raises:
        UsageError: The folder names code that may not run, or code in another repository, which may change,
            or a compiled kernel of the hub, which never runs.
        DataError: A file of settings cannot be read.
    """
    for file, key, reference in _references(folder):
        if key in _KERNELS:
            raise UsageError(
                f"{file}: {key} {reference!r} names a compiled kernel of the hub, which is never run; remove "
                "the setting"
            )
        if not trusted:
            raise UsageError(
                f"{file} names code of its own, {reference}, without which its vectors would be others; it "
                "runs with --trust-remote-code only"
            )
        if "--" in reference:
            repository = reference.split("--")[0]
            raise UsageError(
                f"{file} names code in another repository, {reference}, which may change: copy the files of "
                f"{repository} into the folder and remove '{repository}--' there"
            )


def code_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each Python file of a folder that has code of its own; empty for others."""
    if not (folder / _GENERATION).exists() and not any(_references(folder)):
        return {}
    return {file.relative_to(folder).as_posix(): sha256_of(file) for file in sorted(folder.rglob("*.py"))}


def _references(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield each reference to code in a folder and in those of its modules: file, setting, reference."""
    modules = folder / "modules.json"
    described = decode(read_json(modules), list[Any], modules) if is_present(modules) else []
    named = [module for module in described if isinstance(module, Mapping)]
    paths = (path for module in named if isinstance(path := module.get("path"), str))
    folders = {folder, *(subfolder(folder, path, modules) for path in paths)}
    for place in sorted(folders):
        for file in sorted(place.glob("*config*.json")):
            settings = read_json(file)
            for key, reference in _named(settings):
                yield file, key, reference
            types = settings.get("types") if isinstance(settings, Mapping) else None
            for module_type in types.values() if isinstance(types, Mapping) and "router" in file.name else ():
                if not str(module_type).startswith(_LIBRARY):
                    yield file, "types", str(module_type)
    for module in named:
        if not str(module.get("type", _LIBRARY)).startswith(_LIBRARY):
            yield modules, "type", str(module["type"])


def _named(settings: Any) -> Iterator[tuple[str, str]]:
    """Yield each text below a setting that names code, or a kernel of the hub, and the setting."""
    if isinstance(settings, list):
        for value in settings:
            yield from _named(value)
    if not isinstance(settings, Mapping):
        return
    for key, value in settings.items():
        if key in _CODE:
            yield from ((key, text) for text in _texts(value))
        elif key in _KERNELS:
            yield from ((key, text) for text in _texts(value) if "/" in text)
        else:
            yield from _named(value)


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a value of JSON types that is not empty."""
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, list | Mapping):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)
