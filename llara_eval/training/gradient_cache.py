"""Gradients of a loss over a batch whose activations do not fit in memory.

The method is GradCache (Gao et al. 2021, arXiv 2101.06983): chunks are embedded without a graph, the loss is
computed from all embeddings, and each chunk is embedded again to pass the loss's gradient on to the
parameters. The last chunk is embedded only once, with its graph.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

Chunk = TypeVar("Chunk")


def cached_backward(
    chunks: Sequence[Chunk],
    embed: Callable[[Chunk], Tensor],
    loss: Callable[[Tensor], Tensor],
    before_backward: Callable[[bool], None] = lambda last: None,
) -> Tensor:
    """Leave in the parameters the gradients of a loss over the embeddings of all chunks.

    Args:
        chunks: The micro-batches of the batch.
        embed: Returns the embeddings (n, D) of a chunk.
        loss: Returns a scalar from the embeddings of all chunks, in their order.
        before_backward: Called before each backward pass, with True before the last one.

    Returns:
        The loss, without graph.
    """
    *cached, last = chunks
    states, leaves = [], []
    for chunk in cached:
        states.append(_random_state())
        with torch.no_grad():
            leaves.append(embed(chunk))
    value = loss(torch.cat([*(leaf.requires_grad_() for leaf in leaves), embed(last)]))
    before_backward(not cached)
    value.backward()  # type: ignore[no-untyped-call]
    after = _random_state()
    for number, (chunk, state, leaf) in enumerate(zip(cached, states, leaves, strict=True), 1):
        _set_random_state(state)  # for the dropout of the first pass
        embeddings = embed(chunk)
        before_backward(number == len(cached))
        embeddings.backward(leaf.grad)  # type: ignore[no-untyped-call]
    _set_random_state(after)
    return value.detach()


def _random_state() -> list[Any]:
    devices = [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []
    return [torch.get_rng_state(), *devices]


def _set_random_state(state: Sequence[Any]) -> None:
    torch.set_rng_state(state[0])
    for device in state[1:]:
        torch.cuda.set_rng_state(device)
