"""LoRA weights on disk (peft's layout) → a model with them in its own weights."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from llara_eval.core.errors import DataError

logger = logging.getLogger(__name__)


def read_weights(folder: Path) -> dict[str, Any]:
    """Read the LoRA weights of a folder, as plain tensors by name.

    Args:
        folder: It holds ``adapter_model.safetensors``, or ``adapter_model.bin``, of which only plain tensors
            are read.

    Raises:
        DataError: There are no weights, or the file holds something else than tensors.
    """
    from peft.utils import SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME, load_peft_weights

    if not any((folder / name).is_file() for name in (SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME)):
        raise DataError(f"{folder} holds neither {SAFETENSORS_WEIGHTS_NAME} nor {WEIGHTS_NAME}")
    try:
        weights: dict[str, Any] = load_peft_weights(str(folder), device="cpu")
    except UnpicklingError as error:
        raise DataError(
            f"{folder}: {WEIGHTS_NAME} cannot be loaded as plain tensors; code in it is never run"
        ) from error
    return weights


def have_head(weights: Mapping[str, Any], config: Any) -> bool:
    """Return whether LoRA weights were trained on a model with its language-model head.

    Args:
        weights: From :func:`read_weights`.
        config: The base model's configuration.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    with_head: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    decoder = with_head and with_head.base_model_prefix  # what that class calls all but the head
    return any(name.startswith(f"base_model.model.{decoder}.") for name in weights)


def merged(
    folder: Path, weights: Mapping[str, Any], model: Any, tokens: int, *, on_head: bool, head: bool
) -> Any:
    """Return a base model with LoRA weights added to its own.

    Args:
        folder: The folder of the LoRA weights.
        weights: From :func:`read_weights`.
        model: The base model, with its language-model head if ``on_head`` or ``head``.
        tokens: How many tokens there are; the base gets rows for those that it lacks.
        on_head: Whether the LoRA weights are of a model with its language-model head.
        head: Whether the result has its language-model head.

    Raises:
        DataError: Weights are missing, or do not fit the model.
    """
    from peft import PeftModel, get_peft_model_state_dict

    base = model.name_or_path
    grown = tokens > model.get_input_embeddings().num_embeddings
    if grown:
        model.resize_token_embeddings(tokens, mean_resizing=False)
    target = model if on_head or not head else model.base_model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what peft remarks on is checked below
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers under a deprecated name
        updated = PeftModel.from_pretrained(target, folder)
        expected = get_peft_model_state_dict(updated, save_embedding_layers=grown).keys()
    whole = updated.state_dict().keys()  # an embedding matrix may be among the weights as a whole
    odd = sorted((expected - weights.keys()) | (weights.keys() - expected - whole))
    if odd:
        raise DataError(
            f"{folder}: {len(odd)} LoRA weights are missing or fit no layer of {base}, first {odd[0]}"
        )
    if all(not weight.any() for name, weight in weights.items() if "lora_B" in name):
        logger.warning("%s changes nothing: all its LoRA weights are zero", folder)
    result = updated.merge_and_unload()
    if head and not on_head:
        setattr(model, model.base_model_prefix, result)
        result = model
    elif on_head and not head:
        result = result.base_model
    result.name_or_path = str(folder)  # what further LoRA weights are of
    return result.requires_grad_(True)  # peft froze them
