"""The encoding speed of this machine, measured on batches like those of an evaluation."""

import copy
import logging
import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.checkpoints.libraries import build_skeleton
from llara_eval.checkpoints.load import read_model
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.datasets.folder import corpus_of
from llara_eval.datasets.load import DEMO_FOLDER
from llara_eval.encoding.devices import default_device, set_up, settle_dtype
from llara_eval.encoding.encoder import Encoder
from llara_eval.encoding.engines import find_facts
from llara_eval.planning.cost import cost
from llara_eval.planning.workload import Reading

logger = logging.getLogger(__name__)

_LAYERS = 2
"""Layers of the model with random weights that is timed if the weights are missing or too large."""


class Probe(NamedTuple):
    """The measured speed of a machine.

    Attributes:
        seconds: Seconds of encoding, tokenisation included.
        tokens: Number of tokens encoded, without padding.
        operations: Floating-point operations of encoding these tokens.
        layers: Layers of the model that was timed.
        device: Type of the device.
        dtype: Dtype of weights and products.
    """

    seconds: float
    tokens: int
    operations: float
    layers: int
    device: str
    dtype: str

    @property
    def speed(self) -> float:
        """Floating-point operations per second; those of padding do not count, but their time does."""
        return self.operations / self.seconds


def open_encoder(
    checkpoint: Checkpoint, reading: Reading, *, dtype: str | None = None, batch_tokens: int | None = None
) -> Encoder:
    """Return the encoder of a checkpoint.

    If the tokenizer, the weights or the memory for them are missing, the encoder has few layers of the same
    shape with random weights, and no tokenizer.

    Args:
        checkpoint: The checkpoint.
        reading: Templates and tokenizer of the model.
        dtype: Dtype of weights and products; None means the default of the device.
        batch_tokens: See :class:`Encoder`.
    """
    config, device = checkpoint.config, default_device()
    set_up(device)
    weight_dtype = settle_dtype(dtype, device)
    if reading.tokenizer is None or not checkpoint.has("model*.safetensors"):
        model, tokenizer = _shortened(config, weight_dtype, device), None
    elif cost(config).parameters * weight_dtype.itemsize > _memory(device):
        logger.warning(
            "%s does not fit into the memory of this machine: %d layers are timed", checkpoint.folder, _LAYERS
        )
        model, tokenizer = _shortened(config, weight_dtype, device), None
    else:
        model, tokenizer = read_model(checkpoint, dtype=weight_dtype), checkpoint.tokenizer
    model = model.to(device).eval()
    facts = find_facts(model, reading.templates)
    return Encoder(model, tokenizer, reading.templates, batch_tokens=batch_tokens, facts=facts)


def _memory(device: torch.device) -> int:
    """Return the bytes of a device's memory."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _shortened(config: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """Return a model of the same shape with at most ``_LAYERS`` layers and random weights."""
    config = copy.deepcopy(config)
    config.num_hidden_layers = min(_LAYERS, config.num_hidden_layers)
    if getattr(config, "layer_types", None):  # Gemma lists a type for each layer
        config.layer_types = config.layer_types[: config.num_hidden_layers]
    model = build_skeleton(config).to(dtype).to_empty(device=device)
    for weight in (*model.parameters(), *model.buffers()):
        if weight.is_floating_point():  # random, because GPUs are faster on equal numbers
            weight.data.uniform_(-0.02, 0.02)
        else:
            weight.data.zero_()
    return model


def time_encoder(
    encoder: Encoder, lengths: Sequence[int], *, seconds: float, progress: Progress = SILENT
) -> Probe:
    """Measure the speed of an encoder on documents of given lengths.

    The documents are sorted and batched like those of a shard. The batches are encoded in random order, so
    that the first batches are representative. If there are several, the first is a warm-up that does not
    count.

    Args:
        encoder: The encoder; without a tokenizer, it gets random token ids.
        lengths: Number of tokens of each document, template included.
        seconds: The time limit; at least one batch is encoded, however long it takes.
        progress: Shows the seconds that have passed.
    """
    random, model = np.random.default_rng(0), cost(encoder.model.config)
    began = time.perf_counter()
    sequences, seconds_per_token = _sequences(encoder, lengths, random)
    batches = list(encoder.batches(sequences))
    timings: list[tuple[float, int, float]] = []  # seconds, tokens, operations
    with progress.task("probe", int(seconds)) as advance:
        shown = 0
        for number in random.permutation(len(batches)):
            batch = [sequences[index] for index in batches[number]]
            started = time.perf_counter()
            encoder.embed(batch, "document").cpu()
            now = time.perf_counter()
            tokens = sum(map(len, batch))
            operations = sum(model.operations(float(len(input_ids))) for input_ids in batch)
            timings.append((now - started + seconds_per_token * tokens, tokens, operations))
            elapsed = min(int(now - began), int(seconds))
            advance(elapsed - shown)
            shown = elapsed
            if now - began + (now - started) > seconds:
                break
    batch_seconds, batch_tokens, batch_operations = zip(*(timings[1:] or timings), strict=True)
    return Probe(
        seconds=sum(batch_seconds),
        tokens=sum(batch_tokens),
        operations=sum(batch_operations),
        layers=model.layers,
        device=encoder.device.type,
        dtype=str(encoder.engine.dtype).removeprefix("torch."),
    )


def _sequences(
    encoder: Encoder, lengths: Sequence[int], random: np.random.Generator
) -> tuple[list[list[int]], float]:
    """Return token sequences of about the given lengths, and the seconds of tokenisation per token."""
    tokenizer, template = encoder.tokenizer, encoder.templates.document
    if tokenizer is None:
        vocabulary = encoder.model.config.vocab_size
        return [random.integers(vocabulary, size=length).tolist() for length in lengths], 0.0
    prose = " ".join(document.contents for document in corpus_of(DEMO_FOLDER))
    ids = tokenizer(prose, add_special_tokens=False)["input_ids"]
    repeated, template_tokens = np.resize(ids, len(ids) + max(lengths)), template.own_tokens(tokenizer)
    starts = random.integers(len(ids), size=len(lengths)).tolist()
    texts = [
        tokenizer.decode(repeated[start : start + max(1, length - template_tokens)].tolist())
        for start, length in zip(starts, lengths, strict=True)
    ]
    began = time.perf_counter()
    sequences = template.token_ids(tokenizer, texts)
    return sequences, (time.perf_counter() - began) / sum(map(len, sequences))
