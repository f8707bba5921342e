"""Sequences padded to the longest of their batch: the plain form, which any transformers model can.

What other forms compute is compared with it. Positions come from the template, so that a tokenizer's padding
side plays no part.

Shapes: B sequences, L tokens, D width.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llara_eval.encoding.templates import Template

Tokens = Sequence[int] | NDArray[np.integer]
"""The token ids of one text."""

Item = TypeVar("Item")

_CAUSAL_TOLERANCE = {torch.float32: 1e-3}
"""Relative change of hidden states that counts as none; other dtypes round coarsely: 0.03."""


class PaddedModel:
    """A model that is given padded batches; see :class:`llara_eval.encoding.encoder.Backend`.

    Args:
        model: A transformers base model, in eval mode on its device.
        causal: Whether a position sees only what is before it.
    """

    name, pads = "padded", True

    def __init__(self, model: Any, *, causal: bool) -> None:
        self._model = model
        self._causal = causal
        self.width = width_of(model)
        self.device: torch.device = model.device

    @torch.no_grad()
    def embeddings(
        self, sequences: Sequence[Tokens], template: Template, sizes: Sequence[int]
    ) -> Iterator[Tensor]:
        """Yield the embeddings, (B, D) float32, of one batch after the other."""
        for batch in batches_of(sequences, sizes):
            yield embed(self._model, batch, template, causal=self._causal)


def batches_of(items: Sequence[Item], sizes: Sequence[int]) -> Iterator[Sequence[Item]]:
    """Yield so many items at a time."""
    end = 0
    for size in sizes:
        yield items[end : end + size]
        end += size


def pad(sequences: Sequence[Tokens], *, left: bool = False) -> tuple[Tensor, Tensor]:
    """Return token ids and mask of a batch, (B, L) int64 on the CPU, zero where there is padding."""
    longest = max(map(len, sequences))
    ids = torch.zeros((len(sequences), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        begin = longest - len(sequence) if left else 0
        ids[row, begin : begin + len(sequence)] = torch.tensor(np.asarray(sequence, dtype=np.int64))
        mask[row, begin : begin + len(sequence)] = 1
    return ids, mask


def positions_of(model: Any, ids: Tensor, places: Tensor) -> Tensor:
    """Return the positions, (B, L), that a model gives to tokens of its own accord.

    RoBERTa and its kin have a position for padding, count from behind it, and leave out tokens of padding's
    id, which is the same number. For all others a position is a place.

    Args:
        model: A transformers base model.
        ids: (B, L) token ids.
        places: (B, L) the place of each token in its text, from zero; texts may lie side by side.
    """
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding: int | None = getattr(table, "padding_idx", None)
    if padding is None:
        return places
    counted = (ids != padding).long()
    sums = counted.cumsum(1)
    begins = torch.arange(ids.shape[1], device=ids.device) - places
    before = (sums - counted).gather(1, begins)
    return (sums - before) * counted + padding


def embed(
    model: Any,
    sequences: Sequence[Tokens],
    template: Template,
    *,
    causal: bool,
    left: bool = False,
) -> Tensor:
    """Return the embeddings of one batch of token sequences, padded; training calls this too.

    Args:
        model: A transformers base model.
        sequences: B lists of ids.
        template: Says which positions are pooled.
        causal: Whether a position sees only what is before it: padding on the right needs no mask then.
        left: Pad on the left instead of on the right; the vectors must not change.

    Returns:
        (B, D) float32.
    """
    lengths = [len(sequence) for sequence in sequences]
    longest = max(lengths)
    ids, mask = pad(sequences, left=left)
    pooled = torch.zeros(ids.shape, dtype=torch.float32)
    for row, length in enumerate(lengths):
        begin = longest - length if left else 0
        start, end = template.pooled_span(length)
        pooled[row, begin + start : begin + end] = 1.0 / (end - start)
    device = next(model.parameters()).device
    inputs: dict[str, Any] = {"input_ids": ids.to(device)}
    if min(lengths) < longest and (left or not causal):
        inputs["attention_mask"] = mask.to(device)
    if left:
        places = (mask.cumsum(1) - 1).clamp(min=0).to(device)
        inputs["position_ids"] = positions_of(model, inputs["input_ids"], places)
    if causal:
        inputs["use_cache"] = False
    weights = pooled.to(device)
    hidden = model(**inputs).last_hidden_state.float()  # (B, L, D)
    hidden = torch.where(weights[:, :, None] > 0, hidden, 0.0)
    with torch.autocast(device.type, enabled=False):  # training in bfloat16 pools in float32
        embedding = torch.einsum("bl,bld->bd", weights, hidden)
    return torch.nn.functional.normalize(embedding, dim=-1) if template.normalize else embedding


@torch.no_grad()
def width_of(model: Any) -> int:
    """Return the width D of a model's output, found by trying: OPT's may be narrower than its layers."""
    return int(model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=model.device))[0].shape[-1])


@torch.no_grad()
def is_causal(model: Any) -> bool:
    """Whether a position sees only what is before it, found by trying: names and flags may lie."""
    vocabulary = int(model.config.vocab_size)
    short = torch.tensor([[token % vocabulary for token in (11, 7, 5, 3)]], device=model.device)
    longer = torch.cat([short, short.flip(1)], dim=1)
    one = model(input_ids=short).last_hidden_state.float()
    two = model(input_ids=longer).last_hidden_state.float()[:, : short.shape[1]]
    return bool((one - two).norm() <= _CAUSAL_TOLERANCE.get(model.dtype, 0.03) * one.norm())
