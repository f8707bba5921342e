"""The folder of a checkpoint: how it is found, what its files contain, and a hash of its content."""

import copy
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

from llara_eval.checkpoints.gguf import convert_gguf
from llara_eval.checkpoints.libraries import read_config
from llara_eval.checkpoints.lora import LORA_CONFIG
from llara_eval.checkpoints.own_code import Permissions, check_code, code_hashes
from llara_eval.checkpoints.settings import read_settings, subfolder, weight_files
from llara_eval.checkpoints.tokenizer import read_cut, read_tokenizer
from llara_eval.core.decode import decode, read_record
from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.files import read_json, sha256_of
from llara_eval.core.hashing import add_record
from llara_eval.core.network import hub_endpoint, hub_errors
from llara_eval.core.paths import user_path
from llara_eval.core.reading import is_present
from llara_eval.encoding.templates import Cut, Templates

BIN_WEIGHTS = "pytorch_model*.bin"
"""Weights in pickled form, which are read only if the user allows it."""

_NOTHING = Permissions()

_HASHED = (
    *("*.safetensors", "adapter_model.bin", "config.json", LORA_CONFIG),
    *("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json"),
    *("added_tokens.json", "*.model", "*.codes"),
)
"""Files of a checkpoint on which its vectors depend, without the templates."""

_HUB_FILES = [*_HASHED, "*.json", "*.txt", "[0-9]_*/*.bin"]
"""Files that are downloaded from the hub: also templates and the modules of sentence-transformers."""


class _Module(TypedDict):
    """An entry of ``modules.json``, without the keys that are not used."""

    type: str
    path: str


class _Router(TypedDict):
    """``router_config.json`` of a sentence-transformers folder: the modules of each route."""

    structure: dict[str, list[str]]


class Checkpoint:
    """An opened checkpoint folder; each of its files is read at most once, when it is first needed.

    Every property raises a DataError if a file that it needs is missing or malformed, and a UsageError if the
    model has both an encoder and a decoder, or names code of its own that may not run.

    Args:
        folder: The folder, see :func:`resolve`.
        allowed: What the user allows; a folder that names code of its own is refused otherwise.
        offline: Whether the base model of an adapter must not be downloaded.
    """

    def __init__(self, folder: Path, *, allowed: Permissions = _NOTHING, offline: bool = False) -> None:
        self.folder = folder
        self.allowed = allowed
        self.offline = offline
        self._adapters = frozenset[Path]()  # of which this is the base model

    @cached_property
    def lora(self) -> Mapping[str, Any] | None:
        """The configuration of a LoRA adapter, in peft's layout; None if the folder holds no adapter."""
        path = self.folder / LORA_CONFIG
        if not is_present(path):
            return None
        config = read_settings(path)
        name = config.get("base_model_name_or_path")
        if config.get("peft_type") != "LORA" or not (isinstance(name, str) and name):
            raise DataError(f"{path}: expected a LoRA configuration with base_model_name_or_path")
        return config

    @cached_property
    def base(self) -> "Checkpoint | None":
        """The base model of a LoRA adapter, to which its path may be relative; None without an adapter."""
        if self.lora is None:
            return None
        name = self.lora["base_model_name_or_path"]
        revision = None if Path(name).exists() else self.lora.get("revision")  # of the base, as peft has it
        try:
            folder = self.folder / name
            if not folder.is_dir():
                folder = resolve(name, offline=self.offline, revision=revision)
        except (DataError, OSError) as error:  # a name that is too long, too
            raise DataError(
                f"{self.folder} holds a LoRA adapter of the base model {name!r}, which is missing ({error}); "
                f"download it, or correct base_model_name_or_path in {LORA_CONFIG}"
            ) from error
        adapters = self._adapters | {self.folder.resolve()}
        if folder.resolve() in adapters:
            raise DataError(
                f"{self.folder / LORA_CONFIG}: base_model_name_or_path {name!r} is the adapter itself, or an "
                "adapter of it; name the model that it was trained on"
            )
        base = Checkpoint(folder, allowed=self.allowed, offline=self.offline)
        base._adapters = adapters
        return base

    @cached_property
    def modules(self) -> list[tuple[str, Path]]:
        """Class and folder of each module of a sentence-transformers folder; empty for other folders."""
        path = self.folder / "modules.json"
        if not is_present(path):
            return []
        modules = read_record(path, list[_Module])
        check_code(self.folder, trusted=self.allowed.code)
        if not modules:
            raise DataError(f"{path}: expected modules, found none")
        return [
            (module["type"].rsplit(".", 1)[-1], subfolder(self.folder, module["path"], path))
            for module in modules
        ]

    @cached_property
    def transformer(self) -> Path:
        """The folder of the weights, which may be a subfolder in the layout of sentence-transformers."""
        router = self.folder / "router_config.json"  # an export with one template a side
        if is_present(router):
            route = read_record(router, _Router)["structure"].get("document")
            if not route:
                raise DataError(f"{router}: expected modules in $.structure.document")
            return subfolder(self.folder, route[0], router)
        return self.modules[0][1] if self.modules else self.folder

    @cached_property
    def config(self) -> Any:
        """The configuration of the language model; its vocabulary has all tokens that an adapter adds."""
        if self.base is not None:
            config = copy.deepcopy(self.base.config)
            config.vocab_size = max(config.vocab_size, len(self.tokenizer))
            return config
        return self.whole_config.get_text_config()

    @cached_property
    def whole_config(self) -> Any:
        """The configuration of the whole model, which may be more than a language model."""
        if self.base is not None:
            return self.base.whole_config
        config = read_config(self.transformer, trusted=self.allowed.code)
        if config.is_encoder_decoder:
            raise UsageError(
                f"{self.folder}: {config.model_type} is an encoder and a decoder; one alone is needed"
            )
        return config

    def require_head(self) -> None:
        """Check that the model is one that can be read with its language-model head.

        Raises:
            UsageError: The model is more than a language model, or has both an encoder and a decoder.
        """
        config = self.whole_config
        if config.get_text_config() is not config:
            raise UsageError(
                f"{self.folder}: {config.model_type} is more than a language model; save its language model "
                "with its head in a folder of its own"
            )

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer; an adapter without a tokenizer has that of its base model."""
        if self._tokenizer_owner is not self:
            return self._tokenizer_owner.tokenizer
        config = self.whole_config if self.base is None else None  # an adapter's folder has none
        return read_tokenizer(self.transformer, config, trusted=self.allowed.code)

    @cached_property
    def cut(self) -> Cut:
        """The part of a long text that the tokenizer is meant to cut off."""
        return read_cut(self._tokenizer_owner.transformer)

    @property
    def _tokenizer_owner(self) -> "Checkpoint":
        """The checkpoint that has the tokenizer: this one, or its base model."""
        if self.base is not None and not any(self.transformer.glob("tokenizer*")):
            return self.base._tokenizer_owner
        return self

    @cached_property
    def templates(self) -> Templates | None:
        """The templates in ``template.json``; None if the folder has no such file."""
        return Templates.load(self.folder)

    def has(self, *patterns: str) -> bool:
        """Return whether the checkpoint or its base model has a file that matches one of the patterns."""
        if any(any(self.transformer.glob(pattern)) for pattern in patterns):
            return True
        return self.base is not None and self.base.has(*patterns)

    @property
    def reads_bin(self) -> bool:
        """Whether the weights of the folder are read in pickled form, which it has alone."""
        return self.allowed.bin_weights and not any(self.transformer.glob("*.safetensors"))

    @cached_property
    def content_hash(self) -> str:
        """The SHA-256 of weights, configuration, tokenizer, modules and code of checkpoint and base model."""
        patterns = (*_HASHED, BIN_WEIGHTS) if self.reads_bin else _HASHED
        model_files = {path for pattern in patterns for path in self.transformer.glob(pattern)}
        if self.base is None:
            model_files.update(weight_files(self.transformer, pickled=self.reads_bin))
        named = [(path.relative_to(self.transformer).as_posix(), path) for path in sorted(model_files)]
        module_files = sorted(self._module_files() - model_files)
        named += [(path.relative_to(self.folder).as_posix(), path) for path in module_files]
        content = hashlib.sha256()
        for name, path in named:
            add_record(content, (name, sha256_of(path)))
        for name, code_hash in sorted(self.code.items()):
            add_record(content, (name, code_hash))
        if self.base is not None:
            content.update(self.base.content_hash.encode())
        return content.hexdigest()

    @cached_property
    def code(self) -> dict[str, str]:
        """The SHA-256 of each file of code that the checkpoint or its base model brings and that may run."""
        if not self.allowed.code:
            return {}
        folders = {self.folder, self.transformer}
        hashes = dict(self.base.code) if self.base is not None else {}
        for folder in folders:
            hashes |= code_hashes(folder)
        return hashes

    def _module_files(self) -> set[Path]:
        """Return the files on which the modules after the transformer depend.

        There are none for a plain mean, so that the hashes in existing records stay valid.
        """
        if not self.modules:
            return set()
        modules = dict(self.modules)
        if "Pooling" not in modules or set(modules) - {"Transformer", "Pooling", "Normalize"}:
            # Links to folders are followed, as in the cache of the hub.
            files = (Path(within) / name for within, _, names in _walk(self.folder) for name in names)
            return {path for path in files if path.suffix in (".json", ".safetensors", ".bin")}
        path = modules["Pooling"] / "config.json"
        pooling = decode(read_json(path), dict[str, Any], path)
        chosen = [key for key, value in pooling.items() if value and not key.endswith("dimension")]
        return set() if chosen == ["pooling_mode_mean_tokens"] else {path}


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk through a folder like :func:`os.walk`, follow links to folders, and enter each folder once."""
    entered = set()
    for within, folders, names in os.walk(folder, followlinks=True):
        entered.add(Path(within).resolve())
        folders[:] = [name for name in folders if (Path(within) / name).resolve() not in entered]
        yield within, folders, names


def resolve(
    model: str, *, offline: bool = False, revision: str | None = None, allowed: Permissions = _NOTHING
) -> Path:
    """Return the folder of a checkpoint; a GGUF file is converted, a hub name is downloaded.

    Args:
        model: A checkpoint folder, a GGUF file, or a name on the hub, also with a revision (``org/name@v2``).
        offline: Whether downloads are forbidden.
        revision: The revision of a hub name: a branch, a tag, or the 40 digits of a commit.
        allowed: What the user allows; it is downloaded too.

    Raises:
        DataError: There is no such checkpoint, or it would have to be downloaded and cannot be.
        UsageError: The name is empty, or the folder holds several GGUF files; or a revision is named of what
            is not on the hub, or named twice; or code of a hub name may run and no commit is named.
        MissingPartError: The reader of GGUF files is not installed.
    """
    if not model:
        raise UsageError("--model is empty; name a checkpoint")
    path = user_path(model).absolute()  # absolute, since an adapter trained on it records the path
    if path.exists() and revision is not None:
        raise UsageError(f"--revision {revision}: {model} is no name on the hub")
    if path.is_dir():
        return _resolve_folder(path)
    if path.suffix == ".gguf" and (path.exists() or path.is_symlink()):
        return convert_gguf(path)
    name, _, named_revision = model.partition("@")
    if path.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise DataError(f"{model!r} is not a checkpoint folder, a GGUF file or a system's name")
    if named_revision and revision not in (None, named_revision):
        raise UsageError(f"{model} and --revision {revision} name two revisions")
    return _download(name, named_revision or revision, offline=offline, allowed=allowed)


def _resolve_folder(path: Path) -> Path:
    """Return a folder, or that of the GGUF file in it."""
    weights = sorted(path.glob("*.gguf"))
    if weights and not is_present(path / "config.json"):
        if len(weights) > 1:
            raise UsageError(f"{path} holds {len(weights)} GGUF files; name the one to use")
        return convert_gguf(weights[0])
    if not any(is_present(path / name) for name in ("config.json", "modules.json", LORA_CONFIG)):
        raise DataError(f"{path} is not a checkpoint folder: it has no config.json")
    return path


def _download(name: str, revision: str | None, *, offline: bool, allowed: Permissions) -> Path:
    """Return the folder of a name on the hub, downloaded now or before."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if allowed.code and not re.fullmatch("[0-9a-f]{40}", revision or ""):
        raise UsageError(
            f"--trust-remote-code runs code of {name}: name the commit that you trust, by its 40 digits, "
            "with --revision"
        )
    patterns = [*_HUB_FILES, *(["*.py"] if allowed.code else [])]
    patterns += [BIN_WEIGHTS, f"{BIN_WEIGHTS}.index.json"] if allowed.bin_weights else []
    offline = offline or HF_HUB_OFFLINE
    with hub_errors(name, page=f"https://huggingface.co/{name}", revision=revision, offline=offline):
        folder = snapshot_download(
            name,
            revision=revision,
            allow_patterns=patterns,
            local_files_only=offline,
            endpoint=hub_endpoint(),
        )
    return Path(folder)
