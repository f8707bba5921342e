"""Sequences side by side in one row, each attending to itself alone: nothing is padded.

The model is a stock one. Its attention is exchanged, by transformers' own interface, for one that is told
where each sequence begins: a variable-length kernel on a GPU, one call for each length on a CPU.

Shapes: B sequences, T tokens of all of them, H heads (K of keys and values), P pooled positions, D width.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, library, nn

from llara_eval.encoding.compile import layers_of
from llara_eval.encoding.padded import Tokens, embed, positions_of, width_of
from llara_eval.encoding.templates import Template, Templates

NAME = "llara_eval_packed"
"""What the attention is called in transformers' register."""


class Row(NamedTuple):
    """One row of sequences, on the model's device.

    Attributes:
        ids: (T,) token ids.
        places: (T,) the place of each token in its sequence.
        starts: (B + 1,) int32, where each sequence begins, and T.
        longest: The most tokens of a sequence.
        pooled: (P,) the positions that are pooled, in order.
        shares: (B,) how many of them each sequence has.
    """

    ids: Tensor
    places: Tensor
    starts: Tensor
    longest: int
    pooled: Tensor
    shares: Tensor


class Packed:
    """Sequences made ready for the device at once, to be taken a row at a time.

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

        def ready(values: NDArray[Any], kind: type = np.int64) -> Tensor:
            tensor = torch.from_numpy(np.ascontiguousarray(values, dtype=kind))
            return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)

        self._ids, self._places = ready(np.concatenate(sequences)), ready(_ranges(0 * lengths, lengths))
        self._offsets = ready(self._starts, np.int32)
        self._pooled, self._shares = ready(_ranges(self._starts[:-1] + spans[:, 0], shares)), ready(shares)

    def row(self, begin: int, end: int) -> Row:
        """Return sequences ``begin`` to ``end``, the latter not included."""
        first, last = int(self._starts[begin]), int(self._starts[end])
        return Row(
            ids=self._ids[first:last],
            places=self._places[first:last],
            starts=self._offsets[begin : end + 1] - first,
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
    """A model that is given rows; see :class:`llara_eval.encoding.encoder.Backend`.

    Args:
        model: A transformers base model, in eval mode on its device.
        causal: Whether a position sees only what is before it.
    """

    name, pads = "packed", False

    def __init__(self, model: Any, *, causal: bool) -> None:
        self._model = model
        self._causal = causal
        self.width = width_of(model)
        self.device: torch.device = model.device
        self._last = _LastLayer(model)

    @torch.no_grad()
    def embeddings(
        self,
        sequences: Sequence[Tokens],
        template: Template,
        sizes: Sequence[int],
    ) -> Iterator[Tensor]:
        """Yield the embeddings, (B, D) float32, of one row after the other.

        Args:
            sequences: n sequences of token ids.
            template: Says which positions are pooled.
            sizes: How many sequences each row has.
        """
        packed, end = Packed(sequences, template, self.device), 0
        with attending_in_rows(self._model):
            for size in sizes:
                row = packed.row(end, end + size)
                with self._last.only_at(row.pooled if len(row.pooled) < len(row.ids) else None):
                    embeddings = embed_row(self._model, row, template, causal=self._causal)
                yield embeddings
                end += size


@contextmanager
def attending_in_rows(model: Any) -> Iterator[None]:
    """Exchange a model's attention for one that takes rows, for as long as the block lasts."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attention)
    usual = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        if model.config._attn_implementation != NAME:
            raise NotImplementedError(f"the attention of {type(model).__name__} cannot be exchanged")
        yield
    finally:
        model.set_attn_implementation(usual)


def embed_row(model: Any, row: Row, template: Template, *, causal: bool) -> Tensor:
    """Return the embeddings, (B, D) float32, of a row; on a GPU with gradients where they are wanted.

    Args:
        model: A transformers base model that is :func:`attending_in_rows`.
        row: On its device.
        template: Says whether embeddings are normalised.
        causal: Whether a position sees only what is before it.
    """
    ids = row.ids[None]
    hidden = model(
        input_ids=ids,
        position_ids=positions_of(model, ids, row.places[None]),
        cu_seq_lens_q=row.starts,
        max_length_q=row.longest,
        **({"use_cache": False} if causal else {}),
    ).last_hidden_state[0]
    pooled = hidden.index_select(0, row.pooled).float()  # (P, D)
    embedding = torch.segment_reduce(pooled, "mean", lengths=row.shares, unsafe=True)  # they sum up to P
    return nn.functional.normalize(embedding, dim=-1) if template.normalize else embedding


def _has_kernel(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether there is a kernel for rows: on a CPU for all types, on a GPU, since Ampere, for 16 bits."""
    if device.type != "cuda":
        return device.type == "cpu"
    return dtype in (torch.float16, torch.bfloat16) and torch.cuda.get_device_capability(device) >= (8, 0)


@torch.no_grad()
def can_pack(model: Any, templates: Templates, *, causal: bool, precision: torch.dtype | None = None) -> bool:
    """Whether a model gives the same vectors in rows as alone, found by trying on random token ids.

    It does not where attention is not exchangeable or has a window, a cap or sinks of its own, where
    positions cannot be given, and where there is no kernel.

    Args:
        model: A transformers base model, on its device.
        templates: Say how long a text may be.
        causal: Whether a position sees only what is before it.
        precision: Type of products; None: that of the weights.
    """
    config, device, dtype = model.config, model.device, precision or model.dtype
    longest = max(templates.query.max_length, templates.document.max_length)
    windows = [getattr(config, name, None) for name in ("sliding_window", "local_attention")]
    if any(window and window < longest for window in windows):
        return False
    if not _has_kernel(device, dtype):
        return False
    random, template = np.random.default_rng(0), Template(pooling="last")
    tried = [random.integers(config.vocab_size, size=length) for length in (9, 4, 4, 1)]
    packed = PackedModel(model, causal=causal)
    with torch.autocast(device.type, dtype, enabled=dtype != model.dtype):
        try:
            (together,) = packed.embeddings(tried, template, [len(tried)])
        except (AttributeError, RuntimeError, TypeError, ValueError):
            return False
        alone = torch.cat([embed(model, [ids], template, causal=causal) for ids in tried])
    floor = 0.9999 if dtype == torch.float32 else 0.99
    return bool((torch.nn.functional.cosine_similarity(together, alone) >= floor).all())


class _LastLayer:
    """The last layer's parts that act on each position by itself, made to do so where it matters.

    All positions have keys and values there, but queries, the projection after attention and the
    feed-forward network are computed at the pooled positions; elsewhere their output is zero, and unused.
    """

    def __init__(self, model: nn.Module) -> None:
        self._rows: Tensor | None = None
        self._length = 0
        layers = layers_of(model)
        last = layers[-1] if len(layers) else model
        attention = getattr(last, "self_attn", None)
        parts = (getattr(attention, "q_proj", None), getattr(attention, "o_proj", None))
        for part in (*parts, getattr(last, "mlp", None)):
            if isinstance(part, nn.Module):
                part.register_forward_pre_hook(self._gather)
                part.register_forward_hook(self._scatter)

    @contextmanager
    def only_at(self, rows: Tensor | None) -> Iterator[None]:
        """Compute these positions only for as long as the block lasts; None: all."""
        self._rows = rows
        try:
            yield
        finally:
            self._rows = None

    def _gather(self, part: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if self._rows is None:
            return None
        self._length = inputs[0].shape[1]
        return inputs[0][:, self._rows], *inputs[1:]

    def _scatter(self, part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if self._rows is None:
            return None
        return output.new_zeros(1, self._length, output.shape[2]).index_copy_(1, self._rows, output)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    cu_seq_lens_q: Tensor,
    max_length_q: int,
    scaling: float,
    is_causal: bool | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within each sequence; called by transformers, shapes (1, H, T, d) → (1, T, H, d)."""
    if softcap is not None or s_aux is not None or position_bias is not None:
        raise NotImplementedError("packed attention has no cap, no sinks and no bias")
    causal = bool(getattr(module, "is_causal", True)) if is_causal is None else is_causal
    form = _attend_on_gpu if query.is_cuda else attend
    out = form(query[0], key[0], value[0], cu_seq_lens_q, max_length_q, causal, scaling)
    return out[None], None


def _attend_on_gpu(
    query: Tensor, key: Tensor, value: Tensor, starts: Tensor, longest: int, causal: bool, scale: float
) -> Tensor:
    """Do what :func:`attend` does, with gradients.

    This is the operator below torch's ``varlen_attn``, which takes grouped heads since torch 2.12 only. Under
    autocast rotary positions leave float32, of which values say what it was before.
    """
    flat = (each.transpose(0, 1).to(value.dtype).contiguous() for each in (query, key, value))
    out: Tensor = torch.ops.aten._flash_attention_forward(
        *flat, starts, starts, longest, longest, 0.0, causal, False, scale=scale
    )[0]
    return out


@library.custom_op("llara_eval::attend", mutates_args=(), device_types="cpu")
def attend(
    query: Tensor, key: Tensor, value: Tensor, starts: Tensor, longest: int, causal: bool, scale: float
) -> Tensor:
    """Attend within each sequence of a row, on a CPU and without gradients.

    Args:
        query: (H, T, d).
        key: (K, T, d).
        value: (K, T, d).
        starts: (B + 1,) where each sequence begins, and T.
        longest: The most tokens of a sequence.
        causal: Whether a position sees only what is before it.
        scale: What products of queries and keys are multiplied with.

    Returns:
        (T, H, d).
    """
    heads, _, width = query.shape
    out = torch.empty_like(query.transpose(0, 1), memory_format=torch.contiguous_format)
    first = 0
    for length, group in groupby(starts.diff().tolist()):
        last = first + length * sum(1 for _ in group)
        queries, keys, values = (
            each[:, first:last].view(len(each), -1, length, width).transpose(0, 1)
            for each in (query, key, value)
        )  # (sequences of this length, heads, length, d), views
        found = torch.nn.functional.scaled_dot_product_attention(
            queries, keys, values, is_causal=causal, scale=scale, enable_gqa=heads != len(key)
        )
        out[first:last] = found.transpose(1, 2).reshape(-1, heads, width)
        first = last
    return out


@attend.register_fake
def _(query: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(query.transpose(0, 1), memory_format=torch.contiguous_format)
