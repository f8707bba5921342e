"""Code of a checkpoint's own: it is named and refused, or runs because the user said so, and is recorded."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llara_eval.core.decode import decode
from llara_eval.core.errors import UsageError
from llara_eval.core.files import read_json, sha256_of


@dataclass(frozen=True, slots=True)
class Permissions:
    """What the user allows beyond tensors in safetensors and classes of the libraries.

    Attributes:
        code: Whether code in a checkpoint's folder may run.
        bin_weights: Whether weights in ``pytorch_model.bin`` are read, by torch's reader of plain tensors.
    """

    code: bool = False
    bin_weights: bool = False


_AUTO_CLASSES = ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoTokenizer")
"""The classes of transformers that models and tokenizers are read by here."""

_LIBRARY = "sentence_transformers."


def check_code(folder: Path, *, trusted: bool) -> None:
    """Check that a folder names no code of its own, or that its code may run.

    Args:
        folder: A checkpoint folder.
        trusted: Whether the user said that the folder's code may run.

    Raises:
        UsageError: The folder names code that may not run, or code in another repository, which may change.
    """
    for file, reference in _references(folder):
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
    """Return the SHA-256 of each Python file of a folder that names code of its own; empty for others."""
    if not any(_references(folder)):
        return {}
    return {file.relative_to(folder).as_posix(): sha256_of(file) for file in sorted(folder.rglob("*.py"))}


def _references(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield each reference to code in the files of a folder, and its file."""
    for name in ("config.json", "tokenizer_config.json"):
        file = folder / name
        settings = decode(read_json(file), dict[str, Any], file) if file.is_file() else {}
        classes = settings.get("auto_map") or {}
        if not isinstance(classes, Mapping):  # as tokenizers once wrote it
            classes = {"AutoTokenizer": classes}
        for auto_class in _AUTO_CLASSES:
            references = classes.get(auto_class) or ()
            for reference in [references] if isinstance(references, str) else references:
                if reference:
                    yield file, str(reference)
    modules = folder / "modules.json"
    for module in read_json(modules) if modules.is_file() else []:
        if isinstance(module, Mapping) and not str(module.get("type", _LIBRARY)).startswith(_LIBRARY):
            yield modules, str(module["type"])
