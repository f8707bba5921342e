"""Checkpoints of training: put a LoRA adapter on a model; save a checkpoint, load it again and compare."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.checkpoints.load import load, read_model
from llara_eval.checkpoints.own_code import Permissions
from llara_eval.core.errors import CheckFailedError, DataError, MissingPartError, UsageError
from llara_eval.core.files import remove_drafts, write_json
from llara_eval.core.folders import staging
from llara_eval.core.sealed import CHECKSUMS, seal_folder
from llara_eval.datasets.contamination import RECORD
from llara_eval.encoding.check import check
from llara_eval.encoding.devices import has_bfloat16, named_dtype
from llara_eval.encoding.model_facts import evaluating
from llara_eval.encoding.padded import embed
from llara_eval.encoding.templates import SIDES, Side, Templates
from llara_eval.training.config import LoRA
from llara_eval.training.distributed import rank

logger = logging.getLogger(__name__)

SAMPLES = (
    "eclipse",
    "The moon passes between the sun and the earth, and its shadow falls on a strip of land.",
    "A violin and a cello are tuned in fifths and played with a bow; a guitar is plucked, and its frets "
    "say where a note lies. All three are made of spruce and maple.",
)
"""The texts on which a saved checkpoint is compared with the model in memory."""

_NOTHING = Permissions()

_TOLERANCE = 1e-5
"""Largest difference of a component of a unit embedding before and after saving, in float32."""


def add_lora(model: Any, lora: LoRA, new_tokens: Sequence[int] = ()) -> Any:
    """Freeze a model and put a LoRA adapter on it.

    Args:
        model: A transformers model.
        lora: The adapter's rank, scale, dropout and layers.
        new_tokens: Ids of new tokens, whose embeddings are trained too.

    Returns:
        The peft model around the model.

    Raises:
        UsageError: The model has no linear layer of one of the names in ``lora.targets``.
    """
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer

    head = model.get_output_embeddings()  # our losses use the head's weight, without any adapter
    names = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    }
    absent = [name for name in lora.targets if name not in names]
    if absent:
        raise UsageError(
            f"{type(model).__name__} has no linear layers for LoRA called {', '.join(absent)}; it has "
            f"{', '.join(sorted(names))} (name some of them with -o lora_targets=…)"
        )
    config = LoraConfig(
        task_type=TaskType.FEATURE_EXTRACTION,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        trainable_token_indices=list(new_tokens) or None,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft uses a deprecated name of transformers
        return get_peft_model(model, config)


@torch.no_grad()
def sample_embeddings(model: Any, tokenizer: Any, templates: Templates) -> dict[Side, Tensor]:
    """Return the embeddings of a few texts on both sides, each (n, D), without dropout.

    Args:
        model: Called like a transformers base model; all processes must take part if it is sharded.
        tokenizer: Its tokenizer.
        templates: Its templates.
    """
    embeddings = {}
    with evaluating(model):
        for side in SIDES:
            sequences = templates.of(side).token_ids(tokenizer, SAMPLES)
            embeddings[side] = embed(model, sequences, templates.of(side), causal=True).cpu()
    return embeddings


def rehearse_saving(
    model: Any, tokenizer: Any, templates: Templates, output: Path, *, allowed: Permissions = _NOTHING
) -> None:
    """Save all of a checkpoint but its weights, and read it again: a long training must not end without one.

    Args:
        model: A transformers model, or peft's around one.
        tokenizer: The tokenizer.
        templates: The templates.
        output: The folder of the run, in which nothing stays.
        allowed: What may be read and run of the checkpoint and its base model.

    Raises:
        CheckFailedError: The files that were read again give other token ids, or cannot be read.
        LlaraEvalError: The output cannot be written.
    """
    with staging(output) as unfinished:
        try:
            _rehearse(model, tokenizer, templates, Checkpoint(unfinished, allowed=allowed))
        except (DataError, MissingPartError, UsageError) as error:
            raise CheckFailedError(f"a checkpoint saved for {output} could not be read: {error}") from error


def _rehearse(model: Any, tokenizer: Any, templates: Templates, saved: Checkpoint) -> None:
    """Save all of a checkpoint but its weights into its folder, read it again, and compare token ids."""
    folder = saved.folder
    adapters = getattr(model, "peft_config", None)
    (model.config if adapters is None else adapters["default"]).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    templates.save(folder)
    saved.whole_config  # noqa: B018 (an adapter needs its base model)
    texts = [*SAMPLES, " ".join(tokenizer.get_added_vocab())]
    for side in SIDES:
        template = templates.of(side)
        ids = template.token_ids(tokenizer, texts)
        if saved.templates != templates or template.token_ids(saved.tokenizer, texts) != ids:
            raise CheckFailedError(
                "a checkpoint that is saved would give other token ids than the model is trained on: "
                f"{type(tokenizer).__name__} is not the same after it was saved"
            )


def save_checkpoint(
    model: Any,
    tokenizer: Any,
    templates: Templates,
    output: Path,
    *,
    expected: Mapping[Side, Tensor],
    merge: bool,
    record: Mapping[str, Any],
    allowed: Permissions = _NOTHING,
) -> None:
    """Save a checkpoint, load it again, compare, and only then move it to the output.

    Args:
        model: A transformers model, or peft's around one. All processes must take part if it is sharded.
        tokenizer: The tokenizer, saved beside the model.
        templates: The templates, saved as ``template.json``.
        output: The folder of the run; the files appear there, the record last.
        expected: The :func:`sample_embeddings` of the model in memory.
        merge: Whether a LoRA adapter is merged into the base model; otherwise it is saved alone.
        record: How the checkpoint was trained, for ``training.json``.
        allowed: What may be read and run of the checkpoint and its base model.

    Raises:
        CheckFailedError: The saved checkpoint does not give the same embeddings, or fails the check on
            real texts.
    """
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if rank() != 0:
        return
    with staging(output) as unfinished:
        model.save_pretrained(unfinished, state_dict=weights, **_embedding_option(model, allowed))
        tokenizer.save_pretrained(unfinished)
        templates.save(unfinished)
        (unfinished / "README.md").unlink(missing_ok=True)  # peft's empty model card
        if merge and (unfinished / "adapter_config.json").is_file():
            _merge(Checkpoint(unfinished, allowed=allowed), head=model.get_output_embeddings() is not None)
        encoder = load(Checkpoint(unfinished, allowed=allowed), dtype="float32")
        difference = max(
            float((embeddings - expected[side]).abs().max())
            for side, embeddings in sample_embeddings(encoder.model, tokenizer, encoder.templates).items()
        )
        if not difference <= _TOLERANCE:
            raise CheckFailedError(
                f"the checkpoint saved for {output} gives other embeddings than the model in memory: they "
                f"differ by {difference:.2e}, and rounding errors are at most {_TOLERANCE:.0e}"
            )
        check(encoder, SAMPLES)
        seal_folder(unfinished)
        for file in sorted(unfinished.iterdir(), key=lambda file: (file.name != CHECKSUMS, file.name)):
            file.chmod(0o644)  # safetensors makes files that only their owner can read
            file.replace(output / file.name)
    remove_drafts(output, "new")
    write_json(output / RECORD, {**record, "reload_difference": difference})
    logger.info("saved %s; loaded again, its embeddings differ by %.1e", output, difference)


def _merge(checkpoint: Checkpoint, *, head: bool) -> None:
    """Replace a saved LoRA adapter by the merged model, with or without its LM head."""
    model = read_model(checkpoint, dtype=torch.float32, head=head)
    for file in checkpoint.folder.glob("adapter_*"):
        file.unlink()
    model.save_pretrained(checkpoint.folder)


def _embedding_option(model: Any, allowed: Permissions) -> dict[str, bool]:
    """Return peft's option to save the embedding matrix, which it needs if new rows were added."""
    if not hasattr(model, "peft_config"):
        return {}
    base = Checkpoint(Path(model.peft_config["default"].base_model_name_or_path), allowed=allowed)
    return {"save_embedding_layers": model.config.vocab_size > base.config.vocab_size}


def prepare(model: Any, lora: LoRA | None, new_tokens: Sequence[int], *, gradient_checkpointing: bool) -> Any:
    """Return the model for training: peft's around it with a LoRA adapter, or the model itself.

    Args:
        model: A transformers model, changed in place.
        lora: The LoRA adapter to train; None trains every parameter.
        new_tokens: Ids of new tokens, whose embeddings are trained too.
        gradient_checkpointing: Whether activations are computed twice instead of being kept.

    Raises:
        UsageError: See :func:`add_lora`.
    """
    model.config.use_cache = False
    if gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model if lora is None else add_lora(model, lora, new_tokens)


def precision_of(name: str | None, device: torch.device) -> torch.dtype:
    """Return the dtype of matrix products: the named one, or bfloat16 where the device computes it fast.

    Raises:
        UsageError: Training does not support the dtype.
    """
    if name is None:
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    dtype = named_dtype(name)
    if dtype == torch.float16:
        raise UsageError(f"training computes in float32 or bfloat16, not {name}")
    return dtype
