"""Three ways of encoding, written after what is documented of them; none is anybody's code.

``flag`` is what FlagEmbedding's inference does, ``tevatron`` what Tevatron's encoding driver does, ``plain``
what a sort by tokens and a budget give by themselves. All pool, and divide by the length, alike.

Shapes: B sequences, L tokens, D width.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Vectors = NDArray[np.float32]


def pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Return unit vectors (B, D) of hidden states (B, L, D), padded on the right: ``mean`` or ``last``."""
    if pooling == "last":
        pooled = hidden[torch.arange(len(hidden)), mask.sum(1) - 1].float()
    else:
        pooled = (hidden * mask[..., None]).sum(1).float() / mask.sum(1, keepdim=True)
    return torch.nn.functional.normalize(pooled, dim=-1)


def _vectors(model: Any, batch: Any, pooling: str) -> Tensor:
    return pool(model(**batch).last_hidden_state, batch["attention_mask"], pooling)


@torch.inference_mode()
def flag(
    model: Any, tokenizer: Any, texts: Sequence[str], size: int, *, max_length: int, pooling: str
) -> Vectors:
    """All texts tokenised, sorted by tokens, longest first, and padded to the longest of their batch.

    Before its first batch FlagEmbedding tries one of copies of the longest text, and takes three quarters as
    many as long as that fails; a trial for each call would weigh too much with so few texts.
    """
    rows = []
    for first in range(0, len(texts), size):
        read = tokenizer(list(texts[first : first + size]), truncation=True, max_length=max_length)
        rows += [dict(zip(read, row, strict=True)) for row in zip(*read.values(), strict=True)]
    order = np.argsort([-len(row["input_ids"]) for row in rows], kind="stable")
    vectors = []
    for first in range(0, len(rows), size):
        batch = tokenizer.pad([rows[i] for i in order[first : first + size]], return_tensors="pt")
        vectors.append(_vectors(model, batch.to(model.device), pooling).cpu().numpy())
    return np.concatenate(vectors)[np.argsort(order)]


@torch.inference_mode()
def tevatron(
    model: Any, tokenizer: Any, texts: Sequence[str], size: int, *, max_length: int, pooling: str
) -> Vectors:
    """Fixed batches in the order of the texts, padded to a multiple of 16."""
    vectors = []
    for first in range(0, len(texts), size):
        read = tokenizer(
            list(texts[first : first + size]),
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        batch = tokenizer.pad(read, pad_to_multiple_of=16, return_attention_mask=True, return_tensors="pt")
        vectors.append(_vectors(model, batch.to(model.device), pooling).cpu().numpy())
    return np.concatenate(vectors)


@torch.inference_mode()
def plain(
    model: Any, tokenizer: Any, texts: Sequence[str], size: int, *, max_length: int, pooling: str
) -> Vectors:
    """Sorted by tokens; at most ``size`` tokens a batch, padding included; no mask where none is needed.

    A GPU is waited for once, in the end.
    """
    read = tokenizer(
        list(texts),
        truncation=True,
        max_length=max_length,
        return_attention_mask=False,
        return_token_type_ids=False,
    )["input_ids"]
    order = sorted(range(len(read)), key=lambda i: -len(read[i]))
    vectors, first = [], 0
    while first < len(order):
        chosen = order[first : first + max(1, size // len(read[order[first]]))]
        first += len(chosen)
        batch = tokenizer.pad({"input_ids": [read[i] for i in chosen]}, return_tensors="pt")
        mask, whole = batch["attention_mask"].to(model.device), bool(batch["attention_mask"].all())
        if pooling == "last" or whole:  # a causal model never looks at padding on its right
            del batch["attention_mask"]
        batch = batch.to(model.device)
        hidden = model(**batch, **({"use_cache": False} if pooling == "last" else {})).last_hidden_state
        vectors.append(pool(hidden, mask, pooling))
    return torch.cat(vectors).cpu().numpy()[np.argsort(order)]


Loop = Callable[..., Vectors]
LOOPS: dict[str, tuple[Loop, tuple[int, ...]]] = {
    "flag": (flag, (256, 32)),
    "tevatron": (tevatron, (8, 32)),
    "plain": (plain, (16_384, 65_536) if torch.cuda.is_available() else (4_096, 1_024)),
}
"""Name → loop and the batch sizes tried, the documented one first; of ``plain``, tokens."""
