"""What a model can do, found once from its configuration, its modules and one forward pass.

Shapes: B sequences, L tokens, D width of the output.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llara_eval.core.errors import DataError, UsageError

_BEHIND_PADDING = {
    *("camembert", "data2vec-text", "esm", "ibert", "longformer", "luke", "mpnet", "roberta"),
    *("roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
}
"""Model types whose positions are counted from the padding token's id on; no configuration says so."""

_PREFIX = (11, 7, 5, 3)
_CONTINUATIONS = ((13, 17, 19, 23), (14, 18, 20, 24))
"""Token ids of two sequences with a common prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """The facts about a transformers base model that decide how it can be run.

    Attributes:
        positions: The most tokens it has positions for; ``sys.maxsize`` if there is no limit.
        width: Width D of its output, which may differ from its hidden size, as in OPT.
        layers: The number of its layers.
        vocabulary: The rows V of its embedding matrix; ``sys.maxsize`` if it has none.
        causal: Whether a token attends only to itself and to the tokens before it.
        padding_position: The position of padding, after which positions are counted in RoBERTa and its kin;
            None where the first position is zero.
        packs: Whether it gives the same vectors in a packed batch as in a padded one, which
            :func:`llara_eval.encoding.engines.find_facts` finds out.
    """

    positions: int
    width: int
    layers: int
    vocabulary: int
    causal: bool
    padding_position: int | None = None
    packs: bool = False


@torch.no_grad()
def bare_facts(model: Any) -> ModelFacts:
    """Return the facts that a forward pass of two sequences with a common prefix shows.

    A model is causal if the hidden states of the prefix are equal in both sequences, up to rounding. Its
    class name and its configuration are not trusted in this.

    Args:
        model: A transformers base model, on its device.

    Raises:
        DataError: The model cannot compute this pass.
    """
    sequences = [[token % model.config.vocab_size for token in _PREFIX + end] for end in _CONTINUATIONS]
    with evaluating(model), forward_errors(model):
        hidden = model(input_ids=torch.tensor(sequences, device=model.device)).last_hidden_state
    one, two = hidden[:, : len(_PREFIX)].float()  # (4, D) each
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.03
    return ModelFacts(
        positions=max_positions(model.config),
        width=int(hidden.shape[-1]),
        layers=len(layers_of(model)),
        vocabulary=_embedding_rows(model),
        causal=bool((one - two).norm() <= tolerance * one.norm()),
        padding_position=padding_position(model),
    )


def _embedding_rows(model: Any) -> int:
    """Return the rows of a model's embedding matrix; ``sys.maxsize`` if it has none."""
    try:
        embeddings = model.get_input_embeddings()
    except NotImplementedError:  # CANINE hashes characters
        return sys.maxsize
    return int(getattr(embeddings, "num_embeddings", sys.maxsize))


def broken_weight(model: nn.Module) -> str | None:
    """Return the name of the first weight of a model that holds NaN or infinity; None if there is none."""
    for name, weight in model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            return name
    return None


def advice_on_nan(model: nn.Module) -> str:
    """Return what to do where embeddings hold NaN or infinity."""
    name = broken_weight(model)
    if name is None:
        return "try --dtype float32"
    narrow = next(model.parameters()).dtype != torch.float32
    return f"the weight {name} holds NaN or infinity{'; try --dtype float32' if narrow else ''}"


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put all modules into evaluation mode in the block; afterwards each has its previous mode again."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def forward_errors(model: Any) -> Iterator[None]:
    """Turn an error of a model's own code in the block into one that names the type of the model.

    Raises:
        DataError: The model's code raised an error, other than of too little memory or of other processes.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, torch.distributed.DistError):
        raise
    except Exception as error:  # the code of any model type, or of the checkpoint
        raise DataError(
            f"the forward pass of a {model.config.model_type} model ({type(model).__name__}) fails with "
            f"{type(error).__name__}: {error}"
        ) from error


def layers_of(model: nn.Module) -> nn.ModuleList:
    """Return the model's layers, which are the longest list of modules in it; empty if it has no list."""
    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList))
    return max(lists, key=len, default=nn.ModuleList())


def padding_position(model: Any) -> int | None:
    """Return the position of padding, after which a model counts positions; None if it counts from zero.

    RoBERTa and its kin give this position, which equals the padding token's id, to all tokens of that id, and
    do not count them.
    """
    embedding = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding: int | None = getattr(embedding, "padding_idx", None)
    return padding


def position_ids_of(model: Any, input_ids: Tensor, offsets: Tensor) -> Tensor:
    """Return the position ids, (B, L), that a model computes by itself where none are passed to it.

    Args:
        model: A transformers base model.
        input_ids: Token ids, (B, L).
        offsets: For each token, (B, L), the number of tokens before it in its text; a line may hold several
            texts.
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
    """Return the most tokens that a model has positions for; ``sys.maxsize`` if there is no limit."""
    limit = int(getattr(config, "max_position_embeddings", None) or 0)
    if limit < 1:
        return sys.maxsize
    return limit - config.pad_token_id - 1 if config.model_type in _BEHIND_PADDING else limit


def max_tokens(config: Any, tokenizer: Any) -> int:
    """Return the most tokens a model can read by its configuration and by that of its tokenizer."""
    return int(min(max_positions(config), tokenizer.model_max_length))


def require_positions(config: Any, **lengths: int | None) -> None:
    """Check that a model has positions for sequences of some lengths.

    Args:
        config: The model's configuration.
        lengths: Numbers of tokens, by the name that the message shall use; None is not checked.

    Raises:
        UsageError: A length is more than the model has positions.
    """
    limit = max_positions(config)
    for name, length in lengths.items():
        if length is not None and length > limit:
            raise UsageError(f"{name} {length:,} is more than the model has positions: {limit:,}")
