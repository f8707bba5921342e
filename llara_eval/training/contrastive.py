"""The contrastive objective: one model embeds queries and passages, and InfoNCE compares all of them."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass
from math import nan
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llara_eval.encoding.engines import can_pack
from llara_eval.encoding.packed import PackedSequences, embed_packed
from llara_eval.encoding.packed_attention import using_packed_attention
from llara_eval.encoding.padded import embed
from llara_eval.encoding.templates import Template, Templates
from llara_eval.training.batching import packed_batches, split_to, token_batches
from llara_eval.training.config import Contrast
from llara_eval.training.distributed import gather, largest, rank, synchronise, total, world
from llara_eval.training.gradient_cache import cached_backward
from llara_eval.training.groups import Group, draw, query_ids
from llara_eval.training.losses import NO_KEY, Labels, contrastive_loss, key_of
from llara_eval.training.objective import Numbered, Step


class Chunk(NamedTuple):
    """A micro-batch: sequences of one side that are embedded together.

    Attributes:
        rows: Numbers of the sequences among all sequences, queries first. There are none where other
            processes have more micro-batches; then any one sequence is embedded.
        sequences: Token ids of each sequence.
        template: The template of the side.
    """

    rows: list[int]
    sequences: list[list[int]]
    template: Template


class Drawn(NamedTuple):
    """The texts of an optimizer step.

    Attributes:
        groups: The group of each query.
        queries: Token ids of each query.
        passages: Token ids of each passage, group after group.
        known: Token ids of all positives of each group.
    """

    groups: list[Group]
    queries: list[list[int]]
    passages: list[list[int]]
    known: list[list[list[int]]]


@dataclass(eq=False)
class Finetune:
    """The contrastive objective; see :class:`llara_eval.training.objective.Objective`.

    Attributes:
        model: A transformers base model of a causal decoder, or peft's around one, on its device.
        tokenizer: Its tokenizer.
        templates: Its templates, with the lengths of training.
        contrast: The objective's settings.
        seed: Seed of the draw of passages.
        micro_tokens: Most tokens of a micro-batch, padding included. On a GPU, micro-batches in bfloat16 are
            packed without padding.
        precision: The dtype of matrix products, float32 or bfloat16; weights stay float32.
    """

    model: Any
    tokenizer: Any
    templates: Templates
    contrast: Contrast
    _: KW_ONLY
    seed: int
    micro_tokens: int
    precision: torch.dtype

    def __post_init__(self) -> None:
        """Find the device, and whether micro-batches can be packed."""
        self.device: torch.device = next(self.model.parameters()).device
        self._packed = (
            self.device.type == "cuda"  # the packed attention of a CPU has no gradients
            and not getattr(self.model.config, "attention_dropout", 0.0)
            and can_pack(self.model, self.templates, causal=True, precision=self.precision)
        )

    def read(self, rows: Numbered, epoch: int) -> Drawn:
        """Draw the passages of each row, and tokenise all texts."""
        size, distinct = self.contrast.group_size, self.contrast.mask_known
        groups = [
            draw(row, size, seed=self.seed, epoch=epoch, index=index, distinct=distinct)
            for index, row in rows
        ]
        queries = query_ids(groups, self.templates.query, self.tokenizer)
        texts = list(dict.fromkeys(text for group in groups for text in (*group.passages, *group.known)))
        ids = dict(zip(texts, self.templates.document.token_ids(self.tokenizer, texts), strict=True))
        return Drawn(
            groups,
            queries,
            passages=[ids[text] for group in groups for text in group.passages],
            known=[[ids[text] for text in group.known] for group in groups],
        )

    def step(self, drawn: Drawn) -> Step:
        """Compute the loss of an optimizer step and leave its gradients in the parameters."""
        groups = drawn.groups
        queries = self._chunks(drawn.queries, self.templates.query, 0)
        chunks = [*queries, *self._chunks(drawn.passages, self.templates.document, len(groups))]
        chunks.sort(key=_tokens)  # the last chunk, the largest one, is embedded only once
        restore = torch.tensor([row for chunk in chunks for row in chunk.rows]).argsort().to(self.device)
        labels = self._labels(drawn)
        count = int(total(len(groups)))
        # Sharding averages gradients over processes; the count is already that of all of them.
        scale = world() * self.contrast.gradient_share / count
        batch_size = largest(len(groups)) * world()
        terms = torch.zeros(2, device=self.device)

        def loss(embeddings: Tensor) -> Tensor:
            query_vectors, passage_vectors = embeddings[restore].tensor_split([len(groups)])
            losses = contrastive_loss(
                query_vectors, gather(passage_vectors), labels, self.contrast, batch_size=batch_size
            )
            terms.copy_(torch.stack(losses).detach() / count)
            return (losses.contrastive + self.contrast.distillation * losses.distillation) * scale

        with using_packed_attention(self.model) if self._packed else nullcontext():
            cached_backward(chunks, self._embed, loss, lambda last: synchronise(self.model, last))
        contrastive, distillation = (total(value) for value in terms.tolist())
        logged = {"loss": contrastive + self.contrast.distillation * distillation}
        if self.contrast.distillation:
            logged |= {"contrastive": contrastive, "distillation": distillation}
        return Step(
            terms=logged,
            tokens=sum(map(len, [*drawn.queries, *drawn.passages])),
            padded=sum(map(_tokens if self._packed else _padded, chunks)),
        )

    def _embed(self, chunk: Chunk) -> Tensor:
        """Return the embeddings (n, D) of the n rows of a chunk; n may be 0."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            if self._packed:
                sequences = PackedSequences(chunk.sequences, chunk.template, self.device)
                batch = sequences.batch(0, len(chunk.sequences))
                embeddings = embed_packed(self.model, batch, chunk.template, causal=True)
            else:
                embeddings = embed(self.model, chunk.sequences, chunk.template, causal=True)
        return embeddings[: len(chunk.rows)]

    def _chunks(self, sequences: list[list[int]], template: Template, first: int) -> list[Chunk]:
        """Group sequences of one side, numbered from ``first``, into equally many chunks in every process."""
        make_batches = packed_batches if self._packed else token_batches
        batches = make_batches([len(sequence) for sequence in sequences], self.micro_tokens)
        shortest = min(sequences, key=len)
        return [
            Chunk([first + row for row in rows], [sequences[row] for row in rows] or [shortest], template)
            for rows in split_to(batches, largest(len(batches)))
        ]

    def _labels(self, drawn: Drawn) -> Labels:
        """Return the labels of the batch, over all processes."""

        def tensor(values: Sequence[Any]) -> Tensor:
            return torch.tensor(values, device=self.device)

        groups = drawn.groups
        sizes = torch.tensor([len(group.passages) for group in groups])
        numbers = torch.arange(len(groups)) * world() + rank()
        teacher = [score for group in groups for score in group.teacher or [nan] * len(group.passages)]
        queries = tensor([*map(key_of, drawn.queries)])
        known = [[*map(key_of, texts)] for texts in drawn.known]
        width = largest(max(map(len, known)))
        return Labels(
            positives=(sizes.cumsum(0) - sizes).to(self.device) + self._rows_before(int(sizes.sum())),
            groups=numbers.to(self.device),
            queries=queries,
            all_queries=gather(queries),
            known=gather(tensor([keys + [NO_KEY] * (width - len(keys)) for keys in known])),
            passages=gather(tensor([*map(key_of, drawn.passages)])),
            passage_groups=gather(numbers.repeat_interleave(sizes).to(self.device)),
            teacher=gather(tensor(teacher)),
        )

    def _rows_before(self, rows: int) -> int:
        """Return how many passages of other processes come before those of this process."""
        counts = gather(torch.tensor([rows], device=self.device)).tolist()
        return int(sum(counts[: rank()]))


def _tokens(chunk: Chunk) -> int:
    return sum(map(len, chunk.sequences))


def _padded(chunk: Chunk) -> int:
    return len(chunk.sequences) * max(map(len, chunk.sequences))
