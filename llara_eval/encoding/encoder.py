"""Texts → vectors, by a language model and its templates.

Sequences are sorted by length and cut into batches of a limited number of tokens; an engine computes their
embeddings. The language-model head is never run.

Shapes: n texts, B sequences of a batch, D width of the vectors.
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
from llara_eval.encoding.model_facts import ModelFacts, advice_on_nan, bare_facts
from llara_eval.encoding.packed import PackedModel
from llara_eval.encoding.padded import PaddedModel, Tokens
from llara_eval.encoding.prompts import GIVEN, Origin
from llara_eval.encoding.templates import Side, Template, Templates

logger = logging.getLogger(__name__)

BATCH_TOKENS = {"cpu": 2_048, "cuda": 65_536}
"""Tokens of a batch, padding included, by device type; larger batches were not faster in measurements.

On a CPU without AMX the sizes from 1,024 to 4,096 are equally fast. With AMX, SmolLM2-135M read 3,400 tokens
a second in batches of 2,048 and 2,500 in batches of 4,096 in one measurement; in another no size was faster.
"""


class Started(NamedTuple):
    """Texts whose encoding has started.

    Attributes:
        vectors: A function for any thread that waits for the vectors, (n, D) float32, and returns them; it
            raises the errors of :meth:`Encoder.encode`.
        tokens: The number of tokens of the texts.
        padded: The number of tokens computed, padding included.
    """

    vectors: Callable[[], NDArray[np.float32]]
    tokens: int
    padded: int


class Engine(Protocol):
    """Computes the embeddings of token sequences.

    Attributes:
        name: The name that is recorded with its vectors.
        pads: Whether all sequences of a batch are padded to the longest.
        width: Width D of the vectors.
        device: The device on which it computes.
        dtype: The dtype of its products.
    """

    name: str
    pads: bool
    width: int
    device: torch.device
    dtype: torch.dtype

    def embeddings(
        self, sequences: Sequence[Tokens], template: Template, sizes: Sequence[int], side: Side
    ) -> Iterator[Tensor]:
        """Yield the embeddings, (B, D) float32, of one batch after the other.

        Args:
            sequences: n sequences of token ids.
            template: The template, which sets the pooled positions and the normalisation.
            sizes: The number of sequences of each batch.
            side: The side of the sequences; some engines have other modules for it.
        """
        ...


class Encoder:
    """Encodes texts with one model and two templates.

    Args:
        model: A transformers base model (it returns ``last_hidden_state``), in evaluation mode on its device.
        tokenizer: Its tokenizer.
        templates: The templates of queries and documents.
        batch_tokens: Tokens of a batch, padding included; None takes :data:`BATCH_TOKENS`.
        origin: The sources of the templates, for the record.
        facts: The facts about the model; None takes those that one forward pass shows.
        engine: Computes the embeddings; None passes packed batches to the model if it can read them, else
            padded ones.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        templates: Templates,
        *,
        batch_tokens: int | None = None,
        origin: Origin = GIVEN,
        facts: ModelFacts | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.origin = origin
        self.model = model
        self.tokenizer = tokenizer
        self.templates = templates
        self.facts = facts or bare_facts(model)
        self.engine = engine or (PackedModel if self.facts.packs else PaddedModel)(model, self.facts)
        self.device = self.engine.device
        self.batch_tokens = batch_tokens or BATCH_TOKENS.get(self.device.type, 2_048)
        self._fitting_tokens = self.batch_tokens  # less after a batch did not fit into memory

    @property
    def width(self) -> int:
        """Width D of the vectors."""
        return self.engine.width

    def encode(self, texts: Sequence[str], side: Side, advance: Advance | None = None) -> NDArray[np.float32]:
        """Encode texts.

        Args:
            texts: n texts, in any order of length.
            side: The side of the texts, which chooses the template.
            advance: Called with the number of texts after each batch.

        Returns:
            The vectors, (n, D) float32.

        Raises:
            CheckFailedError: A vector holds NaN or infinity.
            DataError: A token id has no row in the model's embedding matrix.
        """
        sequences = self.templates.of(side).token_ids(self.tokenizer, texts)
        return self.start(sequences, side, advance).vectors()

    def start(self, sequences: Sequence[Tokens], side: Side, advance: Advance | None = None) -> Started:
        """Start to encode n texts, given their token ids by the template of their side; see :meth:`encode`.

        A GPU goes on computing after the return, a CPU has finished. If a batch does not fit into a GPU's
        memory, this and all later calls use smaller batches.
        """
        while True:
            try:
                return self._start(sequences, side, advance)
            except torch.OutOfMemoryError:
                if self._fitting_tokens <= max(map(len, sequences)):
                    raise
                self._fitting_tokens //= 2
                logger.warning("out of memory: batches now have %d tokens", self._fitting_tokens)

    def _start(self, sequences: Sequence[Tokens], side: Side, advance: Advance | None) -> Started:
        self._require_embeddings(sequences)
        batches = list(self.batches(sequences))
        order = [number for batch in batches for number in batch]
        lengths = [sum(len(sequences[number]) for number in batch) for batch in batches]
        embeddings: list[Tensor] = []
        try:
            for batch_embeddings in self.engine.embeddings(
                [sequences[number] for number in order], self.templates.of(side), [*map(len, batches)], side
            ):
                embeddings.append(batch_embeddings)
                if advance is not None:
                    advance(len(batch_embeddings), tokens=lengths[len(embeddings) - 1])
        except torch.OutOfMemoryError:
            if advance is not None:
                done = len(embeddings)  # all of them will be computed again
                advance(-sum(map(len, embeddings)), tokens=-sum(lengths[:done]))
            raise
        wait = _fetch(torch.cat(embeddings))

        def vectors() -> NDArray[np.float32]:
            ordered = np.empty((len(sequences), self.width), dtype=np.float32)
            ordered[order] = wait()
            bad = np.flatnonzero(~np.isfinite(ordered).all(axis=1))
            if len(bad):
                text = self.tokenizer.decode(sequences[bad[0]], skip_special_tokens=True)
                raise CheckFailedError(
                    f"{len(bad)} of {len(ordered)} embeddings hold NaN or infinity, the first for "
                    f"{text[:60]!r}; {advice_on_nan(self.model)}"
                )
            return ordered

        tokens = sum(lengths)
        padded = sum(len(batch) * len(sequences[batch[0]]) for batch in batches)  # the first is the longest
        return Started(vectors, tokens, padded if self.engine.pads else tokens)

    def _require_embeddings(self, sequences: Sequence[Tokens]) -> None:
        """Raise a DataError if a token id has no row in the embedding matrix; a GPU would only fail."""
        rows = self.facts.vocabulary
        for sequence in sequences:
            if np.max(sequence) >= rows:
                raise DataError(
                    f"the tokenizer gives the token id {np.max(sequence)} in "
                    f"{self.tokenizer.decode(sequence)[:60]!r}, but the model's embedding matrix has {rows} "
                    "rows: the tokenizer belongs to another model, or tokens were added to it"
                )

    def embed(self, sequences: Sequence[Tokens], side: Side) -> Tensor:
        """Return the embeddings, (B, D) float32, of one batch of token sequences of a side."""
        template = self.templates.of(side)
        (embeddings,) = self.engine.embeddings(sequences, template, [len(sequences)], side)
        return embeddings

    def with_templates(
        self, templates: Templates, origin: Origin, *, facts: ModelFacts | None = None
    ) -> "Encoder":
        """Return an encoder with the same weights and other templates.

        Args:
            templates: The templates.
            origin: Their sources.
            facts: The facts about the model, if they have to be found again because texts are longer; the
                engine of transformers is then chosen again.
        """
        return Encoder(
            self.model,
            self.tokenizer,
            templates,
            batch_tokens=self.batch_tokens,
            origin=origin,
            facts=facts or self.facts,
            engine=None if facts else self.engine,
        )

    def with_engine(self, engine: Engine) -> "Encoder":
        """Return an encoder with the same weights and templates, whose embeddings another engine computes."""
        return Encoder(
            self.model,
            self.tokenizer,
            self.templates,
            batch_tokens=self.batch_tokens,
            origin=self.origin,
            facts=self.facts,
            engine=engine,
        )

    def batches(self, sequences: Sequence[Tokens]) -> Iterator[list[int]]:
        """Yield the numbers of the sequences of each batch, longest sequences first.

        A batch has one sequence, or a limited number of tokens, padding included.
        """
        order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i]), i))
        start = 0
        while start < len(order):
            size = max(1, self._fitting_tokens // len(sequences[order[start]]))
            yield order[start : start + size]
            start += size


def _fetch(embeddings: Tensor) -> Callable[[], NDArray[np.float32]]:
    """Start to copy embeddings, (n, D) float32, to memory; return a function that waits for the copy."""
    if not embeddings.is_cuda:
        return embeddings.cpu().numpy
    pinned = torch.empty(embeddings.shape, pin_memory=True)
    pinned.copy_(embeddings, non_blocking=True)
    copied = torch.cuda.current_stream(embeddings.device).record_event()

    def wait() -> NDArray[np.float32]:
        copied.synchronize()
        return pinned.numpy()

    return wait
