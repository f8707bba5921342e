"""EBAE and EBAR, the bag-of-words losses of LLaRA, and the language-model term beside them.

Logits are computed for the slots only, and for the language-model term for a chunk of tokens at a time, so
that memory does not grow with sequence length times vocabulary. All losses are weighted sums over a
micro-batch; the caller's weights make them means over the whole batch.

Shapes: B texts, S slots, D hidden size, V vocabulary, T target tokens, M text tokens of the batch.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from llara_eval.core.errors import UsageError

NO_TOKEN = -1
"""Padding of target token ids."""

_CHUNK_LOGITS = 1 << 25
"""Logits computed at a time for the language-model term: 128 MiB in float32."""


@dataclass(frozen=True, slots=True)
class Head:
    """The LM head: the projection of hidden states onto the vocabulary.

    Attributes:
        weight: (V, D) the projection matrix.
        softcap: The bound of soft-capped logits (Gemma 2, arXiv 2408.00118, section 2), or None.
    """

    weight: Tensor
    softcap: float | None = None

    @classmethod
    def of(cls, model: Any) -> "Head":
        """Return the LM head of a causal language model.

        Raises:
            UsageError: The head has a bias or a scale.
        """
        layer, config = model.get_output_embeddings(), model.config
        scales = [getattr(config, name, 1.0) for name in ("logit_scale", "logits_scaling")]
        if layer is None or getattr(layer, "bias", None) is not None or any(scale != 1.0 for scale in scales):
            raise UsageError(
                f"{type(model).__name__}: only a language-model head without bias or scale is known"
            )
        return cls(layer.weight, getattr(config, "final_logit_softcapping", None))

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return the logits (…, V) of hidden states (…, D), in float32."""
        logits = (hidden @ self.weight.to(hidden.dtype).T).float()
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


def bag_weights(targets: Tensor, vocabulary: int, *, distinct: bool, mean: bool = True) -> Tensor:
    """Return the weight of every vocabulary entry in the loss of a text's target tokens.

    Args:
        targets: (B, T) token ids, padded with ``NO_TOKEN``.
        vocabulary: V, the size of the vocabulary.
        distinct: Whether a token counts once however often it occurs.
        mean: Whether the loss of a text is the mean over its target tokens; otherwise it is their sum.

    Returns:
        (B, V) weights; those of a text add up to 1 or to the number of its tokens, or to 0 for an empty
        target.
    """
    # Padding is counted in an additional column, which is cut off afterwards.
    counts = torch.zeros(targets.shape[0], vocabulary + 1, device=targets.device)
    columns = targets.where(targets != NO_TOKEN, vocabulary)
    counts.scatter_add_(1, columns, torch.ones_like(targets, dtype=counts.dtype))
    counts = counts[:, :vocabulary]
    if distinct:
        counts = counts.clamp(max=1)
    return counts / counts.sum(dim=1, keepdim=True).clamp(min=1) if mean else counts


def bag_logits(states: Tensor, head: Head) -> Tensor:
    """Return the bag-of-words logits (B, V) of slot states (B, S, D): the largest logit over the slots.

    The released code (FlagOpen/FlagEmbedding, research/LLARA) takes the largest logit; with one slot this is
    the paper's projection of the embedding.
    """
    return head(states).max(dim=1).values


def bag_of_words_loss(states: Tensor, weights: Tensor, head: Head) -> Tensor:
    """Return the weighted sum of −log p over texts and target tokens (arXiv 2312.15503).

    Args:
        states: (B, S, D) hidden states of the slots.
        weights: (B, V), see :func:`bag_weights`, times the weight of each text; a text whose weights are 0
            contributes nothing.
        head: The LM head.
    """
    logits = bag_logits(states, head)
    return (weights.sum(dim=1) * logits.logsumexp(dim=1)).sum() - (weights * logits).sum()


def bag_recall(states: Tensor, weights: Tensor, head: Head) -> Tensor:
    """Return the sum over texts of the share of their |T| distinct target tokens among the top |T| logits.

    Args:
        states: (B, S, D) hidden states of the slots.
        weights: (B, V), see :func:`bag_weights`.
        head: The LM head.

    Returns:
        A scalar; a text without targets counts 0.
    """
    is_target = weights > 0
    size = is_target.sum(dim=1, keepdim=True)
    order = bag_logits(states, head).argsort(dim=1, descending=True)
    top = torch.arange(order.shape[1], device=order.device) < size
    hits = (is_target.gather(1, order) & top).sum(dim=1, keepdim=True)
    return (hits / size.clamp(min=1)).sum()


def language_model_loss(hidden: Tensor, labels: Tensor, weights: Tensor, head: Head) -> Tensor:
    """Return the weighted sum of the next-token cross-entropies.

    Args:
        hidden: (M, D) hidden states, each of the token before the one that it predicts.
        labels: (M,) ids of the predicted tokens.
        weights: (M,) the weight of each token.
        head: The LM head.

    Returns:
        A scalar. Its gradients are computed along with it, chunk by chunk, so that only the logits of one
        chunk exist at a time.
    """
    return cast(Tensor, _ChunkedCrossEntropy.apply(hidden, head.weight, labels, weights, head.softcap))  # type: ignore[no-untyped-call]


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Cross-entropy of a (soft-capped) projection that never holds the logits of all tokens."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, weights: Tensor, softcap: float | None
    ) -> Tensor:
        """Compute the loss, and its gradients for the inputs that need them."""
        dtype = hidden.dtype
        if torch.is_autocast_enabled(hidden.device.type):
            dtype = torch.get_autocast_dtype(hidden.device.type)
        head = Head(weight.to(dtype), softcap)
        total = torch.zeros((), device=hidden.device)
        grad_hidden, grad_weight = (
            torch.zeros_like(tensor) if needed else None
            for tensor, needed in zip((hidden, weight), ctx.needs_input_grad, strict=False)
        )
        chunk = max(1, _CHUNK_LOGITS // len(weight))
        for start in range(0, len(labels), chunk):
            rows, label = hidden[start : start + chunk].to(dtype), labels[start : start + chunk, None]
            share = weights[start : start + chunk, None]
            logits = head(rows)
            log_p = logits.log_softmax(dim=1)
            total -= (share * log_p.gather(1, label)).sum()
            if grad_hidden is None and grad_weight is None:
                continue
            # d loss / d logits = share (p - one-hot); the soft cap's slope is 1 - (logits / cap)^2.
            error = log_p.exp_().scatter_add_(1, label, -torch.ones_like(label, dtype=log_p.dtype)) * share
            if softcap is not None:
                error *= 1 - (logits / softcap) ** 2
            error = error.to(dtype)
            if grad_hidden is not None:
                grad_hidden[start : start + chunk] = error @ head.weight
            if grad_weight is not None:
                grad_weight += error.T @ rows
        ctx.save_for_backward(*(grad for grad in (grad_hidden, grad_weight) if grad is not None))
        return total

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients that :meth:`forward` computed, scaled."""
        grads = iter(ctx.saved_tensors)
        hidden, weight = (
            next(grads) * grad_output if needed else None for needed in ctx.needs_input_grad[:2]
        )
        return hidden, weight, None, None, None
