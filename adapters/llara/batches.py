"""Adaptation rows as joint sequences: tokenised, cut to their room, and grouped into micro-batches."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from adapters.llara.config import USUAL_LENGTH, Adaptation
from adapters.llara.joint import Frame, JointBatch, lay_out
from adapters.llara.losses import NO_TOKEN
from adapters.llara.stop_words import without_stop_words
from llara_eval.core.errors import UsageError
from llara_eval.training.batching import split_to, token_batches
from llara_eval.training.distributed import largest


class Sums(NamedTuple):
    """Three numbers of a batch: of the language-model term, of EBAE and of EBAR."""

    language_model: Any
    ebae: Any
    ebar: Any


class Batch(NamedTuple):
    """A micro-batch: joint sequences and what their embeddings shall predict.

    Attributes:
        joint: The sequences.
        self_targets: (B, T) token ids of the texts themselves, padded with ``NO_TOKEN``.
        next_targets: (B, T) token ids of the texts that follow.
    """

    joint: JointBatch
    self_targets: Tensor
    next_targets: Tensor

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        return Batch(self.joint.to(device), self.self_targets.to(device), self.next_targets.to(device))

    @property
    def counts(self) -> Sums:
        """How many tokens, EBAE targets and EBAR targets the terms are means over."""
        present = (
            (targets != NO_TOKEN).any(dim=1).sum() for targets in (self.self_targets, self.next_targets)
        )
        return Sums(len(self.joint.labels), *map(int, present))


class Read(NamedTuple):
    """Rows as token ids: the texts, cut to their room, and the targets of EBAE and of EBAR."""

    texts: list[list[int]]
    same: list[list[int]]
    following: list[list[int]]


class Reader:
    """Turns rows of text into token ids.

    Args:
        tokenizer: A fast tokenizer.
        frame: What stands around a text.
        config: Says how long a text may be and what its targets are.

    Attributes:
        max_length: Most tokens of a joint sequence.
        room: Most tokens of a text in it.
        around: Tokens of a joint sequence that are not of the text.

    Raises:
        UsageError: The tokenizer cannot say where a token ends in the text.
    """

    def __init__(self, tokenizer: Any, frame: Frame, config: Adaptation) -> None:
        if not tokenizer.is_fast:
            raise UsageError("adaptation needs a fast tokenizer (tokenizer.json)")
        self.tokenizer = tokenizer
        self.frame = frame
        self.config = config
        added = tokenizer.added_tokens_decoder.items()  # all_special_ids lacks what no attribute names
        self._special = {*tokenizer.all_special_ids, *(number for number, token in added if token.special)}
        self.max_length = config.max_length or USUAL_LENGTH
        self.room = frame.room(self.max_length)
        self.around = self.max_length - self.room

    def texts(self, rows: Sequence[Mapping[str, Any]]) -> tuple[list[list[int]], list[str]]:
        """Return the token ids of the inputs, cut to their room, and the texts as far as they were read."""
        inputs = [row["input"] for row in rows]
        read = self.tokenizer(
            inputs,
            add_special_tokens=False,
            truncation=True,
            max_length=self.room,
            return_offsets_mapping=True,
            return_attention_mask=False,
        )
        ends = [offsets[-1][1] if offsets else 0 for offsets in read["offset_mapping"]]
        return read["input_ids"], [text[:end] for text, end in zip(inputs, ends, strict=True)]

    def targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the target token ids of texts, without special tokens."""
        if self.config.remove_stop_words:
            texts = [without_stop_words(text) for text in texts]
        ids = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            truncation=True,
            max_length=self.max_length,
            return_attention_mask=False,
        )["input_ids"]
        return [[token for token in row if token not in self._special] for row in ids]

    def read(self, rows: Sequence[Mapping[str, Any]]) -> Read:
        """Tokenise rows."""
        texts, read = self.texts(rows)
        same = [
            row["output_summarize"]
            if self.config.whole_targets or row["output_summarize"] != row["input"]
            else text
            for row, text in zip(rows, read, strict=True)
        ]
        return Read(texts, self.targets(same), self.targets([row["output_predict"] for row in rows]))

    def batches(self, read: Read, budget: int) -> list[Batch]:
        """Return batches of joint sequences, each within a budget of tokens (padding included)."""
        groups = token_batches([len(text) + self.around for text in read.texts], budget)
        return [
            Batch(
                lay_out([read.texts[row] for row in group], self.frame),
                _padded([read.same[row] for row in group]),
                _padded([read.following[row] for row in group]),
            )
            for group in split_to(groups, largest(len(groups)))
        ]


def _padded(targets: Sequence[Sequence[int]]) -> Tensor:
    """Return (B, T) token ids, padded with ``NO_TOKEN``."""
    rows = [torch.tensor(row, dtype=torch.long) for row in targets]
    return pad_sequence(rows, batch_first=True, padding_value=NO_TOKEN)
