"""The cost of a model by its configuration alone: parameters, operations a token, memory.

The model is built without memory for its weights, so that a model of any size is known in a second.
"""

from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Tokens = TypeVar("Tokens", float, NDArray[np.float64])


class Cost(NamedTuple):
    """The cost of encoding with a model.

    Attributes:
        parameters: All parameters, language-model head apart.
        products: Weights a token is multiplied with.
        attention: Operations of attention for a token and each token of its text.
        width: Hidden size D, that of vectors too.
        feed_forward: Size of the feed-forward layer.
        layers: Number of layers.
    """

    parameters: int
    products: int
    attention: int
    width: int
    feed_forward: int
    layers: int

    def operations(self, tokens: Tokens) -> Tokens:
        """Return the floating-point operations of a forward pass over a text of T tokens.

        ``T (2 products + attention T)``: a product is a multiplication and an addition; attention is two
        products (queries with keys, weights with values) over all heads, of which a causal mask leaves half.
        """
        return tokens * (2 * self.products + self.attention * tokens)

    def memory(self, batch_tokens: int, bytes_each: int) -> int:
        """Return the peak bytes of weights and activations while a batch is encoded.

        The peak is inside a feed-forward layer, ``batch tokens (4 width + 3 feed-forward)``: the embeddings
        looked up, the layer's input, the residual stream and its normalised form; gate, up and their product.
        """
        alive = batch_tokens * (4 * self.width + 3 * self.feed_forward)
        return bytes_each * (self.parameters + alive)


def feed_forward(config: Any) -> int:
    """Return the size of the feed-forward layer; by default, four times the hidden size."""
    named = (getattr(config, name, None) for name in ("intermediate_size", "ffn_dim", "ffn_hidden_size"))
    return int(next(filter(None, named), 4 * config.hidden_size))


def skeleton(config: Any, *, head: bool = False) -> Any:
    """Return the model of a configuration without memory for its weights.

    Args:
        config: A transformers configuration.
        head: Whether the model has its language-model head.
    """
    from transformers import AutoModel, AutoModelForCausalLM

    with torch.device("meta"):
        return (AutoModelForCausalLM if head else AutoModel).from_config(config)


def products(model: Any) -> int:
    """Return the weights that a token is multiplied with; an embedding matrix counts only as the LM head."""
    matrices = {part.weight for part in model.modules() if isinstance(part, nn.Embedding)}
    head = model.get_output_embeddings()
    looked_up = matrices - ({head.weight} if head is not None else set())
    return sum(weight.numel() for weight in model.parameters() if weight.ndim > 1 and weight not in looked_up)


def cost(config: Any) -> Cost:
    """Return what encoding with the model of a configuration costs."""
    model = skeleton(config)
    heads, width = getattr(config, "num_attention_heads", 0), config.hidden_size
    head_width = getattr(config, "head_dim", None) or width // max(heads, 1)
    causal = any(getattr(part, "is_causal", False) for part in model.modules())  # MPNet has no such attribute
    return Cost(
        parameters=model.num_parameters(),
        products=products(model),
        attention=(2 if causal else 4) * config.num_hidden_layers * heads * head_width,
        width=width,
        feed_forward=feed_forward(config),
        layers=config.num_hidden_layers,
    )
