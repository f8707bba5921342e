"""Packed batches: sequences side by side in one row, each attending to itself alone, without padding.

The model is a stock one, with the attention of :mod:`llara_eval.encoding.packed_attention`.

Shapes: B sequences, T tokens of all of them, P pooled positions, D width.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llara_eval.encoding.model_facts import ModelFacts, layers_of, position_ids_of
from llara_eval.encoding.packed_attention import using_packed_attention
from llara_eval.encoding.padded import Tokens
from llara_eval.encoding.templates import Template


class PackedBatch(NamedTuple):
    """A packed batch, on the model's device.

    Attributes:
        input_ids: (T,) token ids.
        offsets: (T,) how many tokens of its sequence are before each token.
        cu_seqlens: (B + 1,) int32, where each sequence begins, and T.
        longest: The most tokens of a sequence.
        pooled: (P,) the positions that are pooled, in order.
        shares: (B,) how many of them each sequence has.
    """

    input_ids: Tensor
    offsets: Tensor
    cu_seqlens: Tensor
    longest: int
    pooled: Tensor
    shares: Tensor


class PackedSequences:
    """Sequences copied to the device at once, to be taken a packed batch at a time.

    To a GPU they are copied from pinned memory, and nobody waits for that.

    Args:
        sequences: n sequences of token ids, in the order in which they are taken.
        template: Says which positions are pooled.
        device: Where the model is.
    """

    def __init__(self, sequences: Sequence[Tokens], template: Template, device: torch.device) -> None:
        lengths = np.array([len(sequence) for sequence in sequences])
        spans = np.array([template.pooled_span(length) for length in lengths.tolist()])
        shares = spans[:, 1] - spans[:, 0]
        self._lengths, self._starts, self._pools = lengths, _sums(lengths), _sums(shares)

        def ready(values: NDArray[Any], dtype: type = np.int64) -> Tensor:
            tensor = torch.from_numpy(np.ascontiguousarray(values, dtype=dtype))
            return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)

        self._input_ids = ready(np.concatenate(sequences))
        self._offsets = ready(_ranges(0 * lengths, lengths))
        self._cu_seqlens = ready(self._starts, np.int32)
        self._pooled, self._shares = ready(_ranges(self._starts[:-1] + spans[:, 0], shares)), ready(shares)

    def batch(self, begin: int, end: int) -> PackedBatch:
        """Return sequences ``begin`` to ``end``, the latter not included."""
        first, last = int(self._starts[begin]), int(self._starts[end])
        return PackedBatch(
            input_ids=self._input_ids[first:last],
            offsets=self._offsets[first:last],
            cu_seqlens=self._cu_seqlens[begin : end + 1] - first,
            longest=int(self._lengths[begin:end].max()),
            pooled=self._pooled[self._pools[begin] : self._pools[end]] - first,
            shares=self._shares[begin:end],
        )


def _sums(counts: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return (n + 1,) the sums of the first 0, 1, …, n numbers."""
    sums: NDArray[np.integer] = np.concatenate([[0], counts.cumsum()])
    return sums


def _ranges(starts: NDArray[np.integer], counts: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return ``starts[i], starts[i] + 1, …``, ``counts[i]`` of them, for one i after the other."""
    before = _sums(counts)
    ranges: NDArray[np.integer] = np.arange(int(before[-1])) + np.repeat(starts - before[:-1], counts)
    return ranges


class PackedModel:
    """A model that is given packed batches; see :class:`llara_eval.encoding.encoder.Engine`.

    Args:
        model: A transformers base model, in eval mode on its device.
        facts: What it can do.
    """

    name, pads = "packed", False

    def __init__(self, model: Any, facts: ModelFacts) -> None:
        self._model = model
        self._causal = facts.causal
        self.width = facts.width
        self.device: torch.device = model.device

    @torch.no_grad()
    def embeddings(
        self,
        sequences: Sequence[Tokens],
        template: Template,
        sizes: Sequence[int],
    ) -> Iterator[Tensor]:
        """Yield the embeddings, (B, D) float32, of one packed batch after the other.

        Args:
            sequences: n sequences of token ids.
            template: Says which positions are pooled.
            sizes: How many sequences each batch has.
        """
        packed, end = PackedSequences(sequences, template, self.device), 0
        with using_packed_attention(self._model), LastLayer(self._model) as last_layer:
            for size in sizes:
                row = packed.batch(end, end + size)
                with last_layer.only_at(row.pooled if len(row.pooled) < len(row.input_ids) else None):
                    embeddings = embed_packed(self._model, row, template, causal=self._causal)
                yield embeddings
                end += size


def embed_packed(model: Any, row: PackedBatch, template: Template, *, causal: bool) -> Tensor:
    """Return the embeddings, (B, D) float32, of a packed batch; on a GPU with gradients where wanted.

    Args:
        model: A transformers base model that is :func:`using_packed_attention`.
        row: On its device.
        template: Says whether embeddings are normalised.
        causal: Whether a position sees only what is before it.
    """
    input_ids = row.input_ids[None]
    hidden = model(
        input_ids=input_ids,
        position_ids=position_ids_of(model, input_ids, row.offsets[None]),
        cu_seq_lens_q=row.cu_seqlens,
        max_length_q=row.longest,
        **({"use_cache": False} if causal else {}),
    ).last_hidden_state[0]
    pooled = hidden.index_select(0, row.pooled).float()  # (P, D)
    embedding = torch.segment_reduce(pooled, "mean", lengths=row.shares, unsafe=True)  # they sum up to P
    return nn.functional.normalize(embedding, dim=-1) if template.normalize else embedding


class LastLayer:
    """The last layer's parts that act on each position by itself, made to do so at the pooled positions only.

    All positions have keys and values there, but queries, the projection after attention and the
    feed-forward network are computed at the pooled positions; elsewhere their output is zero, and unused.
    The hooks that do this are on the model for as long as the ``with`` block lasts.

    Args:
        model: A transformers base model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._positions: Tensor | None = None
        self._length = 0
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> Self:
        """Put the hooks on."""
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
        """Take the hooks off."""
        while self._hooks:
            self._hooks.pop().remove()

    @contextmanager
    def only_at(self, positions: Tensor | None) -> Iterator[None]:
        """Compute these positions only for as long as the block lasts; None: all."""
        self._positions = positions
        try:
            yield
        finally:
            self._positions = None

    def _gather(self, part: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if self._positions is None:
            return None
        self._length = inputs[0].shape[1]
        return inputs[0][:, self._positions], *inputs[1:]

    def _scatter(self, part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if self._positions is None:
            return None
        return output.new_zeros(1, self._length, output.shape[2]).index_copy_(1, self._positions, output)
