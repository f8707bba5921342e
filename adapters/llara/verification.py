"""``verify-joint``: one joint pass against two separate passes, on real texts and a real model."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from adapters.llara.joint import (
    NEXT,
    SELF,
    Frame,
    JointBatch,
    attention_mask,
    embeddings,
    hidden_states,
    joint_mask,
    lay_out,
)
from llara_eval.errors import UsageError
from llara_eval.padding import embed
from llara_eval.protocols import SILENT, Progress
from llara_eval.templates import Template, Templates
from llara_eval.training.batching import token_batches

LARGEST_ERROR = 1e-5
"""Differences of unit embeddings in float32 up to this one are rounding."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found.

    Attributes:
        texts: How many texts.
        isolation_error: Largest difference between a component of a unit embedding from the joint pass
            and from a pass of its own, in float32.
        leaked_attention: Largest attention weight from NEXT to SELF in any layer and head.
        joint_tokens: Tokens of the joint sequences.
        separate_tokens: Tokens of the separate sequences.
        joint_seconds: Median seconds of the joint passes.
        separate_seconds: Median seconds of the separate passes.
    """

    texts: int
    isolation_error: float
    leaked_attention: float
    joint_tokens: int
    separate_tokens: int
    joint_seconds: float
    separate_seconds: float

    @property
    def cost_ratio(self) -> float:
        """Tokens of joint over separate passes."""
        return self.joint_tokens / self.separate_tokens

    @property
    def time_ratio(self) -> float:
        """Seconds of joint over separate passes."""
        return self.joint_seconds / self.separate_seconds

    @property
    def holds(self) -> bool:
        """Whether the joint pass is what two passes are."""
        return self.isolation_error <= LARGEST_ERROR and self.leaked_attention == 0.0


@torch.inference_mode()
def verify_joint(
    model: Any,
    tokenizer: Any,
    templates: Templates,
    texts: Sequence[str],
    *,
    max_length: int,
    batch_tokens: int,
    repeats: int = 3,
    progress: Progress = SILENT,
) -> Verification:
    """Compare the joint pass with two separate ones.

    Args:
        model: A transformers base model in float32.
        tokenizer: Its tokenizer.
        templates: LLaRA templates; their limits of length are not used.
        texts: Real texts.
        max_length: Most tokens of a joint sequence.
        batch_tokens: Tokens of a batch, padding included, the same for both ways.
        repeats: How often each way is timed, in turns; medians are kept.
        progress: Where to show progress.
    """
    frame = Frame.of(templates, tokenizer)
    room = frame.room(max_length)
    ids = tokenizer(list(texts), add_special_tokens=False, truncation=True, max_length=room)["input_ids"]
    sides = {
        "document": [[*frame.prefix, *text, *frame.self_suffix] for text in ids],
        "query": [[*frame.prefix, *text, *frame.next_suffix] for text in ids],
    }

    def together() -> Tensor:
        """Both embeddings from joint passes."""

        def both(rows: list[int]) -> Tensor:
            batch = lay_out([ids[row] for row in rows], frame).to(model.device)
            hidden = hidden_states(model, batch)
            passage = embeddings(hidden, batch.self_slots, templates.document)
            return torch.cat([passage, embeddings(hidden, batch.next_slots, templates.query)], dim=1)

        return _in_batches(both, [len(text) + max_length - room for text in ids], batch_tokens)

    def apart() -> Tensor:
        """The same from passes of their own."""
        made = []
        for template, sequences in zip((templates.document, templates.query), sides.values(), strict=True):
            one = partial(_alone, model, sequences, template)
            made.append(_in_batches(one, [len(sequence) for sequence in sequences], batch_tokens))
        return torch.cat(made, dim=1)

    error = float((together() - apart()).abs().max())  # and both ways are warm now
    seconds: dict[Callable[[], Tensor], list[float]] = {together: [], apart: []}
    with progress.task("compare", repeats) as advance:
        for _ in range(repeats):
            for way, taken in seconds.items():
                started = time.perf_counter()
                way()
                taken.append(time.perf_counter() - started)
            advance()
    return Verification(
        texts=len(texts),
        isolation_error=error,
        leaked_attention=leaked_attention(model, lay_out(ids[:4], frame).to(model.device)),
        joint_tokens=sum(len(text) + max_length - room for text in ids),
        separate_tokens=sum(len(sequence) for sequences in sides.values() for sequence in sequences),
        joint_seconds=statistics.median(seconds[together]),
        separate_seconds=statistics.median(seconds[apart]),
    )


def _alone(model: Any, sequences: Sequence[Sequence[int]], template: Template, rows: list[int]) -> Tensor:
    return embed(model, [sequences[row] for row in rows], template, causal=True)


def _in_batches(compute: Callable[[list[int]], Tensor], lengths: Sequence[int], budget: int) -> Tensor:
    """Return what ``compute`` gives for all rows, in their order, computed by batches of similar length."""
    groups = token_batches(lengths, budget)
    made = torch.cat([compute(group).cpu() for group in groups])
    return made[torch.tensor([row for group in groups for row in group]).argsort()]


@torch.inference_mode()
def refuse_leaks(model: Any, frame: Frame) -> None:
    """Raise if NEXT sees SELF although the mask forbids it.

    Two joint sequences that differ in SELF's tokens alone have the same states at NEXT's slots, unless other
    layers than attention (convolutions, recurrent ones) carry something from one token to the next.

    Args:
        model: A transformers base model.
        frame: What stands around a text.

    Raises:
        UsageError: It does.
    """
    batch = lay_out([frame.next_suffix[:4]] * 2, frame).to(model.device)
    ids = batch.ids.clone()
    ids[1, batch.segments[1] == SELF] = frame.next_suffix[0]
    hidden = hidden_states(model, batch._replace(ids=ids))
    one, other = hidden.gather(1, batch.next_slots[..., None].expand(-1, -1, hidden.shape[-1]))
    difference = float((one - other).norm() / one.norm())
    if difference > LARGEST_ERROR:
        raise UsageError(
            f"{type(model).__name__} cannot be adapted in one pass: not all of its layers are attention, "
            f"so EBAR's prompt sees EBAE's through the mask (its states change by {difference:.1e})"
        )


@torch.inference_mode()
def leaked_attention(model: Any, batch: JointBatch) -> float:
    """Return the largest attention weight from NEXT to SELF in any layer and head.

    Args:
        model: A transformers base model; it computes with eager attention for this, the only one that
            shows its weights.
        batch: On the model's device.
    """
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        shown = model(
            input_ids=batch.ids,
            attention_mask=attention_mask(joint_mask(batch.segments), model),
            position_ids=batch.positions,
            use_cache=False,
            output_attentions=True,
        ).attentions
    finally:
        model.set_attn_implementation(usual)
    crossing = (batch.segments == NEXT)[:, None, :, None] & (batch.segments == SELF)[:, None, None, :]
    return max(float(layer.where(crossing, 0.0).max()) for layer in shown)
