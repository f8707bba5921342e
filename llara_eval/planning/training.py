"""An estimate of a training run before it starts: parameters, steps, tokens, memory and time."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.checkpoints.libraries import build_skeleton
from llara_eval.encoding.devices import default_device
from llara_eval.planning.cost import feed_forward, products
from llara_eval.training.checkpoint import precision_of, prepare
from llara_eval.training.config import Conditions, Schedule

SAMPLE = 256
"""Number of rows whose tokens are counted."""

_EFFICIENCY = 0.6
"""Speed of a training step as a share of that of a matrix product; measured on a CPU in float32."""

_PRODUCT_SECONDS = 0.5
"""Seconds for which matrix products are timed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An estimate of a training run.

    Attributes:
        parameters: Number of parameters.
        trained: Number of trained parameters.
        rows: Number of rows of the data.
        steps: Number of optimizer steps.
        tokens_per_step: Mean tokens of an optimizer step, from a sample of rows.
        memory_gib: GiB of weights, gradients, optimizer moments and activations.
        hours: Hours on this machine, in one process.
    """

    parameters: int
    trained: int
    rows: int
    steps: int
    tokens_per_step: float
    memory_gib: float
    hours: float

    @property
    def tokens(self) -> float:
        """Tokens of all optimizer steps."""
        return self.steps * self.tokens_per_step


def make_plan(
    checkpoint: Checkpoint,
    schedule: Schedule,
    conditions: Conditions,
    *,
    head: bool,
    new_tokens: Sequence[int],
    lengths: Sequence[int],
    rows: int,
    passes: float = 3.0,
) -> Plan:
    """Estimate a training run from the model's configuration; no weights are read.

    Args:
        checkpoint: The checkpoint that training begins with.
        schedule: Optimizer steps, batch size and LoRA.
        conditions: Micro-batches, dtype and gradient checkpointing.
        head: Whether the LM head is trained, too.
        new_tokens: Ids of tokens that will be added to the vocabulary.
        lengths: Number of tokens of each row of a sample, over all sequences of the row.
        rows: Number of rows of the data.
        passes: Cost of a step in units of a forward pass: three for forward and backward pass.

    Raises:
        DataError: The configuration is missing or unreadable.
        UsageError: LoRA names layers that the model lacks, or training does not support the dtype.
    """
    config = copy.deepcopy(checkpoint.config)
    # An embedding matrix grows only if it lacks a row for a new token.
    config.vocab_size = max(config.vocab_size, *(token + 1 for token in new_tokens), 0)
    model = build_skeleton(config, head=head)
    multiplied = products(model)
    recomputed, compiled = conditions.gradient_checkpointing, conditions.compiled
    weights = list(prepare(model, schedule.lora, new_tokens, gradient_checkpointing=recomputed).parameters())
    parameters = sum(weight.numel() for weight in weights)
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    steps = schedule.total_steps(rows)
    tokens = schedule.batch_size * sum(lengths) / len(lengths)
    # All weights are float32, and each trained weight has a gradient and two moments.
    fixed = 4 * parameters + 12 * trained
    precision = precision_of(conditions.dtype, default_device())
    half = precision == torch.bfloat16
    if half and not (recomputed or compiled):
        fixed += 2 * multiplied  # autocast keeps a bfloat16 copy of each weight of a product
    kept = 1 if recomputed else _activations(config, compiled=compiled, half=half)
    activations = 4 * conditions.micro_tokens * (config.num_hidden_layers * kept * config.hidden_size)
    operations = (passes + recomputed) * 2 * multiplied * tokens
    return Plan(
        parameters=parameters,
        trained=trained,
        rows=rows,
        steps=steps,
        tokens_per_step=tokens,
        memory_gib=(fixed + activations) / 2**30,
        hours=steps * operations / (_EFFICIENCY * products_per_second(config.hidden_size, precision)) / 3600,
    )


def _activations(config: Any, *, compiled: bool, half: bool) -> float:
    """Return the float32 numbers kept for each token and layer, in units of the hidden size.

    An eager layer keeps about 9 tensors of the hidden size (two norms with their inputs, queries, input and
    output of attention, two residual sums), keys and values, and 4 tensors of the feed-forward size.
    A compiled layer keeps only inputs and outputs of products: 4 tensors of the hidden size (its input,
    queries, the output of attention, one residual sum), keys and values, and 2 tensors of the feed-forward
    size (gate, up). In bfloat16 the input of a compiled layer stays float32; in an eager layer, the norms and
    their inputs stay float32, and each product keeps a copy of its input.
    """
    heads = getattr(config, "num_attention_heads", 1)
    keys = getattr(config, "num_key_value_heads", heads) / heads
    hidden, wide, unhalved = (4, 2, 0.5) if compiled else (9, 4, 3.5)
    kept = hidden + 2 * keys + wide * feed_forward(config) / config.hidden_size
    return float(kept / 2 + unhalved if half else kept)


def products_per_second(width: int, precision: torch.dtype) -> float:
    """Return the speed of matrix products on this machine in floating-point operations per second."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left = torch.randn(1024, width, device=device, dtype=precision)
    right = torch.randn(width, 4 * width, device=device, dtype=precision)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < _PRODUCT_SECONDS:
        (left @ right).sum().item()
        count += 1
    return count * 2 * left.numel() * right.shape[1] / (time.perf_counter() - started)
