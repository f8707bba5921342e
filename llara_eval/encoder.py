"""Language model + templates → unit vectors.

Stock transformers models, language-model head never run. Sequences are batched by a token budget
after sorting by exact length and padded on the right; the pooled positions come from the template,
so a tokenizer's padding side plays no part.

Shapes: B sequences, L tokens, D width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llara_eval.errors import CheckFailedError
from llara_eval.protocols import Advance
from llara_eval.templates import Side, Template, Templates

BATCH_TOKENS = {"cpu": 4_096, "cuda": 65_536, "mps": 16_384}
"""Tokens of one batch, padding included, by device type; measured to be past the knee on each."""

_CAUSAL_TOLERANCE = {torch.float32: 1e-3}
"""Relative change of hidden states that counts as none; other dtypes round coarsely: 0.03."""


@dataclass(slots=True)
class Work:
    """How much was computed.

    Attributes:
        tokens: Real tokens.
        padded: Tokens computed, padding included.
    """

    tokens: int = 0
    padded: int = 0


class Encoder:
    """Encodes texts with one model and two templates.

    Args:
        model: A transformers base model (it returns ``last_hidden_state``), in eval mode on its device.
        tokenizer: Its tokenizer.
        templates: How queries and documents become token sequences.
        batch_tokens: Tokens of one batch, padding included; None takes what suits the device.
        source: From where the templates are known.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        templates: Templates,
        *,
        batch_tokens: int | None = None,
        source: str = "given",
    ) -> None:
        self.source = source
        self.model = model
        self.tokenizer = tokenizer
        self.templates = templates
        self.device: torch.device = model.device
        self.batch_tokens = batch_tokens or BATCH_TOKENS.get(self.device.type, 4_096)
        self.work = Work()
        self.causal = _is_causal(model)

    @property
    def width(self) -> int:
        """Width D of the vectors."""
        return int(self.model.config.hidden_size)

    def encode(self, texts: Sequence[str], side: Side, advance: Advance | None = None) -> NDArray[np.float32]:
        """Encode texts.

        Args:
            texts: n texts, in any order of length.
            side: Which template to use.
            advance: Called with the number of texts after each batch.

        Returns:
            (n, D) float32.

        Raises:
            CheckFailedError: A vector holds NaN or infinity.
        """
        template = self.templates.of(side)
        sequences = template.token_ids(self.tokenizer, texts)
        out = np.empty((len(texts), self.width), dtype=np.float32)
        for batch in self.batches(sequences):
            out[batch] = self.embed([sequences[i] for i in batch], template).cpu().numpy()
            if advance is not None:
                advance(len(batch))
        bad = np.flatnonzero(~np.isfinite(out).all(axis=1))
        if len(bad):
            raise CheckFailedError(
                f"{len(bad)} of {len(texts)} embeddings hold NaN or infinity, the first for "
                f"{texts[bad[0]][:60]!r}; try --dtype float32"
            )
        return out

    @torch.inference_mode()
    def embed(self, sequences: Sequence[Sequence[int]], template: Template, *, left: bool = False) -> Tensor:
        """Encode one batch of token sequences: :func:`embed`, without a graph."""
        self.work.tokens += sum(map(len, sequences))
        self.work.padded += len(sequences) * max(map(len, sequences))
        return embed(self.model, sequences, template, causal=self.causal, left=left)

    def batches(self, sequences: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Yield row numbers, longest sequences first, at most ``batch_tokens`` padded tokens at a time."""
        order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i]), i))
        start = 0
        while start < len(order):
            rows = max(1, self.batch_tokens // len(sequences[order[start]]))
            yield order[start : start + rows]
            start += rows


def embed(
    model: Any,
    sequences: Sequence[Sequence[int]],
    template: Template,
    *,
    causal: bool,
    left: bool = False,
) -> Tensor:
    """Return the embeddings of one batch of token sequences; training and encoding both call this.

    Args:
        model: A transformers base model.
        sequences: B lists of ids.
        template: Says which positions are pooled.
        causal: Whether a position sees only what is before it: padding on the right needs no mask then.
        left: Pad on the left instead of on the right; the vectors must not change.

    Returns:
        (B, D) float32.
    """
    lengths = [len(sequence) for sequence in sequences]
    longest = max(lengths)
    ids = torch.zeros((len(sequences), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    pooled = torch.zeros(ids.shape, dtype=torch.float32)
    for row, sequence in enumerate(sequences):
        begin = longest - len(sequence) if left else 0
        ids[row, begin : begin + len(sequence)] = torch.tensor(sequence)
        mask[row, begin : begin + len(sequence)] = 1
        start, end = template.pooled_span(len(sequence))
        pooled[row, begin + start : begin + end] = 1.0 / (end - start)
    device = next(model.parameters()).device
    inputs: dict[str, Any] = {"input_ids": ids.to(device)}
    if min(lengths) < longest and (left or not causal):
        inputs["attention_mask"] = mask.to(device)
    if left:
        inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0).to(device)
    if causal:
        inputs["use_cache"] = False
    weights = pooled.to(device)
    hidden = model(**inputs).last_hidden_state.float()  # (B, L, D)
    hidden = torch.where(weights[:, :, None] > 0, hidden, 0.0)
    with torch.autocast(device.type, enabled=False):  # training in bfloat16 pools in float32
        embedding = torch.einsum("bl,bld->bd", weights, hidden)
    return torch.nn.functional.normalize(embedding, dim=-1) if template.normalize else embedding


def check(encoder: Encoder, texts: Sequence[str]) -> dict[str, float]:
    """Check on a few real texts that an encoder does what its templates say, before a corpus is encoded.

    Args:
        encoder: The encoder.
        texts: A few real texts, of different lengths.

    Returns:
        The smallest cosine of each comparison, for the record.

    Raises:
        CheckFailedError: The suffix does not survive truncation, a slot is not a token of its own, a
            batch of one differs from a batch of many, padding on the left differs from padding on the
            right, or both sides give the same sequences although their templates differ.
    """
    floor = 0.9999 if encoder.model.dtype == torch.float32 else 0.995
    worst = {"batch of one": 1.0, "left padding": 1.0}
    sequences: dict[Side, list[list[int]]] = {}
    sides: tuple[Side, Side] = ("query", "document")
    for side in sides:
        template = encoder.templates.of(side)
        sequences[side] = template.token_ids(encoder.tokenizer, texts)
        _check_suffix(encoder, template, texts)
        _check_slots(encoder, template)
        many = encoder.embed(sequences[side], template)
        if not bool(torch.isfinite(many).all()):
            raise CheckFailedError(f"{side} embeddings hold NaN or infinity; try --dtype float32")
        others = {
            "batch of one": torch.cat([encoder.embed([row], template) for row in sequences[side]]),
            "left padding": encoder.embed(sequences[side], template, left=True),
        }
        for name, other in others.items():
            cosine = float(torch.nn.functional.cosine_similarity(many, other).min())
            worst[name] = min(worst[name], cosine)
            if not cosine >= floor:
                raise CheckFailedError(
                    f"{side}: {name} gives other vectors than a padded batch (cosine {cosine:.5f}, "
                    f"needed {floor}); this model cannot be evaluated reliably"
                )
    query, document = encoder.templates.query, encoder.templates.document
    if (query.prefix, query.prompt, query.suffix) != (
        document.prefix,
        document.prompt,
        document.suffix,
    ) and sequences["query"] == sequences["document"]:
        raise CheckFailedError(
            "query and document templates differ but give the same token ids: the tokenizer drops what "
            "sets them apart"
        )
    encoder.work = Work()
    return worst


def _check_suffix(encoder: Encoder, template: Template, texts: Sequence[str]) -> None:
    """Raise if truncating a long text loses or changes the tokens after it."""
    suffix = template.token_ids(encoder.tokenizer, ["a"])[0]
    long_text = " ".join(texts) * (1 + template.max_length // max(1, sum(map(len, texts)) // 8))
    full = template.token_ids(encoder.tokenizer, [long_text])[0]
    kept = len(template.suffix_ids(encoder.tokenizer))
    if len(full) > template.max_length or (kept and full[-kept:] != suffix[-kept:]):
        raise CheckFailedError("the template's suffix does not survive truncation")


def _check_slots(encoder: Encoder, template: Template) -> None:
    """Raise if several pooled positions are not tokens that were made to be slots."""
    if template.pooling != "last" or template.slots == 1:
        return
    pooled = template.suffix_ids(encoder.tokenizer)[-template.slots :]
    added = set(encoder.tokenizer.get_added_vocab().values())
    tokens = encoder.tokenizer.convert_ids_to_tokens(pooled)
    ordinary = [token for token, number in zip(tokens, pooled, strict=True) if number not in added]
    if ordinary or len(pooled) < template.slots:
        raise CheckFailedError(
            f"the last {template.slots} tokens of the suffix {''.join(template.suffix)!r} are pooled, but "
            f"the tokenizer makes {' '.join(tokens) or 'none'} of its end, not {template.slots} added "
            "tokens: is this the tokenizer the model was adapted with?"
        )


@torch.inference_mode()
def _is_causal(model: Any) -> bool:
    """Whether a position sees only what is before it, found by trying: names and flags may lie."""
    vocabulary = int(model.config.vocab_size)
    short = torch.tensor([[token % vocabulary for token in (11, 7, 5, 3)]], device=model.device)
    longer = torch.cat([short, short.flip(1)], dim=1)
    one = model(input_ids=short).last_hidden_state.float()
    two = model(input_ids=longer).last_hidden_state.float()[:, : short.shape[1]]
    return bool((one - two).norm() <= _CAUSAL_TOLERANCE.get(model.dtype, 0.03) * one.norm())
