"""The joint sequence: both embeddings of a text from one pass.

``prefix, text, SELF, NEXT``: NEXT cannot see SELF, and its positions restart where SELF's do, so that
one pass gives what two separate passes give at almost half the cost (arXiv 2312.15503).
Everything here is a pure function of token ids.

Shapes: B texts, L tokens of a joint sequence, S slots, M text tokens of the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from llara_eval.core.errors import UsageError
from llara_eval.encoding.templates import Template, Templates

PAD, TEXT, SELF, NEXT = range(4)
"""Segments of a joint sequence; the prefix counts as text."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around a text in a joint sequence, as token ids.

    Attributes:
        prefix: Before the text.
        self_suffix: Asks for the text itself.
        next_suffix: Asks for the text that follows.
        slots: How many of the last tokens of each suffix make its embedding.
    """

    prefix: tuple[int, ...]
    self_suffix: tuple[int, ...]
    next_suffix: tuple[int, ...]
    slots: int

    @classmethod
    def of(cls, templates: Templates, tokenizer: Any) -> "Frame":
        """Make the frame of two templates: passages ask for the text itself, queries for the next."""
        passage, query = templates.document, templates.query
        return cls(
            tuple(passage.prefix_ids(tokenizer)),
            tuple(passage.suffix_ids(tokenizer)),
            tuple(query.suffix_ids(tokenizer)),
            passage.slots,
        )

    def room(self, max_length: int) -> int:
        """Return how many text tokens fit into a joint sequence of ``max_length`` tokens.

        Raises:
            UsageError: Not even one.
        """
        taken = len(self.prefix) + len(self.self_suffix) + len(self.next_suffix)
        if taken >= max_length:
            raise UsageError(f"max_length {max_length} leaves no room for text beside {taken} prompt tokens")
        return max_length - taken


class JointBatch(NamedTuple):
    """Joint sequences of a batch.

    Attributes:
        ids: (B, L) token ids.
        positions: (B, L) positions; NEXT's restart where SELF's do.
        segments: (B, L) one of PAD, TEXT, SELF, NEXT.
        self_slots: (B, S) columns of SELF's slots.
        next_slots: (B, S) columns of NEXT's slots.
        predictors: (M,) flat positions (row · L + column) whose next token is a text token.
        labels: (M,) those text tokens.
    """

    ids: Tensor
    positions: Tensor
    segments: Tensor
    self_slots: Tensor
    next_slots: Tensor
    predictors: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "JointBatch":
        """Return the batch on a device."""
        return JointBatch(*(tensor.to(device, non_blocking=True) for tensor in self))


def lay_out(texts: Sequence[Sequence[int]], frame: Frame, *, left: bool = False) -> JointBatch:
    """Lay out joint sequences.

    Args:
        texts: B texts as token ids, already cut to :meth:`Frame.room`.
        frame: What stands around them.
        left: Pad on the left instead of on the right.

    Returns:
        The batch; a text token without a token before it has no predictor.
    """
    suffix, tail = len(frame.self_suffix), len(frame.next_suffix)
    starts = [len(frame.prefix) + len(text) for text in texts]  # where SELF begins
    longest = max(starts) + suffix + tail

    def padded(rows: list[list[int]]) -> Tensor:
        return pad_sequence(
            [torch.tensor(row) for row in rows], batch_first=True, padding_side="left" if left else "right"
        )

    ids = padded([[*frame.prefix, *text, *frame.self_suffix, *frame.next_suffix] for text in texts])
    positions = padded([[*range(start + suffix), *range(start, start + tail)] for start in starts])
    segments = padded([[TEXT] * start + [SELF] * suffix + [NEXT] * tail for start in starts])
    begins = torch.tensor([longest - start - suffix - tail if left else 0 for start in starts])
    ends = begins + torch.tensor(starts) + suffix  # where SELF ends
    slots = torch.arange(-frame.slots, 0)
    self_slots, next_slots = ends[:, None] + slots, ends[:, None] + tail + slots

    # Row by row, the columns before each text token.
    columns = torch.arange(longest)
    first = begins + max(len(frame.prefix), 1)
    is_label = (columns >= first[:, None]) & (columns < (begins + torch.tensor(starts))[:, None])
    labels = is_label.flatten().nonzero().squeeze(1)
    return JointBatch(ids, positions, segments, self_slots, next_slots, labels - 1, ids.flatten()[labels])


def joint_mask(segments: Tensor) -> Tensor:
    """Return which position may attend to which: causal, never to padding, NEXT never to SELF.

    Args:
        segments: (B, L).

    Returns:
        (B, 1, L, L) bool, True where attention is allowed. A position always sees itself: a row without
        anything to attend to would be NaN.
    """
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    crossing = (segments == NEXT)[:, :, None] & (segments == SELF)[:, None, :]
    allowed = causal & (segments != PAD)[:, None, :] & ~crossing
    return (allowed | torch.eye(length, dtype=torch.bool, device=segments.device))[:, None]


def hidden_states(model: Any, batch: JointBatch) -> Tensor:
    """Run the decoder over joint sequences.

    Args:
        model: A transformers base model (without language-model head).
        batch: On the model's device.

    Returns:
        (B, L, D) hidden states after the final norm.

    Raises:
        UsageError: The attention implementation cannot take an explicit mask, or the sequences are
            longer than the window of a layer that sees only a window.
    """
    allowed = joint_mask(batch.segments)
    return model(  # type: ignore[no-any-return]
        input_ids=batch.ids,
        attention_mask=attention_mask(allowed, model),
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state


def attention_mask(allowed: Tensor, model: Any) -> Tensor:
    """Return a mask in the form the model's attention implementation reads correctly.

    A boolean mask is silently misread by eager attention, which adds it to the scores.

    Raises:
        UsageError: See :func:`hidden_states`.
    """
    config = model.config
    window = getattr(config, "sliding_window", None)
    layers = getattr(config, "layer_types", None)  # without them all layers are alike
    windowed = layers is None or "sliding_attention" in layers
    if windowed and window and allowed.shape[-1] > window:
        raise UsageError(
            f"joint sequences of {allowed.shape[-1]} tokens exceed this model's attention window of "
            f"{window}; --max-length {window} keeps them within"
        )
    if config._attn_implementation == "sdpa":
        return allowed
    if config._attn_implementation == "eager":
        lowest = torch.finfo(model.dtype).min
        return torch.zeros(allowed.shape, dtype=model.dtype, device=allowed.device).masked_fill(
            ~allowed, lowest
        )
    raise UsageError(
        f"attention implementation {config._attn_implementation!r} cannot take the joint mask; load "
        "the model with attn_implementation='sdpa'"
    )


def embeddings(hidden: Tensor, slots: Tensor, template: Template) -> Tensor:
    """Return the embeddings of one suffix: the mean of its slots, L2-normalised if the template says so.

    Args:
        hidden: (B, L, D).
        slots: (B, S) columns.
        template: The template of the suffix.

    Returns:
        (B, D) float32.
    """
    mean = slot_states(hidden, slots).float().mean(dim=1)
    return torch.nn.functional.normalize(mean, dim=-1) if template.normalize else mean


def slot_states(hidden: Tensor, slots: Tensor) -> Tensor:
    """Return the hidden states (B, S, D) at ``slots`` (B, S) of ``hidden`` (B, L, D)."""
    return hidden.gather(1, slots[:, :, None].expand(-1, -1, hidden.shape[2]))
