"""A checkpoint folder → an :class:`~llara_eval.encoding.encoder.Encoder` with the right templates.

Folders are read by their own files: our ``template.json``; the sentence-transformers layout
(``modules.json``); LoRA weights (``adapter_config.json``) of a base model, which are merged; a bare
language model (a single GGUF file too). Weights are read as safetensors, LoRA's also by torch's reader of
plain tensors, and no code from a checkpoint is run.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from llara_eval.checkpoints import lora, st_read
from llara_eval.checkpoints.folder import Checkpoint, opened, unreadable
from llara_eval.core.errors import DataError, MissingPartError, UsageError
from llara_eval.encoding import engines
from llara_eval.encoding.devices import default_device, set_up, settle_dtype
from llara_eval.encoding.encoder import Encoder
from llara_eval.encoding.model_facts import own_positions, positions, require_positions
from llara_eval.encoding.templates import TEMPLATE_FILE, Template, Templates, special_tokens

logger = logging.getLogger(__name__)

Recogniser = Callable[[Any, Mapping[str, Any] | None], Templates | None]
"""Makes templates from a tokenizer and, if there is one, a LoRA configuration; None: not mine."""


def load(
    folder: Path | Checkpoint,
    *,
    dtype: str | None = None,
    batch_tokens: int | None = None,
    changes: Mapping[str, Any] | None = None,
    text_length: int | None = None,
    chosen: Callable[[Any], Templates] | None = None,
    recognisers: Sequence[Recogniser] = (),
    engine: engines.Name = "transformers",
) -> Encoder:
    """Load a checkpoint.

    Args:
        folder: A checkpoint folder, see the module's docstring, or an opened one.
        dtype: ``float32``, ``bfloat16`` or ``float16``; None takes what the processor supports.
        batch_tokens: See :class:`Encoder`.
        changes: Template fields to change on both sides (``max_length``, ``pooling``, …).
        text_length: The most tokens to read where ``changes`` says nothing of it, or as many as the
            model can; None keeps what the templates say.
        chosen: Makes the templates from the tokenizer, whatever the folder says.
        recognisers: Know checkpoints by their own vocabulary or configuration.
        engine: Computes the embeddings. Beside another engine than transformers the stock model stays on the
            CPU, where a few texts are compared with it.

    Raises:
        DataError: Files are missing, unreadable or not safetensors.
        UsageError: The dtype is unknown, a length is more than the model has positions, or the checkpoint
            needs something we do not have.
        MissingPartError: The engine is not installed.
    """
    checkpoint, device = opened(folder), default_device()
    set_up(device)
    weight_dtype = settle_dtype(dtype, device)
    templates, source = settle_templates(
        checkpoint,
        changes=changes,
        text_length=text_length,
        chosen=chosen,
        recognisers=recognisers,
        own_modules=engine == "sentence-transformers",
    )
    model, tokenizer = read_model(checkpoint, dtype=weight_dtype)
    model = model.to(device if engine == "transformers" else "cpu").eval()
    facts, computing = engines.open_engine(engine, checkpoint.folder, model, tokenizer, templates, device)
    return Encoder(
        model, tokenizer, templates, batch_tokens=batch_tokens, source=source, facts=facts, engine=computing
    )


def settle_templates(
    checkpoint: Checkpoint,
    *,
    changes: Mapping[str, Any] | None = None,
    text_length: int | None = None,
    chosen: Callable[[Any], Templates] | None = None,
    recognisers: Sequence[Recogniser] = (),
    own_modules: bool = False,
) -> tuple[Templates, str]:
    """Return the templates that :func:`load` uses, and where they are known from; see there."""
    if chosen is not None:
        templates, source = chosen(checkpoint.tokenizer), "chosen"
    else:
        templates, source = read_templates(checkpoint, recognisers, own_modules=own_modules)
    config = checkpoint.config
    require_positions(config, max_length=(changes or {}).get("max_length"))
    if text_length is not None:
        changes = {"max_length": min(text_length, positions(config, checkpoint.tokenizer)), **(changes or {})}
    return templates.with_changes(**(changes or {})).within(own_positions(config)), source


def read_model(folder: Path | Checkpoint, *, dtype: torch.dtype, head: bool = False) -> tuple[Any, Any]:
    """Read a model onto the CPU, LoRA weights merged, and its tokenizer.

    Args:
        folder: A checkpoint folder, or an opened one.
        dtype: Of the weights.
        head: Whether the language-model head is wanted.

    Raises:
        DataError: Files or weights are missing, unreadable or not safetensors, or there is no head where it
            is wanted.
        UsageError: See :func:`read_model_config`.
        MissingPartError: A package that reads such weights is not installed.
    """
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # it reports a head that is left out as if it were a mistake
    checkpoint = opened(folder)
    tokenizer = checkpoint.tokenizer
    try:
        return _read_weights(checkpoint, dtype, with_head=head, whole=head), tokenizer
    except ImportError as error:  # of what reads quantised weights
        raise MissingPartError(f"{checkpoint.folder}: {error}") from error
    except unreadable() as error:
        raise DataError(f"{checkpoint.folder}: cannot be loaded as a model: {error}") from error


def _read_weights(checkpoint: Checkpoint, dtype: torch.dtype, *, with_head: bool, whole: bool) -> Any:
    """Return a checkpoint's model.

    Args:
        checkpoint: The checkpoint, which may be the base of another one.
        dtype: Of the weights.
        with_head: Whether the model is read with its language-model head.
        whole: Whether the weights of the head must be there.
    """
    from transformers import AutoModel, AutoModelForCausalLM

    if checkpoint.base is not None:
        weights = lora.read_weights(checkpoint.folder)
        on_head = lora.have_head(weights, checkpoint.base.config)
        base = _read_weights(checkpoint.base, dtype, with_head=on_head or with_head, whole=whole)
        tokens = len(checkpoint.tokenizer)
        return lora.merged(checkpoint.folder, weights, base, tokens, on_head=on_head, head=with_head)
    if with_head:
        checkpoint.require_head()
    model, report = (AutoModelForCausalLM if with_head else AutoModel).from_pretrained(
        checkpoint.transformer,
        config=checkpoint.whole_config,
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    if model.config.get_text_config() is not model.config:  # it reads pictures too
        decoder = model.get_decoder()
        decoder.name_or_path, model = model.name_or_path, decoder  # what LoRA weights are of
    # transformers makes missing ones up; a tied head is not missing, and BERT's pooler is not used.
    missing = [name for name in report["missing_keys"] if not name.startswith("pooler.")]
    if with_head and not whole:
        missing = [name for name in missing if name.startswith(f"{model.base_model_prefix}.")]
    if missing:
        reason = (
            "adapt needs a whole checkpoint, with its language-model head"
            if whole
            else "its weights are not complete"
        )
        raise DataError(f"{checkpoint.folder} lacks {min(missing)}: {reason}")
    return model


def read_model_config(folder: Path | Checkpoint, *, head: bool = False) -> Any:
    """Return the configuration of the model that :func:`read_model` reads, without its weights.

    Args:
        folder: A checkpoint folder, or an opened one.
        head: Whether the language-model head is wanted.

    Raises:
        DataError: The configuration is missing or unreadable.
        UsageError: The model is an encoder and a decoder, or not only a language model, whose head is wanted.
    """
    checkpoint = opened(folder)
    if head:
        checkpoint.require_head()
    return checkpoint.config


def read_tokenizer(folder: Path) -> Any:
    """Return a checkpoint's tokenizer, see :attr:`~llara_eval.checkpoints.folder.Checkpoint.tokenizer`."""
    return Checkpoint(folder).tokenizer


def read_templates(
    checkpoint: Checkpoint,
    recognisers: Sequence[Recogniser] = (),
    *,
    own_modules: bool = False,
) -> tuple[Templates, str]:
    """Find out how a checkpoint wants its texts, and say from where that is known.

    Args:
        checkpoint: The checkpoint.
        recognisers: Know checkpoints by their own vocabulary or configuration.
        own_modules: Whether a sentence-transformers folder is run by its own modules, whatever they do.

    Raises:
        DataError: A configuration file is malformed.
        UsageError: A sentence-transformers module is one we cannot reproduce, or nobody knows the
            templates of a LoRA folder.
    """
    if checkpoint.templates is not None:
        return checkpoint.templates, TEMPLATE_FILE
    if checkpoint.modules:
        return st_read.read_templates(checkpoint, own_modules=own_modules), "modules.json"
    for recognise in recognisers:
        templates = recognise(checkpoint.tokenizer, checkpoint.lora)
        if templates is not None:
            return templates, f"recognised by {recognise.__module__}"
    if checkpoint.lora is not None:
        raise UsageError(
            f"{checkpoint.folder}: LoRA of unknown templates; name them with "
            "--option template=llara or repllama"
        )
    prefix, suffix = special_tokens(checkpoint.tokenizer)
    limit = min(512, own_positions(checkpoint.config))
    plain = Template(prefix=prefix, suffix=suffix, max_length=limit)
    logger.info("%s has no template: mean pooling, no prompt", checkpoint.folder.name)
    return Templates(plain, plain), "none"
