"""An estimate of a training run without running it: parameters, steps, tokens, memory and time."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.encoding.devices import default_device
from llara_eval.planning.cost import feed_forward, products, skeleton
from llara_eval.training.checkpoint import precision_of, prepare
from llara_eval.training.config import Conditions, Schedule

SAMPLE = 256
"""Rows whose tokens are counted."""

_EFFICIENCY = 0.6
"""Share of the speed of a matrix product that a training step reaches; measured on a CPU in float32."""

_PRODUCT_SECONDS = 0.5
"""Seconds for which matrix products are timed on this machine."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An estimate.

    Attributes:
        parameters: Number of parameters.
        trained: Number of trained parameters.
        rows: Rows of the data.
        steps: Optimizer steps.
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
        """Tokens altogether."""
        return self.steps * self.tokens_per_step


def make_plan(
    folder: Path,
    schedule: Schedule,
    conditions: Conditions,
    *,
    head: bool,
    new_tokens: Sequence[int],
    lengths: Sequence[int],
    rows: int,
    passes: float = 3.0,
) -> Plan:
    """Estimate a run from the model's configuration; no weights are read.

    Args:
        folder: The checkpoint folder.
        schedule: How parameters are trained.
        conditions: How the run is carried out.
        head: Whether the language-model head is trained with it.
        new_tokens: Ids of tokens that will be added to the vocabulary.
        lengths: Tokens of each row of a sample, all its sequences together.
        rows: Rows of the data.
        passes: Passes of a step in units of a forward pass: three for forward and backward.

    Raises:
        DataError: The configuration is missing or unreadable.
        UsageError: LoRA names layers that the model does not have, or training does not support the dtype.
    """
    config = Checkpoint(folder).config
    # An embedding matrix grows only where it has no row for a token.
    config.vocab_size = max(config.vocab_size, *(token + 1 for token in new_tokens), 0)
    model = skeleton(config, head=head)
    multiplied = products(model)
    again, compiled = conditions.gradient_checkpointing, conditions.compiled
    trained_model = prepare(model, schedule.lora, new_tokens, gradient_checkpointing=again)
    sizes = [(weight.numel(), weight.requires_grad) for weight in trained_model.parameters()]
    trained = sum(size for size, wanted in sizes if wanted)
    parameters = sum(size for size, _ in sizes)
    steps = schedule.total_steps(rows)
    tokens = schedule.batch_size * sum(lengths) / len(lengths)
    # Weights in float32; a gradient and two moments for what is trained.
    fixed = 4 * parameters + 12 * trained
    precision = precision_of(conditions.dtype, default_device())
    half = precision == torch.bfloat16
    if half and not (again or compiled):
        fixed += 2 * multiplied  # what is multiplied is kept in bfloat16 too
    kept = 1 if again else _activations(config, compiled=compiled, half=half)
    moving = 4 * conditions.micro_tokens * (config.num_hidden_layers * kept * config.hidden_size)
    work = (passes + again) * 2 * multiplied * tokens
    return Plan(
        parameters=parameters,
        trained=trained,
        rows=rows,
        steps=steps,
        tokens_per_step=tokens,
        memory_gib=(fixed + moving) / 2**30,
        hours=steps * work / (_EFFICIENCY * products_per_second(config.hidden_size, precision)) / 3600,
    )


def _activations(config: Any, *, compiled: bool, half: bool) -> float:
    """Return the activations kept for a token and layer, in units of the hidden size in float32.

    Two norms with their inputs, attention's input and output, two residual sums: about 9 widths; queries,
    keys and values; four of the width of the feed-forward layer. A compiled layer keeps what products made
    and need: its input, queries, attention's output, one sum; keys and values; gate and up. In bfloat16 a
    compiled layer's input stays float32; of another the norms and their inputs do, and each product keeps a
    copy of its input.
    """
    heads = getattr(config, "num_attention_heads", 1)
    keys = getattr(config, "num_key_value_heads", heads) / heads
    widths, wide, more = (4, 2, 0.5) if compiled else (9, 4, 3.5)
    kept = widths + 2 * keys + wide * feed_forward(config) / config.hidden_size
    return float(kept / 2 + more if half else kept)


def products_per_second(width: int, precision: torch.dtype) -> float:
    """Return how many floating-point operations a second a matrix product does on this machine."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left = torch.randn(1024, width, device=device, dtype=precision)
    right = torch.randn(width, 4 * width, device=device, dtype=precision)
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < _PRODUCT_SECONDS:
        (left @ right).sum().item()
        done += 1
    return done * 2 * left.numel() * right.shape[1] / (time.perf_counter() - started)
