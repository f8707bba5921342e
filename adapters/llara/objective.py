"""The adaptation objective: EBAE, EBAR and the language-model term over joint sequences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from adapters.llara.joint import Frame, JointBatch, hidden_states, lay_out, slot_states
from adapters.llara.losses import (
    NO_TOKEN,
    Head,
    bag_of_words_loss,
    bag_recall,
    bag_weights,
    language_model_loss,
)
from adapters.llara.stop_words import without_stop_words
from adapters.llara.templates import RELEASED, Prompts
from llara_eval.core.errors import UsageError
from llara_eval.encoding.templates import Templates
from llara_eval.training.batching import split_to, token_batches
from llara_eval.training.distributed import largest, synchronise, total, world
from llara_eval.training.objective import Numbered, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """What a model is adapted to; the values here are those of the released code.

    Attributes:
        prompts: The words around a text.
        ebae: Whether the SELF embedding learns to predict the text's own tokens.
        ebar: Whether the NEXT embedding learns to predict the next text's.
        language_model: Whether the text's tokens are predicted one by one beside it (released code;
            the paper has no such term).
        distinct: Whether a token of a target counts once (released code) or as often as it occurs (paper).
        scale: Factor of both bag-of-words terms: a tenth in the released code, 1 in the paper.
        averaged: Whether the two terms are averaged (released code) or added (paper).
        remove_stop_words: Whether targets lose punctuation and English stop words (released recipe).
        whole_targets: Ask also for words the model never read because the text was cut (released code);
            otherwise the target is cut with the text.
        max_length: Most tokens of a joint sequence.
    """

    prompts: Prompts = RELEASED
    ebae: bool = True
    ebar: bool = True
    language_model: bool = True
    distinct: bool = True
    scale: float = 0.1
    averaged: bool = True
    remove_stop_words: bool = True
    whole_targets: bool = False
    max_length: int = 1024

    def __post_init__(self) -> None:
        """Refuse an adaptation to nothing.

        Raises:
            UsageError: Neither EBAE nor EBAR is wanted, or the scale is not a number above 0.
        """
        if not (self.ebae or self.ebar):
            raise UsageError("adaptation needs EBAE or EBAR or both")
        if not (self.scale > 0 and isfinite(self.scale)):
            raise UsageError(f"scale must be a number above 0, found {self.scale}")


class Sums(NamedTuple):
    """Three numbers of a batch: of the language-model term, of EBAE and of EBAR."""

    language_model: Any
    ebae: Any
    ebar: Any


class Batch(NamedTuple):
    """Joint sequences and what their embeddings shall predict.

    Attributes:
        joint: The sequences.
        self_targets: (B, T) token ids of the texts themselves, filled up with ``NO_TOKEN``.
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
        filled = (
            (targets != NO_TOKEN).any(dim=1).sum() for targets in (self.self_targets, self.next_targets)
        )
        return Sums(len(self.joint.labels), *map(int, filled))


class AdaptationModel(nn.Module):
    """A causal language model whose forward pass is the sums of the three terms.

    The head is used inside the forward pass, so that a sharded model has it gathered there. Called
    with keyword arguments it is its own decoder, so that it can be encoded with while it is trained.

    Args:
        model: A transformers causal language model.
        task: What it is adapted to.

    Raises:
        UsageError: The head is one we cannot reproduce.
    """

    def __init__(self, model: Any, task: Adaptation) -> None:
        super().__init__()
        Head.of(model)
        self.model = model
        self.task = task
        self.config = model.config

    def forward(self, batch: Batch | None = None, *, recall: bool = False, **inputs: Any) -> Any:
        """Return the sums of the losses, or of the recalls, over a batch.

        Args:
            batch: On the model's device.
            recall: Instead of the losses, the shares of target tokens among as many top logits.
            inputs: Without a batch: what the decoder is called with.
        """
        if batch is None:
            return self.model.base_model(**inputs)
        hidden = hidden_states(self.model.base_model, batch.joint)
        head = Head.of(self.model)
        bags = []
        for wanted, slots, targets in (
            (self.task.ebae, batch.joint.self_slots, batch.self_targets),
            (self.task.ebar, batch.joint.next_slots, batch.next_targets),
        ):
            weights = bag_weights(targets, len(head.weight), distinct=self.task.distinct)
            measure = bag_recall if recall else bag_of_words_loss
            states = slot_states(hidden, slots)
            bags.append(measure(states, weights, head) if wanted else hidden.new_zeros(()))
        words = hidden.new_zeros(())
        if self.task.language_model and not recall:
            words = language_model_loss(
                hidden.flatten(0, 1)[batch.joint.predictors], batch.joint.labels, head
            )
        return Sums(words, *bags)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the parameters."""
        return next(self.parameters()).dtype


def combine(sums: Sums, counts: Sums, config: Adaptation) -> Sums:
    """Return the three terms as they enter the loss, which is their sum.

    Released code: L = L_LM + (L_EBAE + L_EBAR) / 2, each bag-of-words term divided by 10, a mean over
    the texts with a target; where only one of the two is there, it counts whole. Paper (arXiv
    2312.15503): L = L_EBAE + L_EBAR.

    Args:
        sums: Sums over a part of the batch.
        counts: What the whole batch's terms are means over.
        config: Which variant.
    """
    active = sum(
        wanted and count > 0 for wanted, count in ((config.ebae, counts.ebae), (config.ebar, counts.ebar))
    )
    share = config.scale / (active if config.averaged and active else 1)
    return Sums(
        sums.language_model / max(counts.language_model, 1),
        sums.ebae * share / max(counts.ebae, 1),
        sums.ebar * share / max(counts.ebar, 1),
    )


class Read(NamedTuple):
    """Rows as token ids: the texts, cut to the room there is, and the targets of EBAE and of EBAR."""

    texts: list[list[int]]
    own: list[list[int]]
    following: list[list[int]]


class Reader:
    """Turns rows of text into token ids.

    Args:
        tokenizer: A fast tokenizer.
        frame: What stands around a text.
        config: Says how long a text may be and what its targets are.

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
        self.room = frame.room(config.max_length)

    def texts(self, rows: Sequence[Mapping[str, Any]]) -> tuple[list[list[int]], list[str]]:
        """Return the token ids of the inputs, cut to the room there is, and the texts as read."""
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
            max_length=self.config.max_length,
            return_attention_mask=False,
        )["input_ids"]
        return [[token for token in row if token not in self._special] for row in ids]

    def read(self, rows: Sequence[Mapping[str, Any]]) -> Read:
        """Tokenise rows."""
        texts, read = self.texts(rows)
        own = [
            row["output_summarize"]
            if self.config.whole_targets or row["output_summarize"] != row["input"]
            else text
            for row, text in zip(rows, read, strict=True)
        ]
        return Read(texts, self.targets(own), self.targets([row["output_predict"] for row in rows]))

    def batches(self, read: Read, budget: int) -> list[Batch]:
        """Return batches of joint sequences, each within a budget of tokens (padding included)."""
        around = self.config.max_length - self.room
        groups = token_batches([len(text) + around for text in read.texts], budget)
        return [
            Batch(
                lay_out([read.texts[row] for row in group], self.frame),
                _filled([read.own[row] for row in group]),
                _filled([read.following[row] for row in group]),
            )
            for group in split_to(groups, largest(len(groups)))
        ]


class Adapt:
    """The adaptation objective; see :class:`llara_eval.training.objective.Objective`.

    Args:
        model: The model, on its device.
        tokenizer: Its tokenizer.
        templates: Its templates.
        micro_tokens: Tokens computed at a time, padding included.
        precision: bfloat16 computes products in it; weights stay float32.
    """

    def __init__(
        self,
        model: AdaptationModel,
        tokenizer: Any,
        templates: Templates,
        *,
        micro_tokens: int,
        precision: torch.dtype,
    ) -> None:
        self.model = model
        self.reader = Reader(tokenizer, Frame.of(templates, tokenizer), model.task)
        self.micro_tokens = micro_tokens
        self.precision = precision

    def read(self, rows: Numbered, epoch: int) -> Read:
        """Tokenise; every epoch sees the same texts."""
        return self.reader.read([row for _, row in rows])

    def step(self, made: Read) -> Step:
        """Compute the loss of one update and leave its gradients in the parameters."""
        batches = self.reader.batches(made, self.micro_tokens)
        counts = Sums(
            *(int(total(sum(column))) for column in zip(*(batch.counts for batch in batches), strict=True))
        )
        logged = torch.zeros(3, device=self.model.device)
        for number, batch in enumerate(batches, 1):
            synchronise(self.model, number == len(batches))
            with self._autocast():
                terms = combine(self.model(batch.to(self.model.device)), counts, self.model.task)
            # Sharding averages gradients over processes; the counts are already those of all of them.
            (sum(terms) * world()).backward()
            logged += torch.stack([term.detach() for term in terms])
        language_model, ebae, ebar = (total(value) for value in logged.tolist())
        return Step(
            terms={
                "loss": language_model + ebae + ebar,
                "language_model": language_model,
                "ebae": ebae,
                "ebar": ebar,
            },
            tokens=sum(int((batch.joint.segments > 0).sum()) for batch in batches),
            padded=sum(batch.joint.ids.numel() for batch in batches),
        )

    @torch.no_grad()
    def recall(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Return the recall of each embedding, a mean over rows with a target; see :func:`bag_recall`."""
        batches = self.reader.batches(self.reader.read(rows), self.micro_tokens)
        counts = [sum(column) for column in zip(*(batch.counts for batch in batches), strict=True)]
        found = torch.zeros(3, device=self.model.device)
        training = self.model.training
        self.model.eval()  # without dropout
        for batch in batches:
            with self._autocast():
                found += torch.stack(list(self.model(batch.to(self.model.device), recall=True)))
        self.model.train(training)
        _, ebae, ebar = (value / max(count, 1) for value, count in zip(found.tolist(), counts, strict=True))
        return {"ebae_recall": ebae, "ebar_recall": ebar}

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.model.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16
        )


def _filled(targets: Sequence[Sequence[int]]) -> Tensor:
    """Return (B, T) token ids, filled up with ``NO_TOKEN``."""
    rows = [torch.tensor(row, dtype=torch.long) for row in targets]
    return pad_sequence(rows, batch_first=True, padding_value=NO_TOKEN)
