"""The cost of a model from its configuration: parameters, operations per token, memory.

The model is built without memory for its weights, so that this takes a second for a model of any size.
"""

from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from llara_eval.checkpoints.libraries import build_skeleton

Tokens = TypeVar("Tokens", float, NDArray[np.float64])


class Cost(NamedTuple):
    """The cost of encoding with a model.

    Attributes:
        parameters: Number of parameters without the LM head.
        products: Number of weights that each token is multiplied with.
        attention: Operations of attention for each pair of tokens of a text, over all layers.
        width: Hidden size D, also the size of a vector.
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

        ``T (2 products + attention T)``: a product is a multiplication and an addition. Attention consists of
        two products (queries with keys, weights with values) over all heads; a causal mask halves them.
        """
        return tokens * (2 * self.products + self.attention * tokens)

    def memory(self, batch_tokens: int, bytes_each: int) -> int:
        """Return the peak bytes of weights and activations while a batch is encoded.

        The peak is inside a feed-forward layer, ``batch tokens (4 width + 3 feed-forward)``: the token
        embeddings, the layer's input, the residual stream and its norm; gate, up and their product.

        Args:
            batch_tokens: Tokens of a batch.
            bytes_each: Bytes of a number.
        """
        activations = batch_tokens * (4 * self.width + 3 * self.feed_forward)
        return bytes_each * (self.parameters + activations)


def feed_forward(config: Any) -> int:
    """Return the size of the feed-forward layer; by default, four times the hidden size."""
    sizes = (getattr(config, name, None) for name in ("intermediate_size", "ffn_dim", "ffn_hidden_size"))
    return int(next(filter(None, sizes), 4 * config.hidden_size))


def products(model: Any) -> int:
    """Return the number of weights that each token is multiplied with.

    An embedding matrix counts only if the LM head uses it, because a look-up is no product.
    """
    embeddings = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    head = model.get_output_embeddings()
    looked_up = embeddings - ({head.weight} if head is not None else set())
    return sum(weight.numel() for weight in model.parameters() if weight.ndim > 1 and weight not in looked_up)


def cost(config: Any) -> Cost:
    """Return the cost of encoding with the model of a transformers configuration."""
    model = build_skeleton(config)
    heads, width = getattr(config, "num_attention_heads", 0), config.hidden_size
    head_width = getattr(config, "head_dim", None) or width // max(heads, 1)
    causal = any(getattr(module, "is_causal", False) for module in model.modules())  # MPNet lacks it
    return Cost(
        parameters=model.num_parameters(),
        products=products(model),
        attention=(2 if causal else 4) * config.num_hidden_layers * heads * head_width,
        width=width,
        feed_forward=feed_forward(config),
        layers=config.num_hidden_layers,
    )
