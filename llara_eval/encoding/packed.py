"""Packed batches: sequences one after the other, without padding, with attention within each alone.

The model is a stock one with the attention of :mod:`llara_eval.encoding.packed_attention`.

Shapes: B sequences, T tokens in all, P pooled positions in all, D width.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from llara_eval.encoding.model_facts import layers_of, position_ids_of
from llara_eval.encoding.packed_attention import using_packed_attention
from llara_eval.encoding.padded import StockModel, Tokens
from llara_eval.encoding.templates import Side, Template


class PackedBatch(NamedTuple):
    """A packed batch on the model's device.

    Attributes:
        input_ids: Token ids, (T,).
        offsets: For each token, (T,), the number of tokens before it in its sequence.
        cu_seqlens: The beginning of each sequence, and T: (B + 1,) int32.
        longest: The most tokens of a sequence.
        pooled: The positions that are pooled, (P,), in ascending order.
        pooled_counts: The number of pooled positions of each sequence, (B,).
    """

    input_ids: Tensor
    offsets: Tensor
    cu_seqlens: Tensor
    longest: int
    pooled: Tensor
    pooled_counts: Tensor


class PackedSequences:
    """Sequences that are copied to a device at once and cut into packed batches there.

    They are copied to a GPU from pinned memory, without waiting.

    Args:
        sequences: n sequences of token ids, in the order of the batches.
        template: The template, which sets the pooled positions.
        device: The model's device.
    """

    def __init__(self, sequences: Sequence[Tokens], template: Template, device: torch.device) -> None:
        lengths = [len(sequence) for sequence in sequences]
        spans = [template.pooled_span(length) for length in lengths]
        counts = [end - begin for begin, end in spans]
        self._lengths = lengths
        self._starts, self._pooled_starts = np.cumsum([0, *lengths]), np.cumsum([0, *counts])
        offsets = [np.arange(length) for length in lengths]
        pooled = [np.arange(*span) + start for span, start in zip(spans, self._starts[:-1], strict=True)]

        def to_device(values: Any, dtype: type = np.int64) -> Tensor:
            tensor = torch.from_numpy(np.ascontiguousarray(values, dtype=dtype))
            return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)

        self._input_ids = to_device(np.concatenate(sequences))
        self._offsets = to_device(np.concatenate(offsets))
        self._cu_seqlens = to_device(self._starts, np.int32)
        self._pooled = to_device(np.concatenate(pooled))
        self._pooled_counts = to_device(counts)

    def batch(self, begin: int, end: int) -> PackedBatch:
        """Return the batch of sequences ``begin`` to ``end``, the latter not included."""
        first, last = int(self._starts[begin]), int(self._starts[end])
        return PackedBatch(
            input_ids=self._input_ids[first:last],
            offsets=self._offsets[first:last],
            cu_seqlens=self._cu_seqlens[begin : end + 1] - first,
            longest=max(self._lengths[begin:end]),
            pooled=self._pooled[self._pooled_starts[begin] : self._pooled_starts[end]] - first,
            pooled_counts=self._pooled_counts[begin:end],
        )


class PackedModel(StockModel):
    """An engine that passes packed batches to a transformers model."""

    name, pads = "packed", False

    @torch.no_grad()
    def embeddings(
        self, sequences: Sequence[Tokens], template: Template, sizes: Sequence[int], side: Side
    ) -> Iterator[Tensor]:
        """Yield the embeddings, (B, D) float32, of one batch after the other."""
        packed, end = PackedSequences(sequences, template, self.device), 0
        with using_packed_attention(self._model), LastLayer(self._model) as last_layer:
            for size in sizes:
                batch = packed.batch(end, end + size)
                last_layer.positions = batch.pooled if len(batch.pooled) < len(batch.input_ids) else None
                yield embed_packed(self._model, batch, template, causal=self._causal)
                end += size


def embed_packed(model: Any, batch: PackedBatch, template: Template, *, causal: bool) -> Tensor:
    """Return the embeddings, (B, D) float32, of a packed batch; gradients are computed on a GPU only.

    The model must be :func:`using_packed_attention`; ``causal`` says that tokens attend to earlier ones only.
    """
    input_ids = batch.input_ids[None]
    hidden = model(
        input_ids=input_ids,
        position_ids=position_ids_of(model, input_ids, batch.offsets[None]),
        cu_seq_lens_q=batch.cu_seqlens,
        max_length_q=batch.longest,
        **({"use_cache": False} if causal else {}),
    ).last_hidden_state[0]
    pooled = hidden.index_select(0, batch.pooled).float()  # (P, D)
    # "unsafe" leaves out a check, for which a GPU would have to be waited for, that the counts sum up to P.
    embeddings = torch.segment_reduce(pooled, "mean", lengths=batch.pooled_counts, unsafe=True)
    return nn.functional.normalize(embeddings, dim=-1) if template.normalize else embeddings


class LastLayer:
    """Restricts parts of a model's last layer to the pooled positions, by hooks, in a ``with`` block.

    Keys and values are computed at all positions. Queries, the projection after attention and the
    feed-forward network act on each position by itself, so they are computed at the pooled positions alone;
    elsewhere their output is zero and is not used.

    Args:
        model: A transformers base model.

    Attributes:
        positions: The pooled positions of the next batch, (P,); None computes all positions.
    """

    def __init__(self, model: nn.Module) -> None:
        self.positions: Tensor | None = None
        self._model = model
        self._length = 0
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> Self:
        """Put the hooks on the model."""
        layers = layers_of(self._model)
        last = layers[-1] if len(layers) else self._model
        attention = getattr(last, "self_attn", None)
        parts = (getattr(attention, "q_proj", None), getattr(attention, "o_proj", None))
        for part in (*parts, getattr(last, "mlp", None)):
            if isinstance(part, nn.Module):
                self._hooks.append(part.register_forward_pre_hook(self._gather))
                self._hooks.append(part.register_forward_hook(self._scatter))
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()

    def _gather(self, part: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if self.positions is None:
            return None
        self._length = inputs[0].shape[1]
        return inputs[0][:, self.positions], *inputs[1:]

    def _scatter(self, part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if self.positions is None:
            return None
        return output.new_zeros(1, self._length, output.shape[2]).index_copy_(1, self.positions, output)
