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
    slot_states,
)
from llara_eval.core.errors import UsageError
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.encoding.padded import embed
from llara_eval.encoding.templates import Template, Templates
from llara_eval.training.batching import token_batches

LARGEST_ERROR = 1e-5
"""Differences of unit embeddings in float32 up to this one are rounding."""

_OTHER_EMBEDDINGS = 1e-4
"""Beyond this difference they are other embeddings, however deep the model."""


@dataclass(frozen=True, slots=True)
class Verification:
    """How one joint pass compares with two passes.

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
            hidden = _joint_states(model, batch)
            passage = embeddings(hidden, batch.self_slots, templates.document)
            return torch.cat([passage, embeddings(hidden, batch.next_slots, templates.query)], dim=1)

        return _in_batches(both, [len(text) + max_length - room for text in ids], batch_tokens)

    def apart() -> Tensor:
        """The same from passes of their own."""
        columns = []
        for template, sequences in zip((templates.document, templates.query), sides.values(), strict=True):
            one = partial(_alone, model, sequences, template)
            columns.append(_in_batches(one, [len(sequence) for sequence in sequences], batch_tokens))
        return torch.cat(columns, dim=1)

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
    rows = torch.cat([compute(group).cpu() for group in groups])
    return rows[torch.tensor([row for group in groups for row in group]).argsort()]


@torch.no_grad()
def require_isolation(model: Any, frame: Frame, templates: Templates, max_length: int) -> None:
    """Raise if a joint pass is not what two passes are, for a short text or for one as long as may be.

    It is not where layers other than attention carry something from SELF to NEXT, where positions cannot be
    given, where attention sees what follows, or only a window.

    Args:
        model: Called like a transformers base model; of a sharded one, all processes must take part.
        frame: What stands around a text.
        templates: LLaRA templates.
        max_length: Most tokens of a joint sequence.

    Raises:
        UsageError: The embeddings of a joint pass differ, or the model cannot take a joint sequence.
    """
    name = _name(model)
    ids = [place % model.config.vocab_size for place in range(frame.room(max_length))]
    if _carried(model, frame, ids[:8]) > LARGEST_ERROR:
        raise UsageError(
            f"{name} cannot be adapted in one pass: not all of its layers are attention, so EBAR's prompt "
            "sees EBAE's through the mask"
        )
    for text in (ids[:8], ids):
        batch = lay_out([text], frame).to(model.device)
        hidden = _joint_states(model, batch)
        sides = (
            (templates.document, frame.self_suffix, batch.self_slots),
            (templates.query, frame.next_suffix, batch.next_slots),
        )
        for template, suffix, slots in sides:
            apart = _alone(model, [[*frame.prefix, *text, *suffix]], template, [0])
            difference = float((embeddings(hidden, slots, template) - apart).abs().max())
            if difference > _OTHER_EMBEDDINGS:
                raise UsageError(
                    f"{name} cannot be adapted in one pass: for {len(text)} tokens of text it gives other "
                    f"embeddings than two passes do (by {difference:.1e}). Not all of its layers are causal "
                    "attention to all that was before, with the positions it is given"
                )


def _carried(model: Any, frame: Frame, text: list[int]) -> float:
    """Return by what part NEXT's states change if SELF's tokens, which the mask hides, are others."""
    batch = lay_out([text] * 2, frame).to(model.device)
    ids = batch.ids.clone()
    ids[1, batch.segments[1] == SELF] = text[0]
    one, other = slot_states(_joint_states(model, batch._replace(ids=ids)), batch.next_slots)
    return float((one - other).norm() / one.norm())


def _joint_states(model: Any, batch: JointBatch) -> Tensor:
    """Return the hidden states of a joint pass, of a model that may not be able to make one.

    Raises:
        UsageError: The model does not take a joint sequence.
    """
    try:
        return hidden_states(model, batch)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"{_name(model)} cannot be adapted: it takes no joint sequence ({error})") from error


def _name(model: Any) -> str:
    """Return the name of a model's class, and not of what it is trained in."""
    return type(getattr(model, "model", model)).__name__


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
