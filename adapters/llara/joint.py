"""The joint sequence: both embeddings of a text from one pass.

A joint sequence is ``prefix, text, SELF, NEXT``. NEXT does not attend to SELF, and its positions begin where
SELF's begin, so that one pass gives the embeddings of two separate passes at almost half the cost (arXiv
2312.15503). Everything in this module is a pure function of token ids.

Shapes: B texts, L tokens of a joint sequence, S slots, D hidden size, M text tokens of the batch.
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
    """The prompts around a text in a joint sequence, as token ids.

    Attributes:
        prefix: The prompt before the text.
        self_suffix: The prompt of EBAE: it asks for the text itself.
        next_suffix: The prompt of EBAR: it asks for the text that follows.
        slots: The number of last tokens of each suffix that make its embedding.
    """

    prefix: tuple[int, ...]
    self_suffix: tuple[int, ...]
    next_suffix: tuple[int, ...]
    slots: int

    @classmethod
    def of(cls, templates: Templates, tokenizer: Any) -> "Frame":
        """Return the frame of two templates; SELF is the passages' suffix, NEXT the queries'."""
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
            UsageError: The prompts fill the sequence.
        """
        prompts = len(self.prefix) + len(self.self_suffix) + len(self.next_suffix)
        if prompts >= max_length:
            raise UsageError(
                f"max_length {max_length} leaves no room for text beside {prompts} prompt tokens"
            )
        return max_length - prompts


class JointBatch(NamedTuple):
    """Joint sequences of a batch.

    Attributes:
        ids: (B, L) token ids.
        positions: (B, L) position ids; NEXT's begin where SELF's begin.
        segments: (B, L) the segment of each token: PAD, TEXT, SELF or NEXT.
        self_slots: (B, S) columns of SELF's slots.
        next_slots: (B, S) columns of NEXT's slots.
        predictors: (M,) flat indices (row · L + column) of the tokens before a text token.
        labels: (M,) token ids of these text tokens.
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


def lay_out(texts: Sequence[Sequence[int]], frame: Frame) -> JointBatch:
    """Lay out joint sequences, padded on the right.

    Args:
        texts: Token ids of each of B texts.
        frame: The prompts around a text.

    Returns:
        The batch; a text token without a token before it has no predictor.
    """

    def padded(rows: list[list[int]]) -> Tensor:
        return pad_sequence([torch.tensor(row) for row in rows], batch_first=True)

    suffix, tail = len(frame.self_suffix), len(frame.next_suffix)
    starts = [len(frame.prefix) + len(text) for text in texts]  # the columns where SELF begins
    ids = padded([[*frame.prefix, *text, *frame.self_suffix, *frame.next_suffix] for text in texts])
    positions = padded([[*range(start + suffix), *range(start, start + tail)] for start in starts])
    segments = padded([[TEXT] * start + [SELF] * suffix + [NEXT] * tail for start in starts])
    text_ends = torch.tensor(starts)[:, None]
    self_slots = text_ends + suffix + torch.arange(-frame.slots, 0)
    columns = torch.arange(ids.shape[1])
    is_label = (columns >= max(len(frame.prefix), 1)) & (columns < text_ends)
    labels = is_label.flatten().nonzero().squeeze(1)
    return JointBatch(
        ids, positions, segments, self_slots, self_slots + tail, labels - 1, ids.flatten()[labels]
    )


def joint_mask(segments: Tensor) -> Tensor:
    """Return the attention mask: causal, no attention to padding, no attention from NEXT to SELF.

    Args:
        segments: (B, L) the segment of each token.

    Returns:
        (B, 1, L, L) bool, True where attention is allowed. Every token attends to itself, padding too,
        since the softmax over no token at all is NaN.
    """
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    crossing = (segments == NEXT)[:, :, None] & (segments == SELF)[:, None, :]
    allowed = causal & (segments != PAD)[:, None, :] & ~crossing
    return (allowed | torch.eye(length, dtype=torch.bool, device=segments.device))[:, None]


def hidden_states(model: Any, batch: JointBatch) -> Tensor:
    """Run the decoder over joint sequences.

    Args:
        model: A transformers base model (without LM head).
        batch: Joint sequences on the model's device.

    Returns:
        (B, L, D) hidden states after the final norm.

    Raises:
        UsageError: The attention implementation takes no explicit mask, or the sequences are longer than
            the attention window of a layer.
    """
    return model(  # type: ignore[no-any-return]
        input_ids=batch.ids,
        attention_mask=attention_mask(joint_mask(batch.segments), model),
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state


def attention_mask(allowed: Tensor, model: Any) -> Tensor:
    """Return a mask in the form that the model's attention implementation needs.

    Eager attention adds the mask to the scores, so a boolean mask would silently have no effect there.

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
        hidden: (B, L, D) hidden states.
        slots: (B, S) columns of the slots.
        template: The template of the suffix.

    Returns:
        (B, D) embeddings in float32.
    """
    mean = slot_states(hidden, slots).float().mean(dim=1)
    return torch.nn.functional.normalize(mean, dim=-1) if template.normalize else mean


def slot_states(hidden: Tensor, slots: Tensor) -> Tensor:
    """Return the hidden states (B, S, D) at ``slots`` (B, S) of ``hidden`` (B, L, D)."""
    return hidden.gather(1, slots[:, :, None].expand(-1, -1, hidden.shape[2]))
