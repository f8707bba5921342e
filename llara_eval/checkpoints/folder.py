"""A checkpoint's folder: where it is, and which of its files decide what its vectors are."""

import hashlib
import os
from pathlib import Path

from llara_eval.checkpoints import lora
from llara_eval.checkpoints.gguf import convert_gguf
from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.files import read_json, sha256_of

_HASHED = (
    *("*.safetensors", "adapter_model.bin", "config.json", "adapter_config.json"),
    *("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json"),
    *("added_tokens.json", "*.model", "*.codes"),
)
"""Files of a checkpoint that decide what its vectors are, templates aside."""

_MODULES_HASHED = ("*.json", "*.safetensors", "*.bin")
"""Files below a sentence-transformers folder that decide what modules do that we have not."""

_MEAN = "pooling_mode_mean_tokens"
"""sentence-transformers' older name for the mean."""

_HUB_FILES = [*_HASHED, "*.json", "*.txt", "[0-9]_*/*.bin"]
"""What is fetched from the hub: that, templates, and the modules of a sentence-transformers folder."""


def resolve(model: str, *, offline: bool = False) -> Path:
    """Return the folder of a checkpoint: a folder, a GGUF file (converted once), or a hub name.

    Raises:
        DataError: There is no such folder, and it is not on the hub or may not be asked for.
    """
    if not model:
        raise UsageError("--model '' names nothing")
    path = Path(model).expanduser().absolute()  # low-rank updates name it, and are used from anywhere
    if path.is_dir():
        weights = sorted(path.glob("*.gguf"))
        if weights and not (path / "config.json").is_file():
            if len(weights) > 1:
                raise UsageError(f"{path} holds {len(weights)} GGUF files; name the one to use")
            return convert_gguf(weights[0])
        if not any(
            (path / name).is_file() for name in ("config.json", "modules.json", "adapter_config.json")
        ):
            raise DataError(f"{path} is not a checkpoint folder: there is no config.json")
        return path
    if path.is_file() and path.suffix == ".gguf":
        return convert_gguf(path)
    if path.exists() or model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise DataError(f"{model!r} is not a checkpoint folder, a GGUF file or a system's name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        local_only = offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        return Path(snapshot_download(model, allow_patterns=_HUB_FILES, local_files_only=local_only))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise DataError(
            f"{model!r} is neither a folder nor to be had from the hub: {str(error).splitlines()[0]}"
        ) from error


def has(folder: Path, *patterns: str) -> bool:
    """Whether a checkpoint, or a base whose weights it updates, has files of such names."""
    if any(file for pattern in patterns for file in transformer_folder(folder).glob(pattern)):
        return True
    update = lora.read_config(folder)
    return update is not None and has(lora.base_of(folder, update, resolve), *patterns)


def content_hash(folder: Path) -> str:
    """Return a SHA-256 over weights, configuration, tokenizer and modules of a checkpoint and its base."""
    transformer = transformer_folder(folder)
    own = {path for pattern in _HASHED for path in transformer.glob(pattern)}
    named = [(path.name, path) for path in sorted(own)]
    named += [(path.relative_to(folder).as_posix(), path) for path in sorted(_module_files(folder) - own)]
    total = hashlib.sha256()
    for name, path in named:
        total.update(f"{name}\x1f{sha256_of(path)}\x1e".encode())
    update = lora.read_config(folder)
    if update is not None:
        total.update(content_hash(lora.base_of(folder, update, resolve)).encode())
    return total.hexdigest()


def _module_files(folder: Path) -> set[Path]:
    """Return the files that decide what modules behind a sentence-transformers folder's transformer do.

    A plain mean has none, so that hashes in older records hold: whatever else pools, its settings have.
    """
    if not (folder / "modules.json").is_file():
        return set()
    kinds = {
        module["type"].rsplit(".", 1)[-1]: folder / module["path"]
        for module in read_json(folder / "modules.json")
    }
    if "Pooling" not in kinds or set(kinds) - {"Transformer", "Pooling", "Normalize"}:
        return {path for pattern in _MODULES_HASHED for path in folder.rglob(pattern)}
    pooling = kinds["Pooling"] / "config.json"
    chosen = [key for key, value in read_json(pooling).items() if value and not key.endswith("dimension")]
    return set() if chosen == [_MEAN] else {pooling}


def transformer_folder(folder: Path) -> Path:
    """Return where a checkpoint's weights lie; in sentence-transformers layout that may be a subfolder."""
    router = folder / "router_config.json"  # a sentence-transformers folder with one template a side
    if router.is_file():
        return folder / str(read_json(router)["structure"]["document"][0])
    modules = folder / "modules.json"
    return folder / read_json(modules)[0]["path"] if modules.is_file() else folder
