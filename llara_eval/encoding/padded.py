"""Padded batches: sequences filled up to the longest of their batch, which any transformers model can read.

Packed batches are compared with these. The template says which positions are pooled, so that the padding side
of a tokenizer does not matter.

Shapes: B sequences, L tokens, D width.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from llara_eval.encoding.model_facts import ModelFacts, forward_errors, position_ids_of
from llara_eval.encoding.templates import Side, Template

Tokens = Sequence[int] | NDArray[np.integer]
"""The token ids of one text."""


class StockModel:
    """The part that both engines of transformers share; see :class:`llara_eval.encoding.encoder.Engine`.

    Args:
        model: A transformers base model, in evaluation mode on its device.
        facts: The facts about it.
    """

    def __init__(self, model: Any, facts: ModelFacts) -> None:
        self._model = model
        self._causal = facts.causal
        self.width = facts.width
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype


class PaddedModel(StockModel):
    """An engine that passes padded batches to a transformers model."""

    name, pads = "padded", True

    @torch.no_grad()
    def embeddings(
        self, sequences: Sequence[Tokens], template: Template, sizes: Sequence[int], side: Side
    ) -> Iterator[Tensor]:
        """Yield the embeddings, (B, D) float32, of one batch after the other."""
        for batch in batches_of(sequences, sizes):
            yield embed(self._model, batch, template, causal=self._causal)


def batches_of(sequences: Sequence[Tokens], sizes: Sequence[int]) -> Iterator[list[Tokens]]:
    """Yield the sequences in batches of the given sizes."""
    remaining = iter(sequences)
    for size in sizes:
        yield list(islice(remaining, size))


def pad(sequences: Sequence[Tokens], *, left: bool = False) -> tuple[Tensor, Tensor]:
    """Return token ids and attention mask of a batch, (B, L) int64 on the CPU, both 0 at padding."""
    ids = [torch.tensor(np.asarray(sequence, dtype=np.int64)) for sequence in sequences]
    fill = partial(pad_sequence, batch_first=True, padding_side="left" if left else "right")
    return fill(ids), fill([torch.ones_like(sequence) for sequence in ids])


def embed(
    model: Any, sequences: Sequence[Tokens], template: Template, *, causal: bool, left: bool = False
) -> Tensor:
    """Return the embeddings of one padded batch, with gradients where the caller records them.

    Args:
        model: A transformers base model.
        sequences: B sequences of token ids.
        template: The template, which sets the pooled positions.
        causal: Whether tokens attend to earlier ones only; padding on the right then needs no attention mask.
        left: Whether padding is on the left instead of on the right; the vectors must be the same.

    Returns:
        (B, D) float32.

    Raises:
        DataError: The model cannot compute the hidden states.
    """
    ids, mask = pad(sequences, left=left)
    offsets = mask.cumsum(1) - 1
    spans = torch.tensor([template.pooled_span(len(sequence)) for sequence in sequences])  # (B, 2)
    pooled = mask.bool() & (offsets >= spans[:, :1]) & (offsets < spans[:, 1:])
    device = next(model.parameters()).device
    inputs: dict[str, Any] = {"input_ids": ids.to(device)}
    if not mask.all() and (left or not causal):
        inputs["attention_mask"] = mask.to(device)
    if left:
        offsets = offsets.clamp(min=0).to(device)
        inputs["position_ids"] = position_ids_of(model, inputs["input_ids"], offsets)
    if causal:
        inputs["use_cache"] = False
    weights = (pooled / pooled.sum(1, keepdim=True)).to(device)
    with forward_errors(model):
        hidden = model(**inputs).last_hidden_state.float()  # (B, L, D)
    hidden = torch.where(weights[:, :, None] > 0, hidden, 0.0)
    with torch.autocast(device.type, enabled=False):  # training in bfloat16 pools in float32
        embedding = torch.einsum("bl,bld->bd", weights, hidden)
    return torch.nn.functional.normalize(embedding, dim=-1) if template.normalize else embedding
