"""What a model can do: found once, by its configuration, its modules and one forward pass, and handed on.

Shapes: B sequences, L tokens, D width.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llara_eval.core.errors import UsageError

_BEHIND_PADDING = {
    *("camembert", "data2vec-text", "esm", "ibert", "longformer", "luke", "mpnet", "roberta"),
    *("roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
}
"""Models whose first position is the one behind the padding token's id, which their code alone says."""

_CAUSAL_TOLERANCE = {torch.float32: 1e-3}
"""Relative change of hidden states that counts as none; other dtypes round coarsely: 0.03."""

_PREFIX = (11, 7, 5, 3)
_CONTINUATIONS = ((13, 17, 19, 23), (14, 18, 20, 24))
"""Token ids of two sequences that begin alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What a transformers base model can do.

    Attributes:
        positions: The most tokens it has positions for; ``sys.maxsize`` without a limit.
        width: Width D of its output, which is not always its hidden size: OPT's may be narrower.
        layers: How many layers it has.
        causal: Whether a position sees only what is before it.
        padding_position: The position of padding from behind which it counts positions, as RoBERTa does; None
            where the first position is zero.
        packs: Whether it gives the same vectors in a packed batch as in a padded one; this takes a trial, see
            :func:`llara_eval.encoding.engines.find_facts`.
    """

    positions: int
    width: int
    layers: int
    causal: bool
    padding_position: int | None = None
    packs: bool = False


@torch.no_grad()
def bare_facts(model: Any) -> ModelFacts:
    """Return what the model itself shows, by one forward pass of two sequences that begin alike.

    Names and flags may be wrong about causality, so the hidden states of the common beginning are compared.

    Args:
        model: A transformers base model, on its device.
    """
    sequences = [[token % model.config.vocab_size for token in _PREFIX + rest] for rest in _CONTINUATIONS]
    with evaluating(model):
        hidden = model(input_ids=torch.tensor(sequences, device=model.device)).last_hidden_state
    one, two = hidden[:, : len(_PREFIX)].float()  # (4, D) each
    tolerance = _CAUSAL_TOLERANCE.get(model.dtype, 0.03)
    return ModelFacts(
        positions=max_positions(model.config),
        width=int(hidden.shape[-1]),
        layers=len(layers_of(model)),
        causal=bool((one - two).norm() <= tolerance * one.norm()),
        padding_position=padding_position(model),
    )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch dropout off for as long as the block lasts; each module then has the mode it had before."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def layers_of(model: nn.Module) -> nn.ModuleList:
    """Return the model's layers: the longest list of modules in it, an empty one if there is none."""
    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList))
    return max(lists, key=len, default=nn.ModuleList())


def padding_position(model: Any) -> int | None:
    """Return the position of padding from behind which a model counts positions; None if it counts from zero.

    RoBERTa and its kin have a position for padding, and leave out tokens of padding's id, which is the same
    number.
    """
    embedding = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding: int | None = getattr(embedding, "padding_idx", None)
    return padding


def position_ids_of(model: Any, input_ids: Tensor, offsets: Tensor) -> Tensor:
    """Return the position ids, (B, L), that a model gives to tokens when it is given none.

    Args:
        model: A transformers base model.
        input_ids: (B, L).
        offsets: (B, L) how many tokens of its text are before each token; texts may lie side by side.
    """
    padding = padding_position(model)
    if padding is None:
        return offsets
    counted = (input_ids != padding).long()
    sums = counted.cumsum(1)
    begins = torch.arange(input_ids.shape[1], device=input_ids.device) - offsets
    before = (sums - counted).gather(1, begins)
    return (sums - before) * counted + padding


def max_positions(config: Any) -> int:
    """Return the most tokens a model has positions for; without a limit, more than there ever are."""
    own = int(getattr(config, "max_position_embeddings", None) or 0)
    if own < 1:
        return sys.maxsize
    return own - config.pad_token_id - 1 if config.model_type in _BEHIND_PADDING else own


def max_tokens(config: Any, tokenizer: Any) -> int:
    """Return the most tokens a model can read, by its configuration and its tokenizer's."""
    return int(min(max_positions(config), tokenizer.model_max_length))


def require_positions(config: Any, **lengths: int | None) -> None:
    """Raise if a length is more than a model has positions for.

    Args:
        config: The model's configuration.
        lengths: Each under the name that the message gives it; None is no length.

    Raises:
        UsageError: A length is more than the model has positions.
    """
    limit = max_positions(config)
    for name, length in lengths.items():
        if length is not None and length > limit:
            raise UsageError(f"{name} {length:,} is more than the model has positions: {limit:,}")
