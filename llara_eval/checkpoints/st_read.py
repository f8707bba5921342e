"""The templates in the configuration files of a sentence-transformers folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.core.decode import read_record
from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.files import read_json
from llara_eval.encoding.model_facts import max_tokens
from llara_eval.encoding.prompts import StoredPrompts
from llara_eval.encoding.templates import Pooling, Template, Templates, special_tokens

_SETTINGS = tuple(
    f"sentence_{model}_config.json"
    for model in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""The files that sentence-transformers may have written the settings of a transformer to; one is read."""

POOLING_MODES: Mapping[str, Pooling] = {"mean": "mean", "cls": "first", "lasttoken": "last"}
"""The names of poolings in sentence-transformers → our names."""

PROMPTS_FILE = "config_sentence_transformers.json"
"""The file of the prompts and of other settings of a whole model."""


@dataclass(frozen=True, slots=True)
class _Prompts:
    """The prompts in that file; other keys are ignored."""

    prompts: dict[str, str | None] | None = None
    default_prompt_name: str | None = None


def read_templates(checkpoint: Checkpoint, *, own_modules: bool) -> Templates:
    """Read the templates from the configuration files of a folder.

    Args:
        checkpoint: The opened folder.
        own_modules: Whether the folder's own modules compute its vectors; unknown modules and poolings are
            then allowed.

    Raises:
        DataError: A file is malformed.
        UsageError: A module or a setting cannot be reproduced.
    """
    folder, tokenizer, modules = checkpoint.folder, checkpoint.tokenizer, dict(checkpoint.modules)
    unknown_modules = set(modules) - {"Transformer", "Pooling", "Normalize"}
    if "Transformer" not in modules or "Pooling" not in modules or (unknown_modules and not own_modules):
        raise UsageError(
            f"{folder}: modules {', '.join(modules)}; only Transformer, Pooling and Normalize can be "
            "reproduced; for other modules use --backend sentence-transformers"
        )
    pooling = read_json(modules["Pooling"] / "config.json")
    modes = pooling.get("pooling_mode") or [
        key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for key, value in pooling.items()
        if key.startswith("pooling_mode_") and value
    ]
    mode = modes if isinstance(modes, str) else "+".join(modes)
    unknown_pooling = mode not in POOLING_MODES or pooling.get("include_prompt", True) is False
    if unknown_pooling and not own_modules:
        raise UsageError(
            f"{folder}: pooling {mode!r}; only {', '.join(POOLING_MODES)} can be reproduced; "
            "for other poolings use --backend sentence-transformers"
        )
    settings = next(filter(Path.is_file, (modules["Transformer"] / name for name in _SETTINGS)), None)
    transformer = read_json(settings) if settings else {}
    if transformer.get("do_lower_case") and tokenizer("A")["input_ids"] != tokenizer("a")["input_ids"]:
        raise UsageError(
            f"{settings}: do_lower_case, which the tokenizer does not do; load the folder with a current "
            "sentence-transformers and save it again: the tokenizer then lowers the case"
        )
    prompts_file = folder / PROMPTS_FILE
    prompts_config = read_json(prompts_file) if prompts_file.is_file() else {}
    if (similarity := prompts_config.get("similarity_fn_name")) not in (None, "cosine", "dot"):
        raise UsageError(f"{prompts_file}: similarity_fn_name {similarity!r}; only cosine and dot are known")
    if (dims := prompts_config.get("truncate_dim")) is not None:
        raise UsageError(
            f"{prompts_file}: truncate_dim; remove it, and use --dims {dims} if vectors shall be truncated"
        )
    prefix, suffix = special_tokens(tokenizer)
    base = Template(
        prefix=prefix,
        suffix=suffix,
        pooling="modules" if unknown_modules or unknown_pooling else POOLING_MODES[mode],
        normalize="Normalize" in modules or similarity == "cosine",
        max_length=int(transformer.get("max_seq_length") or max_tokens(checkpoint.config, tokenizer)),
    )
    return Templates(base, base)


def read_prompts(folder: Path) -> StoredPrompts:
    """Read the prompts that a folder stores by name; there may be none.

    Raises:
        DataError: The file is malformed, or its default is the name of no prompt.
    """
    path = folder / PROMPTS_FILE
    if not path.is_file():
        return StoredPrompts()
    config = read_record(path, _Prompts)
    texts = {name: text or "" for name, text in (config.prompts or {}).items()}
    if config.default_prompt_name and config.default_prompt_name not in texts:
        raise DataError(
            f"{path}: default_prompt_name {config.default_prompt_name!r} is not one of its prompts, "
            f"{', '.join(texts) or 'none'}"
        )
    return StoredPrompts(texts, config.default_prompt_name or None, path.name)
