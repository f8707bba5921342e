"""Comparison of one joint pass with two separate passes, on real texts and a real model."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
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
"""Differences of unit embeddings in float32 up to this one are rounding errors."""

_OTHER_EMBEDDINGS = 1e-4
"""Differences of unit embeddings beyond this one are no rounding errors, however deep the model."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The comparison of joint passes with separate passes.

    Attributes:
        texts: Number of texts.
        isolation_error: Largest difference between a component of a unit embedding from a joint pass and
            from a separate pass, in float32.
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
        """Tokens of the joint passes over those of the separate passes."""
        return self.joint_tokens / self.separate_tokens

    @property
    def time_ratio(self) -> float:
        """Seconds of the joint passes over those of the separate passes."""
        return self.joint_seconds / self.separate_seconds

    @property
    def holds(self) -> bool:
        """Whether a joint pass gives the embeddings of two separate passes."""
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
    """Compare joint passes with two separate passes.

    Args:
        model: A transformers base model in float32.
        tokenizer: Its tokenizer.
        templates: LLaRA templates; their length limits are not used.
        texts: Real texts.
        max_length: Most tokens of a joint sequence.
        batch_tokens: Tokens of a batch, padding included, the same for both ways.
        repeats: The number of timings of each way, which alternate; the median time counts.
        progress: The display of progress.
    """
    frame = Frame.of(templates, tokenizer)
    room = frame.room(max_length)
    ids = tokenizer(list(texts), add_special_tokens=False, truncation=True, max_length=room)["input_ids"]
    lengths = [len(text) + max_length - room for text in ids]
    sides = _separate_sequences(frame, templates, ids)

    def joint_embeddings() -> Tensor:
        def embed_batch(rows: list[int]) -> Tensor:
            batch = lay_out([ids[row] for row in rows], frame).to(model.device)
            return torch.cat(_joint_embeddings(model, batch, templates), dim=1)

        return _in_batches(embed_batch, lengths, batch_tokens)

    def separate_embeddings() -> Tensor:
        return torch.cat([_embed_in_batches(model, *side, batch_tokens) for side in sides], dim=1)

    error = float((joint_embeddings() - separate_embeddings()).abs().max())  # this warms up both, too
    seconds: dict[Callable[[], Tensor], list[float]] = {joint_embeddings: [], separate_embeddings: []}
    with progress.task("compare", repeats) as advance:
        for _ in range(repeats):
            for compute, times in seconds.items():
                started = time.perf_counter()
                compute()
                times.append(time.perf_counter() - started)
            advance()
    return Verification(
        texts=len(texts),
        isolation_error=error,
        leaked_attention=leaked_attention(model, lay_out(ids[:4], frame).to(model.device)),
        joint_tokens=sum(lengths),
        separate_tokens=sum(len(sequence) for _, sequences in sides for sequence in sequences),
        joint_seconds=statistics.median(seconds[joint_embeddings]),
        separate_seconds=statistics.median(seconds[separate_embeddings]),
    )


def _separate_sequences(
    frame: Frame, templates: Templates, texts: Sequence[list[int]]
) -> list[tuple[Template, list[list[int]]]]:
    """Return the template of each side, documents first, and the sequences of its separate passes."""
    return [
        (template, [[*frame.prefix, *text, *suffix] for text in texts])
        for template, suffix in (
            (templates.document, frame.self_suffix),
            (templates.query, frame.next_suffix),
        )
    ]


def _joint_embeddings(model: Any, batch: JointBatch, templates: Templates) -> tuple[Tensor, Tensor]:
    """Return the document and the query embeddings, each (B, D), of one joint pass."""
    hidden = _joint_states(model, batch)
    return (
        embeddings(hidden, batch.self_slots, templates.document),
        embeddings(hidden, batch.next_slots, templates.query),
    )


def _embed_in_batches(
    model: Any, template: Template, sequences: Sequence[Sequence[int]], budget: int
) -> Tensor:
    def embed_batch(rows: list[int]) -> Tensor:
        return embed(model, [sequences[row] for row in rows], template, causal=True)

    return _in_batches(embed_batch, [len(sequence) for sequence in sequences], budget)


def _in_batches(compute: Callable[[list[int]], Tensor], lengths: Sequence[int], budget: int) -> Tensor:
    """Return the results of ``compute`` for all rows, in their order, from batches of similar length."""
    batches = token_batches(lengths, budget)
    rows = torch.cat([compute(batch).cpu() for batch in batches])
    return rows[torch.tensor(list(chain.from_iterable(batches))).argsort()]


@torch.no_grad()
def require_isolation(model: Any, frame: Frame, templates: Templates, max_length: int) -> None:
    """Raise if a joint pass gives other embeddings than two separate passes.

    A text of eight tokens and a text of the greatest length are tried. The embeddings differ where layers
    other than attention carry something from SELF to NEXT, where a model takes no position ids, or where
    attention is not causal or sees only a window.

    Args:
        model: Called like a transformers base model; all processes must take part if it is sharded.
        frame: The prompts around a text.
        templates: LLaRA templates.
        max_length: Most tokens of a joint sequence.

    Raises:
        UsageError: The embeddings of a joint pass differ, or the model takes no joint sequence.
    """
    name = _name(model)
    ids = [number % model.config.vocab_size for number in range(frame.room(max_length))]
    if _carried(model, frame, ids[:8]) > LARGEST_ERROR:
        raise UsageError(
            f"{name} cannot be adapted in one pass: not all of its layers are attention, so EBAR's prompt "
            "sees EBAE's through the mask"
        )
    for text in (ids[:8], ids):
        joint = _joint_embeddings(model, lay_out([text], frame).to(model.device), templates)
        for (template, sequences), embedding in zip(
            _separate_sequences(frame, templates, [text]), joint, strict=True
        ):
            separate = embed(model, sequences, template, causal=True)
            difference = float((embedding - separate).abs().max())
            if difference > _OTHER_EMBEDDINGS:
                raise UsageError(
                    f"{name} cannot be adapted in one pass: for {len(text)} tokens of text it gives other "
                    f"embeddings than two passes do (by {difference:.1e}). Not all of its layers are causal "
                    "attention to all tokens before, with the position ids that they are given"
                )


def _carried(model: Any, frame: Frame, text: list[int]) -> float:
    """Return the relative change of NEXT's hidden states when SELF's tokens, which the mask hides, change."""
    batch = lay_out([text] * 2, frame).to(model.device)
    ids = batch.ids.clone()
    ids[1, batch.segments[1] == SELF] = text[0]
    states, changed = slot_states(_joint_states(model, batch._replace(ids=ids)), batch.next_slots)
    return float((states - changed).norm() / states.norm())


def _joint_states(model: Any, batch: JointBatch) -> Tensor:
    """Return the hidden states of a joint pass; raise a UsageError if the model takes no joint sequence."""
    try:
        return hidden_states(model, batch)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"{_name(model)} cannot be adapted: it takes no joint sequence ({error})") from error


def _name(model: Any) -> str:
    """Return the name of a model's class; the model may be inside an ``AdaptationModel``."""
    return type(getattr(model, "model", model)).__name__


@torch.inference_mode()
def leaked_attention(model: Any, batch: JointBatch) -> float:
    """Return the largest attention weight from NEXT to SELF in any layer and head.

    Args:
        model: A transformers base model. It is switched to eager attention meanwhile, the only
            implementation that returns attention weights.
        batch: Joint sequences on the model's device.
    """
    implementation = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        attentions = model(
            input_ids=batch.ids,
            attention_mask=attention_mask(joint_mask(batch.segments), model),
            position_ids=batch.positions,
            use_cache=False,
            output_attentions=True,
        ).attentions
    finally:
        model.set_attn_implementation(implementation)
    crossing = (batch.segments == NEXT)[:, None, :, None] & (batch.segments == SELF)[:, None, None, :]
    return max(float(layer.where(crossing, 0.0).max()) for layer in attentions)
