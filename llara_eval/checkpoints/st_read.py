"""The templates in the configuration files of a sentence-transformers folder."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.checkpoints.settings import read_settings
from llara_eval.core.decode import decode, read_record
from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.files import read_json
from llara_eval.core.reading import is_present
from llara_eval.encoding.model_facts import max_tokens
from llara_eval.encoding.prompts import StoredPrompts
from llara_eval.encoding.templates import Pooling, Template, Templates, special_tokens

_SETTINGS = tuple(
    f"sentence_{model}_config.json"
    for model in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""The files that sentence-transformers may have written the settings of a transformer to; one is read."""

_HEEDED = {"max_seq_length", "do_lower_case", "query_length", "document_length"}
"""Settings of a transformer that are applied here."""

_WITHOUT_EFFECT = {"module_output_name", "unpad_inputs"}
"""Settings of a transformer that change no vector."""

_USUAL: Mapping[str, Any] = {
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
}
"""Settings of a transformer that are stored at their usual value; another one changes vectors."""

_LOADING = {
    *("attn_implementation", "cache_dir", "device_map", "dtype", "low_cpu_mem_usage", "padding_side"),
    *("torch_dtype", "use_cache", "use_fast", "use_safetensors"),
}
"""Arguments for transformers that change no vector."""

POOLING_MODES: Mapping[str, Pooling] = {"mean": "mean", "cls": "first", "lasttoken": "last"}
"""The names of poolings in sentence-transformers → our names."""

_MODULES = ["Transformer", "Pooling", "Normalize"]
"""The modules that are reproduced, in this order; the last one may be missing."""

PROMPTS_FILE = "config_sentence_transformers.json"
"""The file of the prompts and of other settings of a whole model."""


@dataclass(frozen=True, slots=True)
class _Prompts:
    """The prompts in that file; other keys are ignored."""

    prompts: dict[str, str | None] | None = None
    default_prompt_name: str | None = None


@dataclass(frozen=True, slots=True)
class _Modes:
    """The poolings in the file of a pooling, where they have names."""

    pooling_mode: str | list[str] | None = None


@dataclass(frozen=True, slots=True)
class _Lengths:
    """The limits of length in the settings of a transformer."""

    max_seq_length: int | None = None
    query_length: int | None = None
    document_length: int | None = None


def read_templates(checkpoint: Checkpoint, *, own_modules: bool) -> tuple[Templates, bool]:
    """Read the templates from the configuration files of a folder.

    Args:
        checkpoint: The opened folder.
        own_modules: Whether the folder's own modules compute its vectors; unknown modules and poolings are
            then allowed.

    Returns:
        The templates, and whether the folder says by which similarity its vectors are compared. If it does
        not, they are normalised: sentence-transformers then compares them by their cosine.

    Raises:
        DataError: A file is malformed.
        UsageError: A module or a setting cannot be reproduced.
    """
    names, modules, tokenizer = [*dict(checkpoint.modules)], dict(checkpoint.modules), checkpoint.tokenizer
    unknown_modules = len(names) < len(checkpoint.modules) or names not in (_MODULES, _MODULES[:-1])
    if "Transformer" not in modules or "Pooling" not in modules or (unknown_modules and not own_modules):
        raise UsageError(
            f"{checkpoint.folder}: modules {', '.join(name for name, _ in checkpoint.modules)}; only "
            "Transformer, Pooling and Normalize can be reproduced; for other modules use --backend "
            "sentence-transformers"
        )
    _check_activations(checkpoint)
    pooling = _pooling(modules["Pooling"] / "config.json", own_modules=own_modules)
    transformer = _transformer(modules["Transformer"], tokenizer)
    file = checkpoint.folder / PROMPTS_FILE
    settings = read_settings(file)
    similarity = _similarity(file, settings)
    prefix, suffix = special_tokens(tokenizer)
    base = Template(
        prefix=prefix,
        suffix=suffix,
        pooling="modules" if unknown_modules or pooling is None else pooling,
        normalize=similarity != "dot" or "Normalize" in modules,
        max_length=transformer.get("max_seq_length") or max_tokens(checkpoint.config, tokenizer),
        cut=checkpoint.cut,
    )
    templates = Templates(
        query=replace(base, max_length=transformer.get("query_length") or base.max_length),
        document=replace(base, max_length=transformer.get("document_length") or base.max_length),
    )
    return templates, similarity is not None or "Normalize" in modules


def read_prompts(folder: Path) -> StoredPrompts:
    """Read the prompts that a folder stores by name; there may be none.

    Raises:
        DataError: The file is malformed, or its default is the name of no prompt.
    """
    path = folder / PROMPTS_FILE
    if not is_present(path):
        return StoredPrompts()
    config = read_record(path, _Prompts)
    texts = {name: text or "" for name, text in (config.prompts or {}).items()}
    if config.default_prompt_name and config.default_prompt_name not in texts:
        raise DataError(
            f"{path}: default_prompt_name {config.default_prompt_name!r} is not one of its prompts, "
            f"{', '.join(texts) or 'none'}"
        )
    return StoredPrompts(texts, config.default_prompt_name or None, path.name)


def _check_activations(checkpoint: Checkpoint) -> None:
    """Refuse a Dense module with an activation that sentence-transformers would silently replace by Tanh.

    Raises:
        UsageError: The activation is no class of torch, and code of the checkpoint may not be run.
    """
    for name, folder in checkpoint.modules:
        file = folder / "config.json"
        if name != "Dense" or checkpoint.allowed.code or not is_present(file):
            continue
        activation = str(read_settings(file).get("activation_function", "torch."))
        if not activation.startswith("torch."):
            raise UsageError(
                f"{file}: the activation {activation} is code of the checkpoint, which is not run; "
                "--trust-remote-code runs it"
            )


def _pooling(file: Path, *, own_modules: bool) -> Pooling | None:
    """Return the pooling of a folder; None if the folder's own modules alone can do it.

    Raises:
        UsageError: The pooling cannot be reproduced.
    """
    config = decode(read_json(file), dict[str, Any], file)
    modes = decode(config, _Modes, file).pooling_mode or [
        key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for key, value in config.items()
        if key.startswith("pooling_mode_") and value
    ]
    mode = modes if isinstance(modes, str) else "+".join(modes) or "mean"
    if mode in POOLING_MODES and config.get("include_prompt", True) is not False:
        return POOLING_MODES[mode]
    if not own_modules:
        raise UsageError(
            f"{file.parent.parent}: pooling {mode!r}"
            f"{'' if mode not in POOLING_MODES else ' without the prompt'}; only {', '.join(POOLING_MODES)} "
            "can be reproduced; for other poolings use --backend sentence-transformers"
        )
    return None


def _transformer(folder: Path, tokenizer: Any) -> dict[str, Any]:
    """Return the settings of the transformer, of which none is left that would not be heeded.

    Raises:
        UsageError: A setting cannot be reproduced.
    """
    file = next(filter(is_present, (folder / name for name in _SETTINGS)), None)
    if file is None:
        return {}
    settings = decode(read_json(file), dict[str, Any], file)
    decode(settings, _Lengths, file)
    if settings.get("do_lower_case") and tokenizer("A")["input_ids"] != tokenizer("a")["input_ids"]:
        raise UsageError(
            f"{file}: do_lower_case, which the tokenizer does not do; load the folder with a current "
            "sentence-transformers and save it again: the tokenizer then lowers the case"
        )
    for name, value in settings.items():
        if name in _HEEDED | _WITHOUT_EFFECT or not value or value == _USUAL.get(name):
            continue
        if name.endswith(("_args", "_kwargs")) and isinstance(value, dict) and value.keys() <= _LOADING:
            continue
        raise UsageError(f"{file}: {name} {value!r} changes the vectors and cannot be reproduced")
    return settings


def _similarity(file: Path, settings: Mapping[str, Any]) -> str | None:
    """Return the similarity that a folder names, ``cosine`` or ``dot``; None if it names none.

    Raises:
        UsageError: The folder is none of a dense retriever, or compares or shortens vectors in another way.
    """
    if (model_type := settings.get("model_type", "SentenceTransformer")) != "SentenceTransformer":
        raise UsageError(f"{file}: a {model_type} of sentence-transformers gives no vector of a text")
    if (dims := settings.get("truncate_dim")) is not None:
        raise UsageError(
            f"{file}: truncate_dim; remove it, and use --dims {dims} if vectors shall be truncated"
        )
    similarity: str | None = settings.get("similarity_fn_name")
    if similarity not in (None, "cosine", "dot"):
        raise UsageError(f"{file}: similarity_fn_name {similarity!r}; only cosine and dot are known")
    return similarity
