"""Low-rank updates on disk (peft's layout) → a model with the updates in its weights."""

import json
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from llara_eval.core.errors import DataError

logger = logging.getLogger(__name__)

CONFIG = "adapter_config.json"


def read_config(folder: Path) -> dict[str, Any] | None:
    """Return the configuration of a folder of low-rank updates; None for any other folder.

    Raises:
        DataError: It cannot be read, or is not of low-rank updates.
    """
    path = folder / CONFIG
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
    if (
        not isinstance(config, dict)
        or config.get("peft_type") != "LORA"
        or not config.get("base_model_name_or_path")
    ):
        raise DataError(f"{path}: expected a LoRA configuration with base_model_name_or_path")
    return config


def base_of(folder: Path, config: Mapping[str, Any], resolve: Callable[[str], Path]) -> Path:
    """Return the folder of the base model, which may be named relative to the updates.

    Raises:
        DataError: It is not there.
    """
    name = str(config["base_model_name_or_path"])
    beside = folder / name
    if beside.is_dir():
        return beside
    try:
        return resolve(name)
    except DataError as error:
        raise DataError(
            f"{folder} updates the base model {name!r}, which is not there ({error}); put it there, or "
            f"correct base_model_name_or_path in {CONFIG}"
        ) from error


def merged(
    folder: Path,
    base: Path,
    tokenizer: Any,
    read: Callable[[Path, bool], Any],
    *,
    decoder: str | None,
    head: bool,
) -> Any:
    """Return the base model with the updates added to its weights.

    Args:
        folder: The updates: ``adapter_model.safetensors``, or ``adapter_model.bin``, of which only
            plain tensors are read.
        base: The base model.
        tokenizer: The updates' tokenizer; the base gets rows for tokens it lacks.
        read: Reads a model with (True) or without its language-model head.
        decoder: What the base's class with a head calls the rest of it; None: there is no such class.
        head: Whether the result has its language-model head.

    Raises:
        DataError: Weights are missing, or do not fit the model.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from peft.utils import SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME, load_peft_weights

    if not any((folder / name).is_file() for name in (SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME)):
        raise DataError(f"{folder} holds neither {SAFETENSORS_WEIGHTS_NAME} nor {WEIGHTS_NAME}")
    try:
        weights = load_peft_weights(str(folder), device="cpu")
    except UnpicklingError as error:
        raise DataError(
            f"{folder}: {WEIGHTS_NAME} cannot be loaded as plain tensors; code in it is never run"
        ) from error
    causal = any(name.startswith(f"base_model.model.{decoder}.") for name in weights)  # trained with its head
    model = read(base, causal or head)
    grown = len(tokenizer) > model.get_input_embeddings().num_embeddings
    if grown:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    target = model if causal or not head else model.base_model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what peft remarks on is checked below
        updated = PeftModel.from_pretrained(target, folder)
        expected = get_peft_model_state_dict(updated, save_embedding_layers=grown).keys()
    whole = updated.state_dict().keys()  # a table of embeddings may be there whole
    odd = sorted((expected - weights.keys()) | (weights.keys() - expected - whole))
    if odd:
        raise DataError(f"{folder}: {len(odd)} updates are missing or fit no layer of {base}, first {odd[0]}")
    if all(not weight.any() for name, weight in weights.items() if "lora_B" in name):
        logger.warning("%s changes nothing: all its updates are zero", folder)
    done = updated.merge_and_unload()
    if head and not causal:
        setattr(model, model.base_model_prefix, done)
        done = model
    elif causal and not head:
        done = done.base_model
    done.name_or_path = str(folder)  # what further updates are updates of
    return done.requires_grad_(True)  # peft froze them
