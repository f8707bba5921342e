"""A checkpoint's folder: where it is, what its files say, and which of them decide what its vectors are."""

import copy
import hashlib
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

from llara_eval.checkpoints.gguf import convert_gguf
from llara_eval.core.decode import decode, read_record
from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.files import read_json, sha256_of
from llara_eval.encoding.templates import Templates

LORA_CONFIG = "adapter_config.json"

_HASHED = (
    *("*.safetensors", "adapter_model.bin", "config.json", LORA_CONFIG),
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


class Module(TypedDict):
    """An entry of ``modules.json``; its other keys say nothing that matters here."""

    type: str
    path: str


class _Route(TypedDict):
    document: list[str]


class _Router(TypedDict):
    structure: _Route


class Checkpoint:
    """An opened checkpoint folder: each of its files is read at most once, when it is first asked for.

    Args:
        folder: The folder, see :func:`resolve`.

    Every property raises a DataError where a file that it needs is missing or malformed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def lora(self) -> Mapping[str, Any] | None:
        """The configuration of a folder of LoRA weights, in peft's layout; None for any other folder."""
        path = self.folder / LORA_CONFIG
        if not path.is_file():
            return None
        config = read_json(path)
        if (
            not isinstance(config, dict)
            or config.get("peft_type") != "LORA"
            or not isinstance(config.get("base_model_name_or_path"), str)
            or not config["base_model_name_or_path"]
        ):
            raise DataError(f"{path}: expected a LoRA configuration with base_model_name_or_path")
        return config

    @cached_property
    def base(self) -> "Checkpoint | None":
        """The base model of LoRA weights, which may be named relative to them; None for any other folder."""
        if self.lora is None:
            return None
        name = self.lora["base_model_name_or_path"]
        beside = self.folder / name
        if beside.is_dir():
            return Checkpoint(beside)
        try:
            return Checkpoint(resolve(name))
        except DataError as error:
            raise DataError(
                f"{self.folder} holds LoRA weights of {name!r}, which is not there ({error}); put it there, "
                f"or correct base_model_name_or_path in {LORA_CONFIG}"
            ) from error

    @cached_property
    def modules(self) -> list[tuple[str, Path]]:
        """The class and the folder of each module of a sentence-transformers folder; none for any other."""
        path = self.folder / "modules.json"
        if not path.is_file():
            return []
        modules = read_record(path, list[Module])
        if not modules:
            raise DataError(f"{path}: expected modules, found none")
        return [(module["type"].rsplit(".", 1)[-1], self.folder / module["path"]) for module in modules]

    @cached_property
    def transformer(self) -> Path:
        """The folder of the weights; in sentence-transformers layout that may be a subfolder."""
        router = self.folder / "router_config.json"  # an export with one template a side
        if router.is_file():
            route = read_record(router, _Router)["structure"]["document"]
            if not route:
                raise DataError(f"{router}: expected modules in $.structure.document")
            return self.folder / route[0]
        return self.modules[0][1] if self.modules else self.folder

    @cached_property
    def config(self) -> Any:
        """The configuration of the language model, with rows for all tokens that LoRA weights bring along.

        Raises:
            DataError: The configuration is missing or unreadable.
            UsageError: The model is an encoder and a decoder.
        """
        if self.base is not None:
            config = copy.deepcopy(self.base.config)
            config.vocab_size = max(config.vocab_size, len(self.tokenizer))
            return config
        return self.whole_config.get_text_config()

    @cached_property
    def whole_config(self) -> Any:
        """The configuration of the whole model, which may be more than a language model."""
        from transformers import AutoConfig

        if self.base is not None:
            return self.base.whole_config
        try:
            config = AutoConfig.from_pretrained(
                self.transformer, local_files_only=True, trust_remote_code=False
            )
        except unreadable() as error:
            raise DataError(f"{self.folder}: its configuration cannot be read: {error}") from error
        if config.is_encoder_decoder:
            raise UsageError(
                f"{self.folder}: {config.model_type} is an encoder and a decoder, and only one is known"
            )
        return config

    def require_head(self) -> None:
        """Raise where the language-model head cannot be had.

        Raises:
            UsageError: The model is more than a language model, or an encoder and a decoder.
        """
        whole = self.whole_config
        if whole.get_text_config() is not whole:
            raise UsageError(
                f"{self.folder}: {whole.model_type} is more than a language model; save its language model "
                "with its head in a folder of its own"
            )

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer; LoRA weights without one have that of their base.

        It cuts texts at their end, as templates do, whatever it was saved with.
        """
        from transformers import AutoTokenizer

        if self.base is not None and not any(self.transformer.glob("tokenizer*")):
            return self.base.tokenizer
        config = self.whole_config if self.base is None else None  # LoRA weights have none of their own
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                self.transformer,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                truncation_side="right",
            )
        except unreadable() as error:
            raise DataError(f"{self.folder}: its tokenizer cannot be read: {error}") from error
        names = tokenizer.vocab_files_names.values()  # none for those that read bytes
        if names and not any((self.transformer / name).is_file() for name in names):
            # transformers makes one up
            raise DataError(
                f"{self.folder} holds no tokenizer ({' or '.join(sorted(names))}); save it there too"
            )
        return tokenizer

    @cached_property
    def templates(self) -> Templates | None:
        """The templates that the folder itself holds in ``template.json``; None if it has none."""
        return Templates.load(self.folder)

    def has(self, *patterns: str) -> bool:
        """Return whether the checkpoint or its base has files of such names."""
        if any(file for pattern in patterns for file in self.transformer.glob(pattern)):
            return True
        return self.base is not None and self.base.has(*patterns)

    @cached_property
    def content_hash(self) -> str:
        """A SHA-256 over weights, configuration, tokenizer and modules of the checkpoint and its base."""
        model_files = {path for pattern in _HASHED for path in self.transformer.glob(pattern)}
        named = [(path.name, path) for path in sorted(model_files)]
        module_files = sorted(self._module_files() - model_files)
        named += [(path.relative_to(self.folder).as_posix(), path) for path in module_files]
        total = hashlib.sha256()
        for name, path in named:
            total.update(f"{name}\x1f{sha256_of(path)}\x1e".encode())
        if self.base is not None:
            total.update(self.base.content_hash.encode())
        return total.hexdigest()

    def _module_files(self) -> set[Path]:
        """Return the files that decide what the modules behind the transformer do.

        A plain mean has none, so that hashes in older records hold: whatever else pools, its settings have.
        """
        if not self.modules:
            return set()
        modules = dict(self.modules)
        if "Pooling" not in modules or set(modules) - {"Transformer", "Pooling", "Normalize"}:
            return {path for pattern in _MODULES_HASHED for path in self.folder.rglob(pattern)}
        path = modules["Pooling"] / "config.json"
        pooling = decode(read_json(path), dict[str, Any], path)
        chosen = [key for key, value in pooling.items() if value and not key.endswith("dimension")]
        return set() if chosen == [_MEAN] else {path}


def unreadable() -> tuple[type[Exception], ...]:
    """Return what libraries raise where a checkpoint's files are not what they should be."""
    from safetensors import SafetensorError

    return OSError, RuntimeError, ValueError, KeyError, TypeError, SafetensorError


def resolve(model: str, *, offline: bool = False) -> Path:
    """Return the folder of a checkpoint: a folder, a GGUF file (converted once), or a hub name.

    Raises:
        DataError: There is no such folder, and the hub has none or may not be asked.
        UsageError: The name is empty, or the folder holds several GGUF files.
    """
    if not model:
        raise UsageError("--model '' names nothing")
    path = Path(model).expanduser().absolute()  # LoRA weights name it, and are used from anywhere
    if path.is_dir():
        weights = sorted(path.glob("*.gguf"))
        if weights and not (path / "config.json").is_file():
            if len(weights) > 1:
                raise UsageError(f"{path} holds {len(weights)} GGUF files; name the one to use")
            return convert_gguf(weights[0])
        if not any((path / name).is_file() for name in ("config.json", "modules.json", LORA_CONFIG)):
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
