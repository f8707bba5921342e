"""The adaptation objective: EBAE, EBAR and the language-model term over joint sequences."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from adapters.llara.batches import Batch, Reader, Sums, TokenisedRows
from adapters.llara.config import Adaptation
from adapters.llara.joint import Frame, hidden_states, slot_states
from adapters.llara.losses import Head, bag_of_words_loss, bag_recall, bag_weights, language_model_loss
from llara_eval.encoding.model_facts import evaluating
from llara_eval.encoding.templates import Templates
from llara_eval.training.distributed import synchronise, total, world
from llara_eval.training.objective import Numbered, Step


class AdaptationModel(nn.Module):
    """A causal language model whose forward pass returns the sums of the three terms.

    The LM head is used inside the forward pass, because a sharded model gathers its weights there. Called
    with keyword arguments, the forward pass is that of the decoder, so that the model encodes texts too.

    Args:
        model: A transformers causal language model.
        task: The task that the model learns.

    Raises:
        UsageError: The LM head has a bias or a scale.
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
            batch: A micro-batch on the model's device.
            recall: Whether the sums are those of the recalls, see :func:`bag_recall`.
            inputs: The decoder's arguments, where there is no batch.
        """
        if batch is None:
            return self.model.base_model(**inputs)
        hidden = hidden_states(self.model.base_model, batch.joint)
        head = Head.of(self.model)
        measure = bag_recall if recall else bag_of_words_loss
        bags = []
        for enabled, slots, targets in (
            (self.task.ebae, batch.joint.self_slots, batch.self_targets),
            (self.task.ebar, batch.joint.next_slots, batch.next_targets),
        ):
            weights = bag_weights(targets, len(head.weight), distinct=self.task.distinct)
            states = slot_states(hidden, slots)
            bags.append(measure(states, weights, head) if enabled else hidden.new_zeros(()))
        language_model = hidden.new_zeros(())
        if self.task.language_model and not recall:
            predictors = hidden.flatten(0, 1)[batch.joint.predictors]
            language_model = language_model_loss(predictors, batch.joint.labels, head)
        return Sums(language_model, *bags)

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters."""
        return next(self.parameters()).dtype


def combine(sums: Sums, counts: Sums, task: Adaptation) -> Sums:
    """Return the three terms of the loss, which is their sum.

    Released code: L = L_LM + (L_EBAE + L_EBAR) / 2, where each bag-of-words term is divided by 10 and is a
    mean over the texts with a target. Where a batch has only one of the two terms, it is not halved. Paper
    (arXiv 2312.15503): L = L_EBAE + L_EBAR.

    Args:
        sums: Sums over a micro-batch.
        counts: Numbers of tokens or texts of the whole batch, which the sums are divided by.
        task: The variant of the loss.
    """
    active = sum((task.ebae and counts.ebae > 0, task.ebar and counts.ebar > 0))
    share = task.scale / (active if task.averaged and active else 1)
    return Sums(
        sums.language_model / max(counts.language_model, 1),
        sums.ebae * share / max(counts.ebae, 1),
        sums.ebar * share / max(counts.ebar, 1),
    )


class Adapt:
    """The adaptation objective; see :class:`llara_eval.training.objective.Objective`.

    Args:
        model: The model, on its device.
        tokenizer: Its tokenizer.
        templates: Its templates.
        micro_tokens: Most tokens of a micro-batch, padding included.
        precision: The dtype of matrix products, float32 or bfloat16; weights stay float32.
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

    def read(self, rows: Numbered, epoch: int) -> TokenisedRows:
        """Tokenise the rows; they are the same in every epoch."""
        return self.reader.read([row for _, row in rows])

    def step(self, inputs: TokenisedRows) -> Step:
        """Compute the loss of an optimizer step and leave its gradients in the parameters."""
        batches = self.reader.batches(inputs, self.micro_tokens)
        counts = Sums(*(int(total(count)) for count in _total_counts(batches)))
        logged = torch.zeros(len(Sums._fields), device=self.model.device)
        for number, batch in enumerate(batches, 1):
            synchronise(self.model, number == len(batches))
            with self._autocast():
                terms = combine(self.model(batch.to(self.model.device)), counts, self.model.task)
            # Sharding averages gradients over processes; the counts are already those of all of them.
            (sum(terms) * world()).backward()
            logged += torch.stack([term.detach() for term in terms])
        totals = Sums(*(total(value) for value in logged.tolist()))
        return Step(
            terms={"loss": sum(totals), **totals._asdict()},
            tokens=sum(int((batch.joint.segments > 0).sum()) for batch in batches),
            padded=sum(batch.joint.ids.numel() for batch in batches),
        )

    @torch.no_grad()
    def recall(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Return the recall of each embedding, a mean over rows with a target; see :func:`bag_recall`."""
        batches = self.reader.batches(self.reader.read(rows), self.micro_tokens)
        recalls = torch.zeros(len(Sums._fields), device=self.model.device)
        with evaluating(self.model), self._autocast():
            for batch in batches:
                recalls += torch.stack(self.model(batch.to(self.model.device), recall=True))
        _, ebae, ebar = recalls.tolist()
        counts = _total_counts(batches)
        return {"ebae_recall": ebae / max(counts.ebae, 1), "ebar_recall": ebar / max(counts.ebar, 1)}

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.model.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16
        )


def _total_counts(batches: Sequence[Batch]) -> Sums:
    """Return the counts of this process's micro-batches together."""
    return Sums(*map(sum, zip(*(batch.counts for batch in batches), strict=True)))
