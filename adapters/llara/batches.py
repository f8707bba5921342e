"""Adaptation rows as joint sequences: tokenised, cut to their room, and grouped into micro-batches."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from adapters.llara.config import USUAL_LENGTH, Adaptation
from adapters.llara.joint import Frame, JointBatch, lay_out
from adapters.llara.losses import NO_TOKEN
from adapters.llara.stop_words import without_stop_words, words_of
from llara_eval.core.errors import UsageError
from llara_eval.training.batching import split_to, token_batches
from llara_eval.training.distributed import largest


class Sums(NamedTuple):
    """A value for each term of the loss, such as its sum over a batch, or the weight of each row in it."""

    language_model: Any
    ebae: Any
    ebar: Any


class Batch(NamedTuple):
    """A micro-batch of B joint sequences, with the tokens that their embeddings shall predict.

    Attributes:
        joint: The joint sequences.
        self_targets: (B, T) token ids of the targets of EBAE, padded with ``NO_TOKEN``.
        next_targets: (B, T) token ids of the targets of EBAR, padded alike.
        weights: The weight (B,) of each row in each term; see :func:`adapters.llara.objective.row_weights`.
    """

    joint: JointBatch
    self_targets: Tensor
    next_targets: Tensor
    weights: Sums

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        weights = Sums(*(weight.to(device) for weight in self.weights))
        return Batch(
            self.joint.to(device), self.self_targets.to(device), self.next_targets.to(device), weights
        )


class TokenisedRows(NamedTuple):
    """Rows as token ids: the texts, cut to their room, and the targets of EBAE and of EBAR."""

    texts: list[list[int]]
    self_targets: list[list[int]]
    next_targets: list[list[int]]

    def counts(self, prefix: int) -> Tensor:
        """Return (n, 3) for each row: its predicted tokens, and whether EBAE and EBAR have a target.

        Args:
            prefix: Tokens before each text; without any, nothing predicts the first token.
        """
        rows = zip(*self, strict=True)
        counts = [(len(text) - (not prefix), bool(own), bool(following)) for text, own, following in rows]
        return torch.tensor(counts, dtype=torch.float32).view(-1, 3).clamp(min=0)


class Reader:
    """Turns rows of text into token ids.

    Args:
        tokenizer: A fast tokenizer.
        frame: The prompts around a text.
        task: The length of a joint sequence, and what its targets are.

    Attributes:
        max_length: Most tokens of a joint sequence.
        room: Most tokens of a text in it.
        around: Tokens of the prompts in it.

    Raises:
        UsageError: The tokenizer is not a fast one, which alone maps tokens to their place in the text.
        MissingPartError: The stop words are not installed.
    """

    def __init__(self, tokenizer: Any, frame: Frame, task: Adaptation) -> None:
        if not tokenizer.is_fast:
            raise UsageError("adaptation needs a fast tokenizer (tokenizer.json)")
        self.tokenizer = tokenizer
        self.frame = frame
        self.task = task
        self._stop_words = words_of(task.stop_words)
        added = tokenizer.added_tokens_decoder.items()  # all_special_ids lacks tokens that have no attribute
        self._special = {*tokenizer.all_special_ids, *(number for number, token in added if token.special)}
        self.max_length = task.max_length or USUAL_LENGTH
        self.room = frame.room(self.max_length)
        self.around = self.max_length - self.room

    def texts(self, rows: Sequence[Mapping[str, Any]]) -> tuple[list[list[int]], list[str]]:
        """Return the token ids of the inputs, cut to their room, and the inputs cut at the same place."""
        inputs = [row["input"] for row in rows]
        encoding = self.tokenizer(
            inputs,
            add_special_tokens=False,
            truncation=True,
            max_length=self.room,
            return_offsets_mapping=True,
            return_attention_mask=False,
        )
        ends = [offsets[-1][1] if offsets else 0 for offsets in encoding["offset_mapping"]]
        return encoding["input_ids"], [text[:end] for text, end in zip(inputs, ends, strict=True)]

    def targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the target token ids of texts, without special tokens."""
        if self.task.stop_words != "none":
            texts = [without_stop_words(text, self._stop_words) for text in texts]
        targets = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            truncation=True,
            max_length=self.max_length,
            return_attention_mask=False,
        )["input_ids"]
        return [[token for token in target if token not in self._special] for target in targets]

    def read(self, rows: Sequence[Mapping[str, Any]]) -> TokenisedRows:
        """Tokenise adaptation rows."""
        ids, texts = self.texts(rows)
        self_targets = [
            row["output_summarize"]
            if self.task.whole_targets or row["output_summarize"] != row["input"]
            else text
            for row, text in zip(rows, texts, strict=True)
        ]
        return TokenisedRows(
            ids, self.targets(self_targets), self.targets([row["output_predict"] for row in rows])
        )

    def batches(self, read: TokenisedRows, weights: Tensor, budget: int) -> list[Batch]:
        """Return micro-batches of joint sequences, each within a budget of tokens (padding included).

        Args:
            read: n rows.
            weights: (n, 3) the weight of each row in each term of the loss.
            budget: Most tokens of a micro-batch.
        """
        batches = token_batches([len(text) + self.around for text in read.texts], budget)
        return [
            Batch(
                lay_out([read.texts[row] for row in rows], self.frame),
                _padded([read.self_targets[row] for row in rows]),
                _padded([read.next_targets[row] for row in rows]),
                Sums(*weights[rows].unbind(dim=1)),
            )
            for rows in split_to(batches, largest(len(batches)))
        ]


def _padded(targets: Sequence[Sequence[int]]) -> Tensor:
    """Return (B, T) token ids, padded with ``NO_TOKEN``."""
    rows = [torch.tensor(row, dtype=torch.long) for row in targets]
    return pad_sequence(rows, batch_first=True, padding_value=NO_TOKEN)
