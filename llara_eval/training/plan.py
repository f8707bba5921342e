"""What a training run will take, without running it: parameters, steps, tokens, memory, time."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llara_eval.checkpoints import read_model_config
from llara_eval.skeleton import products, skeleton
from llara_eval.training.config import Schedule
from llara_eval.training.models import prepare

SAMPLE = 256
"""Rows whose tokens are counted."""

_EFFICIENCY = 0.6
"""Share of the speed of a plain matrix product that a training step reaches; measured on a CPU in float32."""

_PRODUCT_SECONDS = 0.5
"""Time spent on finding out how fast this machine multiplies."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An estimate.

    Attributes:
        parameters: All parameters.
        trained: Those that are trained.
        rows: Rows of the data.
        steps: Updates.
        tokens_per_step: Mean tokens of an update, from a sample of rows.
        memory_gib: Weights, gradients, optimiser and activations.
        hours: On this machine, one process.
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
    *,
    head: bool,
    new_tokens: Sequence[int],
    lengths: Sequence[int],
    rows: int,
    micro_tokens: int,
    gradient_checkpointing: bool,
    compiled: bool,
    passes: float = 3.0,
) -> Plan:
    """Estimate a run from the model's configuration; no weights are read.

    Args:
        folder: The checkpoint folder.
        schedule: How parameters are updated.
        head: Whether the language-model head is trained with it.
        new_tokens: Ids of tokens that will be added to the vocabulary.
        lengths: Tokens of a sample of rows, everything that is computed for a row together.
        rows: Rows of the data.
        micro_tokens: Tokens computed at a time.
        gradient_checkpointing: Whether activations are computed twice instead of kept.
        compiled: Whether layers are compiled, which then keep less.
        passes: Passes of a step in units of a forward pass: three for forward and backward.

    Raises:
        DataError: The configuration is missing or unreadable.
        UsageError: LoRA is wanted on layers that the model lacks.
    """
    config = read_model_config(folder)
    # A table grows only where it lacks a row.
    config.vocab_size = max(config.vocab_size, *(token + 1 for token in new_tokens), 0)
    model = skeleton(config, head=head)
    multiplied = products(model)
    trained_model = prepare(model, schedule.lora, new_tokens, gradient_checkpointing=gradient_checkpointing)
    sizes = [(weight.numel(), weight.requires_grad) for weight in trained_model.parameters()]
    trained = sum(size for size, wanted in sizes if wanted)
    parameters = sum(size for size, _ in sizes)
    steps = schedule.total_steps(rows)
    tokens = schedule.batch_size * sum(lengths) / len(lengths)
    # Weights in float32; a gradient and two moments for what is trained.
    fixed = 4 * parameters + 12 * trained
    kept = 1 if gradient_checkpointing else _activations(config, compiled=compiled)
    moving = 4 * micro_tokens * (config.num_hidden_layers * kept * config.hidden_size)
    work = (passes + gradient_checkpointing) * 2 * multiplied * tokens
    return Plan(
        parameters=parameters,
        trained=trained,
        rows=rows,
        steps=steps,
        tokens_per_step=tokens,
        memory_gib=(fixed + moving) / 2**30,
        hours=steps * work / (_EFFICIENCY * products_per_second(config.hidden_size)) / 3600,
    )


def _activations(config: Any, *, compiled: bool) -> float:
    """Return the activations kept for a token and layer, in units of the width.

    Two norms with their inputs, attention's input and output, two residual sums: about 9 widths; queries,
    keys and values; four of the width of the feed-forward layer. A compiled layer keeps what products made
    and need: its input, queries, attention's output, one sum; keys and values; gate and up.
    """
    heads = config.num_attention_heads
    keys = getattr(config, "num_key_value_heads", heads) / heads
    widths, wide = (4, 2) if compiled else (9, 4)
    return float(widths + 2 * keys + wide * config.intermediate_size / config.hidden_size)


def products_per_second(width: int) -> float:
    """Return how many floating-point operations a second a matrix product does on this machine."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left, right = torch.randn(1024, width, device=device), torch.randn(width, 4 * width, device=device)
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < _PRODUCT_SECONDS:
        (left @ right).sum().item()
        done += 1
    return done * 2 * left.numel() * right.shape[1] / (time.perf_counter() - started)
