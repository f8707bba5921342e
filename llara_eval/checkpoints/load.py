"""A checkpoint folder → an :class:`~llara_eval.encoding.encoder.Encoder` with the right templates.

Folders are read by their own files: our ``template.json``; the sentence-transformers layout
(``modules.json``); low-rank updates (``adapter_config.json``) of a base model, which are merged; a bare
language model (a single GGUF file too). Weights are read as safetensors, LoRA's also by torch's reader of
plain tensors, and no code from a checkpoint is run.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from llara_eval.checkpoints import lora, st_read
from llara_eval.checkpoints.folder import resolve, transformer_folder
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
    folder: Path,
    *,
    dtype: str | None = None,
    batch_tokens: int | None = None,
    changes: Mapping[str, Any] | None = None,
    text_length: int | None = None,
    chosen: Callable[[Any], Templates] | None = None,
    recognisers: Sequence[Recogniser] = (),
    backend: engines.Name = "transformers",
) -> Encoder:
    """Load a checkpoint.

    Args:
        folder: A checkpoint folder, see the module's docstring.
        dtype: ``float32``, ``bfloat16`` or ``float16``; None takes what the processor supports.
        batch_tokens: See :class:`Encoder`.
        changes: Template fields to change on both sides (``max_length``, ``pooling``, …).
        text_length: The most tokens to read where ``changes`` says nothing of it, or as many as the
            model can; None keeps what the templates say.
        chosen: Makes the templates from the tokenizer, whatever the folder says.
        recognisers: Know checkpoints by their own vocabulary or configuration.
        backend: Who computes. With another one than transformers the stock model stays on the CPU, where a
            few texts are compared with it.

    Raises:
        DataError: Files are missing, unreadable or not safetensors.
        UsageError: The dtype is unknown, or the checkpoint needs something we do not have.
        MissingPartError: The backend is not installed.
    """
    device = default_device()
    set_up(device)
    kind = settle_dtype(dtype, device)
    model, tokenizer = read_model(folder, dtype=kind)
    templates, source = settle_templates(
        folder,
        tokenizer,
        model.config,
        changes=changes,
        text_length=text_length,
        chosen=chosen,
        recognisers=recognisers,
        own_modules=backend == "sentence-transformers",
    )
    model = model.to(device if backend == "transformers" else "cpu").eval()
    facts, engine = engines.open_backend(backend, folder, model, tokenizer, templates, device)
    return Encoder(
        model, tokenizer, templates, batch_tokens=batch_tokens, source=source, facts=facts, backend=engine
    )


def settle_templates(
    folder: Path,
    tokenizer: Any,
    config: Any,
    *,
    changes: Mapping[str, Any] | None = None,
    text_length: int | None = None,
    chosen: Callable[[Any], Templates] | None = None,
    recognisers: Sequence[Recogniser] = (),
    own_modules: bool = False,
) -> tuple[Templates, str]:
    """Return the templates :func:`load` uses, and from where they are known; see there."""
    if chosen is not None:
        templates, source = chosen(tokenizer), "chosen"
    else:
        templates, source = read_templates(folder, tokenizer, config, recognisers, own_modules=own_modules)
    require_positions(config, max_length=(changes or {}).get("max_length"))
    if text_length is not None:
        changes = {"max_length": min(text_length, positions(config, tokenizer)), **(changes or {})}
    return templates.with_changes(**(changes or {})).within(own_positions(config)), source


def read_model(folder: Path, *, dtype: torch.dtype, head: bool = False) -> tuple[Any, Any]:
    """Read a model onto the CPU, low-rank updates merged, and its tokenizer.

    Args:
        folder: A checkpoint folder.
        dtype: Of the weights.
        head: Whether the language-model head is wanted.

    Raises:
        DataError: Files or weights are missing, unreadable or not safetensors; the head where it is wanted.
        UsageError: See :func:`read_model_config`.
        MissingPartError: A package that reads such weights is not installed.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModel, AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # it reports a head that is left out as if it were a mistake

    def read(where: Path, causal: bool) -> Any:
        update = lora.read_config(where)
        if update is not None:
            base = lora.base_of(where, update, resolve)
            whole = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(read_model_config(base)), None)
            decoder = whole and whole.base_model_prefix
            return lora.merged(where, base, read_tokenizer(where), read, decoder=decoder, head=causal)
        read_model_config(where, head=causal)  # refuses what cannot be used
        model, found = (AutoModelForCausalLM if causal else AutoModel).from_pretrained(
            transformer_folder(where),
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        if model.config.get_text_config() is not model.config:  # it reads pictures too
            decoder = model.get_decoder()
            decoder.name_or_path, model = model.name_or_path, decoder  # what updates are updates of
        # transformers makes missing ones up; a tied head is not missing, and BERT's pooler is not used.
        missing = [name for name in found["missing_keys"] if not name.startswith("pooler.")]
        if causal and not head:
            missing = [name for name in missing if name.startswith(f"{model.base_model_prefix}.")]
        if missing:
            why = (
                "adapt needs a whole checkpoint, with its language-model head"
                if head
                else "its weights are not complete"
            )
            raise DataError(f"{where} lacks {min(missing)}: {why}")
        return model

    tokenizer = read_tokenizer(folder)
    try:
        model = read(folder, head)
    except ImportError as error:  # of what reads quantised weights
        raise MissingPartError(f"{folder}: {error}") from error
    except _unreadable() as error:
        raise DataError(f"{folder}: cannot be loaded as a model: {error}") from error
    return model, tokenizer


def read_model_config(folder: Path, *, head: bool = False) -> Any:
    """Read the configuration of the model that :func:`read_model` reads, without its weights.

    Args:
        folder: A checkpoint folder.
        head: Whether the language-model head is wanted.

    Raises:
        DataError: It is missing or unreadable.
        UsageError: The model is an encoder and a decoder, or not only a language model, whose head is wanted.
    """
    from transformers import AutoConfig

    update = lora.read_config(folder)
    if update is not None:
        config = read_model_config(lora.base_of(folder, update, resolve), head=head)
        config.vocab_size = max(config.vocab_size, len(read_tokenizer(folder)))
        return config
    try:
        config = AutoConfig.from_pretrained(
            transformer_folder(folder), local_files_only=True, trust_remote_code=False
        )
    except _unreadable() as error:
        raise DataError(f"{folder}: its configuration cannot be read: {error}") from error
    if config.is_encoder_decoder:
        raise UsageError(f"{folder}: {config.model_type} is an encoder and a decoder, and only one is known")
    text = config.get_text_config()
    if head and text is not config:
        raise UsageError(
            f"{folder}: {config.model_type} is more than a language model; save its language model with its "
            "head in a folder of its own"
        )
    return text


def _unreadable() -> tuple[type[Exception], ...]:
    """Return what is raised where a checkpoint's files are not what they should be."""
    from safetensors import SafetensorError

    return OSError, RuntimeError, ValueError, KeyError, TypeError, SafetensorError


def read_tokenizer(folder: Path) -> Any:
    """Read a checkpoint's tokenizer; low-rank updates without one have that of their base.

    It cuts texts at their end, as templates do, whatever it was saved with.

    Raises:
        DataError: It cannot be read.
    """
    from transformers import AutoTokenizer

    transformer = transformer_folder(folder)
    update = lora.read_config(folder)
    if update is not None and not any(transformer.glob("tokenizer*")):
        return read_tokenizer(lora.base_of(folder, update, resolve))
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            transformer, local_files_only=True, trust_remote_code=False, truncation_side="right"
        )
    except _unreadable() as error:
        raise DataError(f"{folder}: its tokenizer cannot be read: {error}") from error
    names = tokenizer.vocab_files_names.values()  # none for those that read bytes
    if names and not any((transformer / name).is_file() for name in names):  # transformers makes one up
        raise DataError(f"{folder} holds no tokenizer ({' or '.join(sorted(names))}); save it there too")
    return tokenizer


def read_templates(
    folder: Path,
    tokenizer: Any,
    config: Any,
    recognisers: Sequence[Recogniser] = (),
    *,
    own_modules: bool = False,
) -> tuple[Templates, str]:
    """Find out how a checkpoint wants its texts, and say from where that is known.

    Args:
        folder: The checkpoint.
        tokenizer: Its tokenizer.
        config: Its model's configuration.
        recognisers: Know checkpoints by their own vocabulary or configuration.
        own_modules: Whether a sentence-transformers folder is run by its own modules, whatever they do.

    Raises:
        DataError: A configuration file is malformed.
        UsageError: A sentence-transformers module is one we cannot reproduce, or nobody knows the
            templates of a LoRA folder.
    """
    own = Templates.load(folder)
    if own is not None:
        return own, TEMPLATE_FILE
    if (folder / "modules.json").is_file():
        return st_read.read_templates(folder, tokenizer, config, own_modules=own_modules), "modules.json"
    update = lora.read_config(folder)
    for recognise in recognisers:
        found = recognise(tokenizer, update)
        if found is not None:
            return found, f"recognised by {recognise.__module__}"
    if update is not None:
        raise UsageError(
            f"{folder}: LoRA of unknown templates; name them with --option template=llara or repllama"
        )
    prefix, suffix = special_tokens(tokenizer)
    limit = min(512, own_positions(config))
    plain = Template(prefix=prefix, suffix=suffix, max_length=limit)
    logger.info("%s has no template: mean pooling, no prompt, %d tokens", folder.name, limit)
    return Templates(plain, plain), "none"
