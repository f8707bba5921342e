"""Three loops of encoding, written from documentation; none contains code of the projects.

``flag`` encodes as FlagEmbedding's inference does, ``tevatron`` as Tevatron's encoding driver does, and
``plain`` sorts by tokens and fills batches up to a number of tokens. All pool and normalise alike.

Shapes: B sequences, L tokens, D width.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Vectors = NDArray[np.float32]

_ONLY_IDS = {"truncation": True, "return_attention_mask": False, "return_token_type_ids": False}
"""Arguments of a tokenizer that returns token ids without masks."""


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
    """Encode texts sorted by tokens, the longest first, each padded to the longest of its batch.

    Before its first batch, FlagEmbedding tries a batch of copies of the longest text, and reduces the batch
    size by a quarter until that works. Here it does not: with so few texts, a trial would take too much of
    the time.
    """
    items = []
    for first in range(0, len(texts), size):
        columns = tokenizer(list(texts[first : first + size]), truncation=True, max_length=max_length)
        items += [dict(zip(columns, item, strict=True)) for item in zip(*columns.values(), strict=True)]
    order = np.argsort([-len(item["input_ids"]) for item in items], kind="stable")
    vectors = []
    for first in range(0, len(items), size):
        batch = tokenizer.pad([items[i] for i in order[first : first + size]], return_tensors="pt")
        vectors.append(_vectors(model, batch.to(model.device), pooling).cpu().numpy())
    return np.concatenate(vectors)[np.argsort(order)]


@torch.inference_mode()
def tevatron(
    model: Any, tokenizer: Any, texts: Sequence[str], size: int, *, max_length: int, pooling: str
) -> Vectors:
    """Encode fixed batches in the order of the texts, padded to a multiple of 16."""
    vectors = []
    for first in range(0, len(texts), size):
        sequences = tokenizer(list(texts[first : first + size]), max_length=max_length, **_ONLY_IDS)
        batch = tokenizer.pad(
            sequences, pad_to_multiple_of=16, return_attention_mask=True, return_tensors="pt"
        )
        vectors.append(_vectors(model, batch.to(model.device), pooling).cpu().numpy())
    return np.concatenate(vectors)


@torch.inference_mode()
def plain(
    model: Any, tokenizer: Any, texts: Sequence[str], size: int, *, max_length: int, pooling: str
) -> Vectors:
    """Encode texts sorted by tokens, at most ``size`` tokens in a batch, padding included.

    A batch has an attention mask only if it needs one. Vectors are copied from a GPU once, at the end.
    """
    sequences = tokenizer(list(texts), max_length=max_length, **_ONLY_IDS)["input_ids"]
    order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
    vectors, first = [], 0
    while first < len(order):
        chosen = order[first : first + max(1, size // len(sequences[order[first]]))]
        first += len(chosen)
        batch = tokenizer.pad({"input_ids": [sequences[i] for i in chosen]}, return_tensors="pt")
        mask, whole = batch["attention_mask"].to(model.device), bool(batch["attention_mask"].all())
        if pooling == "last" or whole:  # a causal model does not attend to padding on the right
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
"""Name → loop, and the batch sizes that are tried, the documented one first; for ``plain`` in tokens."""
