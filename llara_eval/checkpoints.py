"""A checkpoint folder → an :class:`~llara_eval.encoder.Encoder` with the right templates.

Three kinds of folder are read, each by its own files: one with our ``template.json``, one in
sentence-transformers layout (``modules.json``), and a bare language model (a single GGUF file too).
Weights are read as safetensors only and no code from a checkpoint is run.
"""

import hashlib
import io
import json
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import nullcontext, redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from llara_eval.encoder import Encoder
from llara_eval.errors import DataError, MissingPartError, UsageError
from llara_eval.files import sha256_of
from llara_eval.home import home
from llara_eval.templates import TEMPLATE_FILE, Pooling, Template, Templates

logger = logging.getLogger(__name__)

_HASHED = ("*.safetensors", "config.json", "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json")
"""Files of a checkpoint that decide what its vectors are, templates aside."""

_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]

_POOLING_MODES: Mapping[str, Pooling] = {"mean": "mean", "cls": "first", "lasttoken": "last"}
"""sentence-transformers' names for the ways of pooling we have."""


def resolve(model: str, *, offline: bool = False) -> Path:
    """Return the folder of a checkpoint: a folder, a GGUF file (converted once), or a hub name.

    Raises:
        DataError: There is no such folder, and it is not on the hub or may not be asked for.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        weights = sorted(path.glob("*.gguf"))
        if weights and not (path / "config.json").is_file():
            if len(weights) > 1:
                raise UsageError(f"{path} holds {len(weights)} GGUF files; name the one to use")
            return convert_gguf(weights[0])
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


def default_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the processor computes it natively, else float32.

    On a CPU without AVX-512 BF16 or AMX a bfloat16 product is a hundred times slower than float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32
    return torch.float32


def default_device() -> torch.device:
    """Return the first CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(
    folder: Path,
    *,
    dtype: str | None = None,
    batch_tokens: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Encoder:
    """Load a checkpoint.

    Args:
        folder: A checkpoint folder, see the module's docstring.
        dtype: ``float32``, ``bfloat16`` or ``float16``; None takes what the processor supports.
        batch_tokens: See :class:`Encoder`.
        changes: Template fields to change on both sides (``max_length``, ``pooling``, …).

    Raises:
        DataError: Files are missing, unreadable or not safetensors.
        UsageError: The dtype is unknown, or the checkpoint needs something we do not have.
    """
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    if (folder / "adapter_config.json").is_file():
        raise UsageError(f"{folder} is a LoRA adapter without its base model; merge it and name the result")
    device = default_device()
    kind = default_dtype(device) if dtype is None else _dtype(dtype)
    transformer = _transformer_folder(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(transformer, local_files_only=True, trust_remote_code=False)
        model = AutoModel.from_pretrained(
            transformer, dtype=kind, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder}: cannot be loaded as a model: {error}") from error
    templates = read_templates(folder, tokenizer, model.config).with_changes(**(changes or {}))
    if not any((folder / name).is_file() for name in (TEMPLATE_FILE, "modules.json")):
        plain = templates.document
        logger.info(
            "%s has no template: %s pooling, no prompt, %d tokens",
            folder.name,
            plain.pooling,
            plain.max_length,
        )
    return Encoder(model.to(device).eval(), tokenizer, templates, batch_tokens=batch_tokens)


def read_templates(folder: Path, tokenizer: Any, config: Any) -> Templates:
    """Find out how a checkpoint wants its texts.

    Raises:
        DataError: A configuration file is malformed.
        UsageError: A sentence-transformers module is one we cannot reproduce.
    """
    own = folder / TEMPLATE_FILE
    if own.is_file():
        return Templates.from_json(_json(own), own)
    if (folder / "modules.json").is_file():
        return _sentence_transformers(folder, tokenizer, config)
    prefix, suffix = _special_tokens(tokenizer)
    limit = min(512, int(getattr(config, "max_position_embeddings", 512)))
    plain = Template(prefix=prefix, suffix=suffix, max_length=limit)
    return Templates(plain, plain)


def content_hash(folder: Path) -> str:
    """Return a SHA-256 over the weights, configuration and tokenizer files of a checkpoint."""
    transformer = _transformer_folder(folder)
    files = sorted({path for pattern in _HASHED for path in transformer.glob(pattern)})
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.name}\x1f{sha256_of(path)}\x1e".encode())
    return total.hexdigest()


def convert_gguf(path: Path) -> Path:
    """Convert a GGUF file to a safetensors folder in the cache, once, and return that folder.

    Raises:
        DataError: The file cannot be read as a model.
        MissingPartError: The reader for GGUF is not installed.
    """
    folder = home() / "models" / f"{path.stem}-{sha256_of(path)[:16]}"
    if (folder / "config.json").is_file():
        return folder
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise MissingPartError(f"reading {path.name} needs: pip install gguf") from error
    logger.info("converting %s to safetensors, once", path.name)
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    where = {"gguf_file": path.name, "local_files_only": True}
    disable_progress_bar()
    try:
        # Without dequantizing, the model cannot be saved; its progress bar is for terminals only.
        with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
            model = AutoModelForCausalLM.from_pretrained(
                path.parent, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32, **where
            )
            tokenizer = AutoTokenizer.from_pretrained(path.parent, **where)
        model.save_pretrained(unfinished, safe_serialization=True)
        tokenizer.save_pretrained(unfinished)
        unfinished.rename(folder)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: cannot be read as a GGUF model: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _transformer_folder(folder: Path) -> Path:
    """Return where a checkpoint's weights lie; in sentence-transformers layout that may be a subfolder."""
    modules = folder / "modules.json"
    return folder / _json(modules)[0]["path"] if modules.is_file() else folder


def _sentence_transformers(folder: Path, tokenizer: Any, config: Any) -> Templates:
    """Read the templates out of a sentence-transformers folder's own configuration files."""
    kinds = {
        module["type"].rsplit(".", 1)[-1]: folder / module["path"]
        for module in _json(folder / "modules.json")
    }
    unknown = set(kinds) - {"Transformer", "Pooling", "Normalize"}
    if unknown or "Transformer" not in kinds or "Pooling" not in kinds:
        raise UsageError(
            f"{folder}: modules {', '.join(kinds)}; only Transformer, Pooling and Normalize can be reproduced"
        )
    pooling = _json(kinds["Pooling"] / "config.json")
    mode = pooling.get("pooling_mode") or "+".join(
        key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for key, value in pooling.items()
        if key.startswith("pooling_mode_") and value
    )
    if mode not in _POOLING_MODES or pooling.get("include_prompt", True) is False:
        raise UsageError(f"{folder}: pooling {mode!r}; only {', '.join(_POOLING_MODES)} can be reproduced")
    settings = kinds["Transformer"] / "sentence_bert_config.json"
    limit = _json(settings).get("max_seq_length") if settings.is_file() else None
    prompts_file = folder / "config_sentence_transformers.json"
    prompts_config = _json(prompts_file) if prompts_file.is_file() else {}
    prompts = prompts_config.get("prompts") or {}
    usual = prompts.get(prompts_config.get("default_prompt_name") or "", "")
    prefix, suffix = _special_tokens(tokenizer)
    base = Template(
        prefix=prefix,
        suffix=suffix,
        pooling=_POOLING_MODES[mode],
        normalize="Normalize" in kinds or prompts_config.get("similarity_fn_name") == "cosine",
        max_length=int(limit or config.max_position_embeddings),
    )
    return Templates(
        query=replace(base, prompt=prompts.get("query", usual)),
        document=replace(base, prompt=prompts.get("document", prompts.get("passage", usual))),
    )


def _special_tokens(tokenizer: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the special tokens a tokenizer puts before and after a text of its own accord."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    start = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    tokens = tokenizer.convert_ids_to_tokens(full)
    return tuple(tokens[:start]), tuple(tokens[start + len(bare) :])


def _dtype(name: str) -> torch.dtype:
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in kinds:
        raise UsageError(f"dtype {name!r} is not one of {', '.join(kinds)}")
    return kinds[name]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
