"""Language model + templates → unit vectors.

Stock transformers models, language-model head never run. Sequences are batched by a token budget
after sorting by exact length, side by side where the model can do that and padded on the right where
it cannot; the pooled positions come from the template, so a tokenizer's padding side plays no part.

Shapes: B sequences, L tokens, D width.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llara_eval.errors import CheckFailedError
from llara_eval.packing import PackedModel, Tokens
from llara_eval.protocols import Advance
from llara_eval.templates import Side, Template, Templates

logger = logging.getLogger(__name__)

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
        packed: Whether sequences are put side by side; :func:`llara_eval.packing.can_pack` knows.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        templates: Templates,
        *,
        batch_tokens: int | None = None,
        source: str = "given",
        packed: bool = False,
    ) -> None:
        self.source = source
        self.model = model
        self.tokenizer = tokenizer
        self.templates = templates
        self.device: torch.device = model.device
        self.batch_tokens = batch_tokens or BATCH_TOKENS.get(self.device.type, 4_096)
        self.work = Work()
        self.causal = is_causal(model)
        self._packed = PackedModel(model, causal=self.causal) if packed else None

    @property
    def width(self) -> int:
        """Width D of the vectors."""
        return int(self.model.config.hidden_size)

    @property
    def packed(self) -> bool:
        """Whether sequences are put side by side, without padding."""
        return self._packed is not None

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
        sequences = self.templates.of(side).token_ids(self.tokenizer, texts)
        return self.encode_tokens(sequences, side, advance)

    def encode_tokens(
        self, sequences: Sequence[Tokens], side: Side, advance: Advance | None = None
    ) -> NDArray[np.float32]:
        """Encode what the template made of texts; see :meth:`encode`.

        A GPU that lacks the memory for a batch is given smaller ones from then on.
        """
        while True:
            try:
                out = self._encode(sequences, self.templates.of(side), advance)
                break
            except torch.OutOfMemoryError:
                if self.batch_tokens <= max(map(len, sequences)):
                    raise
                self.batch_tokens //= 2
                logger.warning("out of memory: batches of %d tokens from here on", self.batch_tokens)
        bad = np.flatnonzero(~np.isfinite(out).all(axis=1))
        if len(bad):
            text = self.tokenizer.decode(sequences[bad[0]], skip_special_tokens=True)
            raise CheckFailedError(
                f"{len(bad)} of {len(out)} embeddings hold NaN or infinity, the first for "
                f"{text[:60]!r}; try --dtype float32"
            )
        return out

    def _encode(
        self, sequences: Sequence[Tokens], template: Template, advance: Advance | None
    ) -> NDArray[np.float32]:
        batches = list(self.batches(sequences))
        order = [row for batch in batches for row in batch]
        parts = []
        for part in self._embeddings([sequences[row] for row in order], template, list(map(len, batches))):
            parts.append(part)
            if advance is not None:
                advance(len(part))
        out = np.empty((len(sequences), self.width), dtype=np.float32)
        out[order] = torch.cat(parts).cpu().numpy()  # the one time that a GPU is waited for
        return out

    def embed(self, sequences: Sequence[Tokens], template: Template) -> Tensor:
        """Return the embeddings, (B, D) float32, of one batch of token sequences."""
        (embeddings,) = self._embeddings(sequences, template, [len(sequences)])
        return embeddings

    @torch.inference_mode()
    def _embeddings(
        self, sequences: Sequence[Tokens], template: Template, sizes: Sequence[int]
    ) -> Iterator[Tensor]:
        """Yield the embeddings of one batch after the other; ``sizes`` says how many sequences each has."""
        ends = np.cumsum(sizes).tolist()
        batches = [sequences[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
        self.work.tokens += sum(map(len, sequences))
        if self._packed is not None:
            self.work.padded += sum(map(len, sequences))
            yield from self._packed.embeddings(sequences, template, sizes)
        else:
            self.work.padded += sum(len(batch) * max(map(len, batch)) for batch in batches)
            for batch in batches:
                yield embed(self.model, batch, template, causal=self.causal)

    def batches(self, sequences: Sequence[Tokens]) -> Iterator[list[int]]:
        """Yield row numbers, longest sequences first, at most ``batch_tokens`` padded tokens at a time."""
        order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i]), i))
        start = 0
        while start < len(order):
            rows = max(1, self.batch_tokens // len(sequences[order[start]]))
            yield order[start : start + rows]
            start += rows


def embed(
    model: Any,
    sequences: Sequence[Tokens],
    template: Template,
    *,
    causal: bool,
    left: bool = False,
) -> Tensor:
    """Return the embeddings of one batch of token sequences, padded; training calls this too.

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
        ids[row, begin : begin + len(sequence)] = torch.tensor(np.asarray(sequence, dtype=np.int64))
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


@torch.inference_mode()
def is_causal(model: Any) -> bool:
    """Whether a position sees only what is before it, found by trying: names and flags may lie."""
    vocabulary = int(model.config.vocab_size)
    short = torch.tensor([[token % vocabulary for token in (11, 7, 5, 3)]], device=model.device)
    longer = torch.cat([short, short.flip(1)], dim=1)
    one = model(input_ids=short).last_hidden_state.float()
    two = model(input_ids=longer).last_hidden_state.float()[:, : short.shape[1]]
    return bool((one - two).norm() <= _CAUSAL_TOLERANCE.get(model.dtype, 0.03) * one.norm())


@torch.inference_mode()
def can_pack(model: Any, templates: Templates) -> bool:
    """Whether a model gives the same vectors in rows as alone, found by trying on random token ids.

    It does not where attention is not exchangeable or has a window, a cap or sinks of its own, where
    positions do not count from zero, and on a GPU in float32, for which there is no kernel.
    """
    config, device, causal = model.config, model.device, is_causal(model)
    longest = max(templates.query.max_length, templates.document.max_length)
    windows = [getattr(config, name, None) for name in ("sliding_window", "local_attention")]
    if any(window and window < longest for window in windows):
        return False
    if device.type == "cuda" and (
        model.dtype not in (torch.float16, torch.bfloat16)
        or torch.cuda.get_device_capability(device) < (8, 0)
    ):
        return False
    random, template = np.random.default_rng(0), Template(pooling="last")
    tried = [random.integers(config.vocab_size, size=length) for length in (9, 4, 4, 1)]
    packed = PackedModel(model, causal=causal)
    try:
        (together,) = packed.embeddings(tried, template, [len(tried)])
    except (TypeError, ValueError, AttributeError, NotImplementedError):
        return False
    alone = torch.cat([embed(model, [ids], template, causal=causal) for ids in tried])
    floor = 0.9999 if model.dtype == torch.float32 else 0.99
    return bool((torch.nn.functional.cosine_similarity(together, alone) >= floor).all())
