"""How fast this machine encodes: batches like those of an evaluation, for a minute at most."""

import copy
import logging
import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.checkpoints.load import read_model
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.datasets.corpus import Corpus
from llara_eval.datasets.load import DEMO_FOLDER
from llara_eval.encoding.devices import default_device, set_up, settle_dtype
from llara_eval.encoding.encoder import Encoder
from llara_eval.encoding.engines import find_facts
from llara_eval.planning.cost import cost, skeleton
from llara_eval.planning.workload import Reading

logger = logging.getLogger(__name__)

SHORT = 2
"""Layers of the model with random weights that is timed where there are no weights."""


class Probe(NamedTuple):
    """The measured speed of a machine.

    Attributes:
        seconds: Seconds of encoding, tokenisation included.
        tokens: Tokens encoded, padding not counted.
        operations: Their floating-point operations, padding not counted.
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
        """Useful floating-point operations a second; padding and tokenisation only cost time."""
        return self.operations / self.seconds


def open_encoder(
    checkpoint: Checkpoint, reading: Reading, *, dtype: str | None = None, batch_tokens: int | None = None
) -> Encoder:
    """Return a checkpoint's encoder, or one of its shape where weights, or memory for them, are missing.

    Args:
        checkpoint: The checkpoint.
        reading: How the model reads texts.
        dtype: Dtype of weights and products; None takes one that the processor computes fast.
        batch_tokens: See :class:`Encoder`.
    """
    config, device = checkpoint.config, default_device()
    set_up(device)
    weight_dtype = settle_dtype(dtype, device)
    if reading.tokenizer is None or not checkpoint.has("model*.safetensors"):
        model, tokenizer = _shortened(config, weight_dtype, device), None
    elif cost(config).parameters * weight_dtype.itemsize > _memory(device):
        logger.warning(
            "%s does not fit into the memory of this machine: %d layers are timed", checkpoint.folder, SHORT
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
    """Return a model of few layers and random weights."""
    config = copy.deepcopy(config)
    config.num_hidden_layers = min(SHORT, config.num_hidden_layers)
    if getattr(config, "layer_types", None):  # Gemma's, one for each layer
        config.layer_types = config.layer_types[: config.num_hidden_layers]
    model = skeleton(config).to(dtype).to_empty(device=device)
    for weight in (*model.parameters(), *model.buffers()):
        if weight.is_floating_point():  # not constant: GPUs are faster on numbers that are all the same
            weight.data.uniform_(-0.02, 0.02)
        else:
            weight.data.zero_()
    return model


def time_encoder(
    encoder: Encoder, lengths: Sequence[int], *, seconds: float, progress: Progress = SILENT
) -> Probe:
    """Encode documents of given lengths until the time is over.

    They are sorted and batched like those of a shard, and the batches are taken in random order, so that the
    first of them are representative. The first batch warms up and does not count.

    Args:
        encoder: The encoder; one without a tokenizer is given random token ids.
        lengths: n tokens of a document, template included.
        seconds: The time limit; a single batch may take longer.
        progress: Shows the seconds that have passed.
    """
    random, model = np.random.default_rng(0), cost(encoder.model.config)
    template, began = encoder.templates.document, time.perf_counter()
    sequences, tokenising = _sequences(encoder, lengths, random)
    batches = list(encoder.batches(sequences))
    done: list[tuple[float, int, float]] = []  # seconds, tokens, operations
    with progress.task("probe", int(seconds)) as advance:
        shown = 0
        for number in random.permutation(len(batches)):
            batch = [sequences[row] for row in batches[number]]
            started = time.perf_counter()
            encoder.embed(batch, template).cpu()
            now = time.perf_counter()
            tokens = sum(map(len, batch))
            work = sum(model.operations(float(len(row))) for row in batch)
            done.append((now - started + tokenising * tokens, tokens, work))
            gone = min(int(now - began), int(seconds))
            advance(gone - shown)
            shown = gone
            if now - began + (now - started) > seconds:
                break
    times, counts, operations = zip(*(done[1:] or done), strict=True)
    return Probe(
        seconds=sum(times),
        tokens=sum(counts),
        operations=sum(operations),
        layers=model.layers,
        device=encoder.device.type,
        dtype=str(encoder.model.dtype).removeprefix("torch."),
    )


def _sequences(
    encoder: Encoder, lengths: Sequence[int], random: np.random.Generator
) -> tuple[list[list[int]], float]:
    """Return n token sequences of about these lengths, and the seconds of tokenisation a token."""
    tokenizer, template = encoder.tokenizer, encoder.templates.document
    if tokenizer is None:
        vocabulary = encoder.model.config.vocab_size
        return [random.integers(vocabulary, size=length).tolist() for length in lengths], 0.0
    prose = " ".join(document.contents for document in Corpus(DEMO_FOLDER / "corpus.jsonl"))
    ids = tokenizer(prose, add_special_tokens=False)["input_ids"]
    endless, own = np.resize(ids, len(ids) + max(lengths)), template.own_tokens(tokenizer)
    starts = random.integers(len(ids), size=len(lengths)).tolist()
    texts = [
        tokenizer.decode(endless[start : start + max(1, length - own)].tolist())
        for start, length in zip(starts, lengths, strict=True)
    ]
    began = time.perf_counter()
    sequences = template.token_ids(tokenizer, texts)
    return sequences, (time.perf_counter() - began) / sum(map(len, sequences))
