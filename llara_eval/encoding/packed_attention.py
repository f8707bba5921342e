"""Attention within each sequence of a packed batch, in place of a model's own attention.

The interface of transformers for this is used. A GPU runs a variable-length kernel, a CPU makes one call for
each group of neighbouring sequences of equal length.

Shapes: B sequences, T tokens in all, H heads (K of keys and values), d width of a head.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, library, nn

_NAME = "llara_eval_packed"
"""The name of this attention in transformers' registry."""


@contextmanager
def using_packed_attention(model: Any) -> Iterator[None]:
    """Replace a model's attention in the block by one that reads packed batches.

    Raises:
        NotImplementedError: The model's attention cannot be replaced.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(_NAME, _attention)
    previous = model.config._attn_implementation
    model.set_attn_implementation(_NAME)
    try:
        if model.config._attn_implementation != _NAME:
            raise NotImplementedError(f"the attention of {type(model).__name__} cannot be replaced")
        yield
    finally:
        model.set_attn_implementation(previous)


def has_kernel(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether a device has a kernel for packed batches of a dtype.

    A CPU has one for every dtype, a GPU since Ampere for those of 16 bits.
    """
    if device.type != "cuda":
        return device.type == "cpu"
    return dtype in (torch.float16, torch.bfloat16) and torch.cuda.get_device_capability(device) >= (8, 0)


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
    """Attend within each sequence; transformers calls this, (1, H, T, d) → (1, T, H, d)."""
    if softcap is not None or s_aux is not None or position_bias is not None:
        raise NotImplementedError("packed attention has no soft cap, no attention sinks and no position bias")
    causal = bool(getattr(module, "is_causal", True)) if is_causal is None else is_causal
    attention = _attend_on_gpu if query.is_cuda else attend
    out = attention(query[0], key[0], value[0], cu_seq_lens_q, max_length_q, causal, scaling)
    return out[None], None


def _attend_on_gpu(
    query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor, longest: int, causal: bool, scale: float
) -> Tensor:
    """Compute what :func:`attend` computes, with gradients.

    The operator below torch's ``varlen_attn`` is called, since ``varlen_attn`` takes grouped heads only from
    torch 2.12 on. Under autocast, rotary embeddings make float32 of queries and keys; the values still have
    the dtype of the products.
    """
    flat = (each.transpose(0, 1).to(value.dtype).contiguous() for each in (query, key, value))
    out: Tensor = torch.ops.aten._flash_attention_forward(
        *flat, cu_seqlens, cu_seqlens, longest, longest, 0.0, causal, False, scale=scale
    )[0]
    return out


@library.custom_op("llara_eval::attend", mutates_args=(), device_types="cpu")
def attend(
    query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor, longest: int, causal: bool, scale: float
) -> Tensor:
    """Attend within each sequence of a packed batch, on a CPU and without gradients.

    Args:
        query: (H, T, d).
        key: (K, T, d).
        value: (K, T, d).
        cu_seqlens: The beginning of each sequence, and T: (B + 1,).
        longest: The most tokens of a sequence.
        causal: Whether tokens attend to earlier ones only.
        scale: The factor of the products of queries and keys.

    Returns:
        (T, H, d).
    """
    heads, _, width = query.shape
    out = torch.empty_like(query.transpose(0, 1), memory_format=torch.contiguous_format)
    first = 0
    for length, group in groupby(cu_seqlens.diff().tolist()):
        last = first + length * sum(1 for _ in group)
        queries, keys, values = (
            each[:, first:last].view(len(each), -1, length, width).transpose(0, 1)
            for each in (query, key, value)
        )  # (sequences of this length, heads, length, d), views
        attended = torch.nn.functional.scaled_dot_product_attention(
            queries, keys, values, is_causal=causal, scale=scale, enable_gqa=heads != len(key)
        )
        out[first:last] = attended.transpose(1, 2).reshape(-1, heads, width)
        first = last
    return out


@attend.register_fake
def _(query: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(query.transpose(0, 1), memory_format=torch.contiguous_format)
