"""A checkpoint folder → an :class:`~llara_eval.encoding.encoder.Encoder` with the checkpoint's templates.

A folder holds our ``template.json``, a sentence-transformers model (``modules.json``), a LoRA adapter
(``adapter_config.json``), which is merged into its base model, or a bare language model. Weights are read as
safetensors, those of an adapter also by torch's reader of plain tensors. If the user allows it, other weights
are read so too, and code of a checkpoint runs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from llara_eval.checkpoints import libraries, lora, st_read
from llara_eval.checkpoints.folder import BIN_WEIGHTS, Checkpoint
from llara_eval.core.errors import DataError, UsageError
from llara_eval.encoding import engines
from llara_eval.encoding.devices import default_device, set_up, settle_dtype
from llara_eval.encoding.encoder import Encoder
from llara_eval.encoding.model_facts import bare_facts, max_positions, max_tokens, require_positions
from llara_eval.encoding.packed import PackedModel
from llara_eval.encoding.padded import PaddedModel
from llara_eval.encoding.prompt_sets import OWN_PROMPTS, Entry, PromptOptions
from llara_eval.encoding.prompts import Origin
from llara_eval.encoding.templates import SIDES, TEMPLATE_FILE, Template, Templates, special_tokens

_MODULES = "modules.json"
"""The source of templates that a sentence-transformers folder says."""

_NONE = "none"
"""The source of templates where a checkpoint says nothing."""

_BARE = frozenset({"pooling", "normalize", "prompt", "max_length"})
"""The fields of a template that a language model alone leaves open."""

_BUFFERS = ("position_ids", "inv_freq")
"""Ends of the names of tensors that old checkpoints hold, and that models now compute."""

Recogniser = Callable[[Any, Mapping[str, Any] | None], Templates | None]
"""Returns templates, given a tokenizer and, of an adapter, the LoRA configuration; None if it knows none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What decides the templates and the engine of a checkpoint; by default the checkpoint itself.

    Attributes:
        changes: Template fields to change on both sides (``pooling``, …), limits of length (``max_length``,
            ``query_length``, ``document_length``), and ``length_of``: whether these count the whole
            ``sequence`` or the ``text`` alone.
        text_length: The limit of length in tokens of a side for which ``changes`` has none, or the model's
            limit if that is lower; None keeps the limits of the templates.
        make_templates: Makes the templates from the tokenizer; those of the folder are ignored.
        recognisers: Make templates for checkpoints that they know by vocabulary or configuration.
        prompts: What the user says of prompts.
        entry: What the set of prompts, if ``prompts`` names one, holds for the data set.
        engine: The engine that computes the embeddings. If it is not transformers, the stock model stays on
            the CPU, where a few vectors are compared with it.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    text_length: int | None = None
    make_templates: Callable[[Any], Templates] | None = None
    recognisers: Sequence[Recogniser] = ()
    prompts: PromptOptions = OWN_PROMPTS
    entry: Entry | None = None
    engine: engines.Name = "transformers"


AS_IT_IS = LoadOptions()
"""The checkpoint's own templates, computed by transformers."""


def load(
    folder: Path | Checkpoint,
    options: LoadOptions = AS_IT_IS,
    *,
    dtype: str | None = None,
    batch_tokens: int | None = None,
) -> Encoder:
    """Load a checkpoint.

    Args:
        folder: A checkpoint folder, or a checkpoint that is already open.
        options: What decides the templates and the engine.
        dtype: ``float32``, ``bfloat16`` or ``float16``; None takes the default of the device.
        batch_tokens: Tokens of a batch, padding included; None takes what suits the device.

    Raises:
        DataError: Files are missing, unreadable or not safetensors.
        UsageError: The dtype is unknown, a length is more than the model has positions, the checkpoint or
            one of its modules is not supported, or it has no prompt as the user names it.
        CheckFailedError: It is unclear which of the stored prompts is meant.
        MissingPartError: The engine, or a package that reads such weights, is not installed.
    """
    checkpoint = folder if isinstance(folder, Checkpoint) else Checkpoint(folder)
    return engines.encoder_of(open_source(checkpoint, options, dtype=dtype), options.engine, batch_tokens)


def open_source(
    checkpoint: Checkpoint, options: LoadOptions = AS_IT_IS, *, dtype: str | None = None
) -> engines.Source:
    """Read what engines are made from; see :func:`load`."""
    device = default_device()
    set_up(device)
    products = settle_dtype(dtype, device)
    templates, origin = settle_templates(checkpoint, options)
    model = read_model(checkpoint, dtype=torch.float32 if options.engine == "openvino" else products)
    stock = options.engine == "transformers"
    model = model.to(device if stock else "cpu").eval()
    return engines.Source(
        folder=checkpoint.folder,
        content=lambda: checkpoint.content_hash,
        model=model,
        tokenizer=checkpoint.tokenizer,
        templates=templates,
        origin=origin,
        facts=engines.find_facts(model, templates) if stock else bare_facts(model),
        device=device,
        dtype=products,
        read_modules=libraries.read_modules,
        trust_code=checkpoint.allowed.code,
    )


def settle_templates(checkpoint: Checkpoint, options: LoadOptions = AS_IT_IS) -> tuple[Templates, Origin]:
    """Return the templates that :func:`load` uses, and their sources; see there for errors."""
    stored, open_fields = None, frozenset[str]()
    if options.make_templates is not None:
        templates, source = options.make_templates(checkpoint.tokenizer), "chosen"
    else:
        templates, source, open_fields = _own_templates(checkpoint, options)
        stored = st_read.read_prompts(checkpoint.folder) if source == _MODULES else None
    config, changes, prompts = checkpoint.config, dict(options.changes), options.prompts
    decided = {*changes, *(() if prompts == OWN_PROMPTS else ("prompt",))}
    if {"query_length", "document_length"} <= decided:
        decided.add("max_length")
    by_side = prompts.settle(templates, source, stored, options.entry)
    templates = Templates(*(replace(templates.of(side), prompt=by_side[side].text) for side in SIDES))
    of_text = changes.pop("length_of", "sequence") == "text"
    lengths = {name: changes.pop(name, None) for name in ("max_length", "query_length", "document_length")}
    require_positions(config, **lengths)
    usual = options.text_length and min(options.text_length, max_tokens(config, checkpoint.tokenizer))
    templates = templates.with_changes(**changes)
    templates = templates.cut_to(
        *(
            lengths[f"{side}_length"] or lengths["max_length"] or usual or templates.of(side).max_length
            for side in SIDES
        )
    )
    if of_text:
        templates = templates.beside_text(checkpoint.tokenizer)
        require_positions(config, **{f"{side} length": templates.of(side).max_length for side in SIDES})
    templates = templates.within(max_positions(config))
    origin = Origin(
        template=source,
        query=by_side["query"].source,
        document=by_side["document"].source,
        stored=stored,
        warnings=_warnings(checkpoint.folder.name, templates, open_fields - decided),
        pending=prompts.set_name is not None and options.entry is None,
    )
    return templates, origin


def change_templates(encoder: Encoder, templates: Templates, origin: Origin) -> Encoder:
    """Return an encoder with the same weights and other templates.

    If these are longer, it is found out again whether the model reads packed batches.
    """
    longer = any(templates.of(side).max_length > encoder.templates.of(side).max_length for side in SIDES)
    own_engine = isinstance(encoder.engine, PackedModel | PaddedModel)
    facts = engines.find_facts(encoder.model, templates) if longer and own_engine else None
    return encoder.with_templates(templates, origin, facts=facts)


def read_model(checkpoint: Checkpoint, *, dtype: torch.dtype, head: bool = False) -> Any:
    """Read a checkpoint's model onto the CPU; LoRA weights are merged into their base model.

    Args:
        checkpoint: The checkpoint.
        dtype: The dtype of the weights.
        head: Whether the model is read with its language-model head.

    Raises:
        DataError: Weights are missing, unreadable or not safetensors, or of a class that transformers does
            not have, or the head is to be read and missing.
        UsageError: The model has an encoder and a decoder, or the head is to be read and belongs to more than
            a language model.
        MissingPartError: A package that reads such weights is not installed.
    """
    return _read_weights(checkpoint, dtype, with_head=head, whole=head)


def _read_weights(checkpoint: Checkpoint, dtype: torch.dtype, *, with_head: bool, whole: bool) -> Any:
    """Return a checkpoint's model; if it is ``whole``, a head must have weights in the checkpoint."""
    if checkpoint.base is not None:
        weights = lora.read_weights(checkpoint.folder)
        on_head = lora.trained_with_head(weights, checkpoint.base.config)
        base = _read_weights(checkpoint.base, dtype, with_head=on_head or with_head, whole=whole)
        tokens = len(checkpoint.tokenizer)
        return lora.merge(
            checkpoint.folder,
            weights,
            base,
            tokens,
            on_head=on_head,
            with_head=with_head,
            trusted=checkpoint.allowed.code,
        )
    if with_head:
        checkpoint.require_head()
    folder = checkpoint.transformer
    pickled = sorted(path.name for path in folder.glob(BIN_WEIGHTS))
    if pickled and not checkpoint.reads_bin and not any(folder.glob("*.safetensors")):
        raise DataError(
            f"{folder} has its weights in {pickled[0]} only: -o bin_weights=true reads them, without running "
            "code in them; or save them as safetensors"
        )
    model, report = libraries.read_model(
        folder,
        checkpoint.whole_config,
        dtype=dtype,
        head=with_head,
        pickled=checkpoint.reads_bin,
        trusted=checkpoint.allowed.code,
    )
    if model.config.get_text_config() is not model.config:  # the model reads pictures too
        decoder = model.get_decoder()
        decoder.name_or_path, model = model.name_or_path, decoder  # an adapter records it as its base model
    _refuse_weights_without_place(checkpoint, model, report["unexpected_keys"])
    # transformers would invent missing weights. A tied head is not missing, and BERT's pooler is not used.
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


def _refuse_weights_without_place(checkpoint: Checkpoint, model: Any, names: Iterable[str]) -> None:
    """Refuse weights that transformers drops, if they are not those of a head that it knows.

    Raises:
        DataError: The checkpoint was saved by a class that transformers does not have, with weights that its
            own class has no place for.
    """
    import transformers

    classes = checkpoint.whole_config.architectures or []
    dropped = sorted(name for name in names if not name.endswith(_BUFFERS))
    if dropped and classes and not any(hasattr(transformers, name) for name in classes):
        raise DataError(
            f"{checkpoint.folder} was saved by {classes[0]}, and {type(model).__name__} has no place for "
            f"{dropped[0]}; its vectors would be others"
        )


def _own_templates(checkpoint: Checkpoint, options: LoadOptions) -> tuple[Templates, str, frozenset[str]]:
    """Return the templates of a checkpoint without the user's settings, their source, and what is left open.

    The last are the fields of a template of which the checkpoint says nothing, so that they have defaults.
    """
    if checkpoint.templates is not None:
        return checkpoint.templates, TEMPLATE_FILE, frozenset()
    if checkpoint.modules:
        own_modules = options.engine == "sentence-transformers"
        templates, names_similarity = st_read.read_templates(checkpoint, own_modules=own_modules)
        return templates, _MODULES, frozenset(() if names_similarity else ("normalize",))
    for recognise in options.recognisers:
        recognised = recognise(checkpoint.tokenizer, checkpoint.lora)
        if recognised is not None:
            return recognised, f"recognised by {recognise.__module__}", frozenset()
    if checkpoint.lora is not None:
        raise UsageError(
            f"{checkpoint.folder}: a LoRA adapter of unknown templates; name them with "
            "--option template=llara or repllama"
        )
    prefix, suffix = special_tokens(checkpoint.tokenizer)
    limit = min(512, max_positions(checkpoint.config))
    plain = Template(prefix=prefix, suffix=suffix, max_length=limit, cut=checkpoint.cut)
    return Templates(plain, plain), _NONE, _BARE


def _warnings(name: str, templates: Templates, assumed: frozenset[str]) -> tuple[str, ...]:
    """Return the warning about the fields of a template that neither the checkpoint nor the user decides."""
    if not assumed:
        return ()
    document = templates.document
    positions = {"mean": "the mean of all positions", "first": "the first position"}
    values = {
        "pooling": positions.get(document.pooling, "the last position"),
        "normalize": "cosine",
        "prompt": "no prompt",
        "max_length": f"at most {document.max_length} tokens",
    }
    options = {"prompt": "--query-prompt, --document-prompt", "max_length": "--max-length"}
    parts = [
        f"{value} ({options.get(name_of_field, f'-o {name_of_field}')})"
        for name_of_field, value in values.items()
        if name_of_field in assumed
    ]
    return (
        f"{name} does not say everything about its vectors; assumed here: {', '.join(parts)}; its authors "
        "may mean others",
    )
