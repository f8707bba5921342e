"""A LoRA adapter on disk (peft's layout) and its base model → a model with the adapter merged into it."""

import logging
import re
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from llara_eval.checkpoints import libraries
from llara_eval.checkpoints.settings import read_settings
from llara_eval.core.decode import decode
from llara_eval.core.errors import DataError
from llara_eval.core.reading import is_present

logger = logging.getLogger(__name__)

LORA_CONFIG = "adapter_config.json"

_NUMBERS = ("rank", "alpha")
"""The settings of LoRA that may differ from module to module."""

_REPEATS, _LONGEST = 6, 2_000
"""The most repeats and characters of a pattern of names; those of Unsloth have five repeats."""


def read_weights(folder: Path) -> dict[str, Any]:
    """Read the weights of a LoRA adapter: tensors by name.

    Raises:
        DataError: The folder has neither ``adapter_model.safetensors`` nor ``adapter_model.bin``, or the
            latter holds more than plain tensors.
    """
    from peft.utils import SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME

    if not any(is_present(folder / name) for name in (SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME)):
        raise DataError(f"{folder} holds neither {SAFETENSORS_WEIGHTS_NAME} nor {WEIGHTS_NAME}")
    return libraries.read_adapter_weights(folder)


def trained_with_head(weights: Mapping[str, Any], config: Any) -> bool:
    """Return whether an adapter was trained on a model with its head, by the names of its weights."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    decoder = model_class and model_class.base_model_prefix  # the attribute that holds all but the head
    return any(name.startswith(f"base_model.model.{decoder}.") for name in weights)


def _check_settings(folder: Path, weights: Mapping[str, Any]) -> None:
    """Refuse settings that peft would drop, would run as code, or would take without bound.

    Raises:
        DataError: A setting is one of a newer peft, which the installed one drops with a warning; or names a
            module of Python; or a rank is more than the weights hold, or a pattern may take for ever.
    """
    from peft import LoraConfig, __version__

    file = folder / LORA_CONFIG
    settings = read_settings(file)
    known = {field.name for field in fields(LoraConfig)}
    for name, value in settings.items():
        if value and name not in known:
            raise DataError(f"{file}: {name} {value!r} is no setting of LoRA that peft {__version__} knows")
    if settings.get("megatron_config"):
        raise DataError(f"{file}: megatron_config: adapters of Megatron-LM cannot be read")
    ranks, alphas = (decode(settings.get(f"{name}_pattern") or {}, dict[str, Any], file) for name in _NUMBERS)
    largest = max((max(weight.shape, default=0) for weight in weights.values()), default=0)
    for rank in (settings.get("r"), *ranks.values()):
        if isinstance(rank, int | float) and not rank <= largest:
            raise DataError(f"{file}: a rank of {rank}, and the weights have at most {largest:,} rows")
    layers = settings.get("layers_pattern")
    patterns = [settings.get("target_modules"), settings.get("exclude_modules"), *ranks, *alphas]
    for pattern in (*patterns, *(layers if isinstance(layers, list) else [layers])):
        if isinstance(pattern, str) and not is_harmless(pattern):
            raise DataError(
                f"{file}: {pattern[:80]!r} is no pattern that surely ends; list the names of the modules"
            )


def is_harmless(pattern: str) -> bool:
    """Return whether a regular expression is well formed, and surely matches a name in little time.

    Time grows exponentially where a repeat is inside a repeat, so that no group may be repeated, and with the
    number of repeats. Source: Davis et al., "The Impact of Regular Expression Denial of Service (ReDoS) in
    Practice", ESEC/FSE 2018.
    """
    plain = pattern.replace("(?:", "(")
    repeats = len(re.findall(r"(?:[*+?]|\{[^}]*\})[?+]?", plain))
    if len(pattern) > _LONGEST or repeats > _REPEATS or re.search(r"\(\?|\)[*+?{]|\\[1-9]", plain):
        return False
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def embedding_rows(weights: Mapping[str, Any], model: Any) -> int | None:
    """Return the rows of the embedding matrix that an adapter holds; None if it holds none.

    peft saves the whole matrix if its size was changed before the training, and loads it after the same
    change: https://huggingface.co/docs/peft/developer_guides/checkpoint.
    """
    embedding = model.get_input_embeddings()
    (name,) = [name for name, module in model.named_modules() if module is embedding]
    attribute = name.rsplit(".", 1)[-1]
    sizes = {
        len(weight)
        for key, weight in weights.items()
        if key.endswith(".weight")
        and attribute in key.split(".")
        and ".lora_" not in key
        and weight.shape[1:] == embedding.weight.shape[1:]
    }
    return sizes.pop() if len(sizes) == 1 else None


def merge(
    folder: Path,
    weights: Mapping[str, Any],
    model: Any,
    tokens: int,
    *,
    on_head: bool,
    with_head: bool,
    trusted: bool = False,
) -> Any:
    """Merge a LoRA adapter into its base model and return the model.

    Args:
        folder: The adapter's folder.
        weights: The adapter's weights, see :func:`read_weights`.
        model: The base model, with its language-model head if ``on_head`` or ``with_head``.
        tokens: The size of the vocabulary; the embedding matrix grows to it if the adapter holds none.
        on_head: Whether the adapter was trained on a model with its language-model head.
        with_head: Whether the result has its language-model head.
        trusted: Whether the user said that code in the folder may run.

    Raises:
        DataError: The adapter lacks weights, or has weights that fit no layer of the model, or settings that
            peft does not know or that are refused.
    """
    from peft import get_peft_model_state_dict

    _check_settings(folder, weights)
    base = model.name_or_path
    rows = embedding_rows(weights, model) or max(tokens, model.get_input_embeddings().num_embeddings)
    resized = rows != model.get_input_embeddings().num_embeddings
    if resized:
        model.resize_token_embeddings(rows, mean_resizing=False)
    target = model if on_head or not with_head else model.base_model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the weights are checked below
        warnings.simplefilter("ignore", FutureWarning)  # peft uses a deprecated name of transformers
        adapted = libraries.read_adapter(target, folder, trusted=trusted)
        expected = get_peft_model_state_dict(adapted, save_embedding_layers=resized).keys()
    replaced = adapted.state_dict().keys()  # the adapter may hold a whole embedding matrix, for example
    wrong = sorted((expected - weights.keys()) | (weights.keys() - expected - replaced))
    if wrong:
        raise DataError(
            f"{folder}: {len(wrong)} LoRA weights are missing or fit no layer of {base}, first {wrong[0]}"
        )
    if all(not weight.any() for name, weight in weights.items() if "lora_B" in name):
        logger.warning("%s changes nothing: all its LoRA weights are zero", folder)
    with libraries.reading(folder, f"cannot be merged into {base}"):
        merged = adapted.merge_and_unload()
    if with_head and not on_head:
        setattr(model, model.base_model_prefix, merged)
        merged = model
    elif on_head and not with_head:
        merged = merged.base_model
    merged.name_or_path = str(folder)  # an adapter trained on this model records it as its base model
    return merged.requires_grad_(True)  # peft froze the weights
