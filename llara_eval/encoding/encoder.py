"""Language model + templates → unit vectors.

Sequences are sorted by their exact length and batched by a token budget; an engine computes their embeddings.
A language-model head is never run.

Shapes: B sequences, L tokens, D width.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llara_eval.core.errors import CheckFailedError, DataError
from llara_eval.core.protocols import Advance
from llara_eval.encoding.model_facts import ModelFacts, bare_facts
from llara_eval.encoding.padded import PaddedModel, Tokens
from llara_eval.encoding.templates import Side, Template, Templates

logger = logging.getLogger(__name__)

BATCH_TOKENS = {"cpu": 2_048, "cuda": 65_536}
"""Tokens of one batch, padding included, by device type; measured to be past the knee on each.

On a CPU without AMX 1,024 to 4,096 differ by no more than runs do; with it SmolLM2-135M read 3,400 tokens a
second in batches of 2,048 and 2,500 in those of 4,096 in one run, and no size won in another.
"""


class Started(NamedTuple):
    """Texts that are being encoded.

    Attributes:
        vectors: Waits for the vectors, (n, D) float32, from any thread, and returns them; raises what
            :meth:`Encoder.encode` does.
        tokens: Real tokens of the texts.
        padded: Tokens computed, padding included.
    """

    vectors: Callable[[], NDArray[np.float32]]
    tokens: int
    padded: int


class Engine(Protocol):
    """Computes the embeddings of token sequences.

    Attributes:
        name: The name under which its vectors are recorded.
        pads: Whether it computes as many tokens for each sequence of a batch as the longest has.
        width: Width D of the vectors.
        device: Where it computes.
    """

    name: str
    pads: bool
    width: int
    device: torch.device

    def embeddings(
        self, sequences: Sequence[Tokens], template: Template, sizes: Sequence[int]
    ) -> Iterator[Tensor]:
        """Yield the embeddings, (B, D) float32, of one batch after the other.

        Args:
            sequences: n sequences of token ids.
            template: Says which positions are pooled.
            sizes: How many sequences each batch has.
        """
        ...


class Encoder:
    """Encodes texts with one model and two templates.

    Args:
        model: A transformers base model (it returns ``last_hidden_state``), in eval mode on its device.
        tokenizer: Its tokenizer.
        templates: How queries and documents become token sequences.
        batch_tokens: Tokens of one batch, padding included; None takes what suits the device.
        source: Where the templates are known from, for the record.
        facts: What the model can do; None: as much of it as one forward pass shows.
        engine: Computes the embeddings; None: the model, given padded batches.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        templates: Templates,
        *,
        batch_tokens: int | None = None,
        source: str = "given",
        facts: ModelFacts | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.source = source
        self.model = model
        self.tokenizer = tokenizer
        self.templates = templates
        self.facts = facts or bare_facts(model)
        self.engine = engine or PaddedModel(model, self.facts)
        self.device = self.engine.device
        self.batch_tokens = batch_tokens or BATCH_TOKENS.get(self.device.type, 2_048)
        self._fitting = self.batch_tokens  # as many as memory turned out to hold

    @property
    def width(self) -> int:
        """Width D of the vectors."""
        return self.engine.width

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
        """Encode texts that a template has turned into token ids; see :meth:`encode`."""
        return self.start(sequences, side, advance).vectors()

    def start(self, sequences: Sequence[Tokens], side: Side, advance: Advance | None = None) -> Started:
        """Give a GPU what :meth:`encode_tokens` takes; a CPU has done the work on return.

        A GPU that lacks the memory for a batch is given smaller ones from then on.
        """
        while True:
            try:
                return self._start(sequences, self.templates.of(side), advance)
            except torch.OutOfMemoryError:
                if self._fitting <= max(map(len, sequences)):
                    raise
                self._fitting //= 2
                logger.warning("out of memory: batches of %d tokens from here on", self._fitting)

    def _start(self, sequences: Sequence[Tokens], template: Template, advance: Advance | None) -> Started:
        batches = list(self.batches(sequences))
        order = [row for batch in batches for row in batch]
        parts: list[Tensor] = []
        try:
            for part in self.engine.embeddings(
                [sequences[row] for row in order], template, [*map(len, batches)]
            ):
                parts.append(part)
                if advance is not None:
                    advance(len(part))
        except torch.OutOfMemoryError:
            if advance is not None:
                advance(-sum(map(len, parts)))  # all will be computed again
            raise
        except IndexError as error:
            rows = self.model.get_input_embeddings().num_embeddings
            odd = next((sequence for sequence in sequences if max(sequence) >= rows), None)
            if odd is None:
                raise
            raise DataError(
                f"the tokenizer has ids that the model has no row for, {max(odd)} of {rows}, the first in "
                f"{self.tokenizer.decode(odd)[:60]!r}: it is another model's, or has grown without it"
            ) from error
        wait = _fetch(torch.cat(parts))

        def vectors() -> NDArray[np.float32]:
            out = np.empty((len(sequences), self.width), dtype=np.float32)
            out[order] = wait()
            bad = np.flatnonzero(~np.isfinite(out).all(axis=1))
            if len(bad):
                text = self.tokenizer.decode(sequences[bad[0]], skip_special_tokens=True)
                raise CheckFailedError(
                    f"{len(bad)} of {len(out)} embeddings hold NaN or infinity, the first for "
                    f"{text[:60]!r}; try --dtype float32"
                )
            return out

        tokens = sum(map(len, sequences))
        padded = sum(len(batch) * len(sequences[batch[0]]) for batch in batches)  # the first is the longest
        return Started(vectors, tokens, padded if self.engine.pads else tokens)

    def embed(self, sequences: Sequence[Tokens], template: Template) -> Tensor:
        """Return the embeddings, (B, D) float32, of one batch of token sequences."""
        (embeddings,) = self.engine.embeddings(sequences, template, [len(sequences)])
        return embeddings

    def batches(self, sequences: Sequence[Tokens]) -> Iterator[list[int]]:
        """Yield row numbers, longest sequences first, at most so many padded tokens as fit at a time."""
        order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i]), i))
        start = 0
        while start < len(order):
            rows = max(1, self._fitting // len(sequences[order[start]]))
            yield order[start : start + rows]
            start += rows


def _fetch(embeddings: Tensor) -> Callable[[], NDArray[np.float32]]:
    """Send embeddings, (n, D) float32, to memory; what is returned waits for them and returns them."""
    if not embeddings.is_cuda:
        return embeddings.cpu().numpy
    pinned = torch.empty(embeddings.shape, pin_memory=True)
    pinned.copy_(embeddings, non_blocking=True)
    arrived = torch.cuda.current_stream(embeddings.device).record_event()

    def wait() -> NDArray[np.float32]:
        arrived.synchronize()
        return pinned.numpy()

    return wait
