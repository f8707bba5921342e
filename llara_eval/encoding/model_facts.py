"""How many tokens a model has positions for."""

import sys
from typing import Any

from llara_eval.core.errors import UsageError

_BEHIND_PADDING = {
    *("camembert", "data2vec-text", "esm", "ibert", "longformer", "luke", "mpnet", "roberta"),
    *("roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
}
"""Models whose first position is the one behind the padding token's id, which their code alone says."""


def own_positions(config: Any) -> int:
    """Return the most tokens a model has positions for; without a limit, more than there ever are."""
    own = int(getattr(config, "max_position_embeddings", None) or 0)
    if own < 1:
        return sys.maxsize
    return own - config.pad_token_id - 1 if config.model_type in _BEHIND_PADDING else own


def positions(config: Any, tokenizer: Any) -> int:
    """Return the most tokens a model can read, by its configuration and its tokenizer's."""
    return int(min(own_positions(config), tokenizer.model_max_length))


def require_positions(config: Any, **lengths: int | None) -> None:
    """Raise if a length that was asked for is more than a model has positions for.

    Raises:
        UsageError: It is; the length is named as it is here.
    """
    there = own_positions(config)
    for name, length in lengths.items():
        if length is not None and length > there:
            raise UsageError(f"{name} {length:,} is more than the model has positions: {there:,}")
