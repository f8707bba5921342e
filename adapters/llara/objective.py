"""The adaptation objective: EBAE, EBAR and the language-model term over joint sequences."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from adapters.llara.batches import Batch, Read, Reader, Sums
from adapters.llara.config import Adaptation
from adapters.llara.joint import Frame, hidden_states, slot_states
from adapters.llara.losses import Head, bag_of_words_loss, bag_recall, bag_weights, language_model_loss
from llara_eval.encoding.templates import Templates
from llara_eval.training.distributed import synchronise, total, world
from llara_eval.training.objective import Numbered, Step


class AdaptationModel(nn.Module):
    """A causal language model whose forward pass is the sums of the three terms.

    The head is used inside the forward pass, so that a sharded model has it gathered there. Called
    with keyword arguments it is its own decoder, so that it can be encoded with while it is trained.

    Args:
        model: A transformers causal language model.
        task: What it is adapted to.

    Raises:
        UsageError: The head is not one that this code can reproduce.
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
    the texts with a target; where a batch has only one of the two, it counts whole. Paper (arXiv
    2312.15503): L = L_EBAE + L_EBAR.

    Args:
        sums: Sums over a micro-batch.
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


class Adapt:
    """The adaptation objective; see :class:`llara_eval.training.objective.Objective`.

    Args:
        model: The model, on its device.
        tokenizer: Its tokenizer.
        templates: Its templates.
        micro_tokens: Most tokens of a micro-batch, padding included.
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

    def step(self, rows: Read) -> Step:
        """Compute the loss of an optimizer step and leave its gradients in the parameters."""
        batches = self.reader.batches(rows, self.micro_tokens)
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
        recalls = torch.zeros(3, device=self.model.device)
        training = self.model.training
        self.model.eval()  # without dropout
        for batch in batches:
            with self._autocast():
                recalls += torch.stack(list(self.model(batch.to(self.model.device), recall=True)))
        self.model.train(training)
        _, ebae, ebar = (value / max(count, 1) for value, count in zip(recalls.tolist(), counts, strict=True))
        return {"ebae_recall": ebae, "ebar_recall": ebar}

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.model.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16
        )
