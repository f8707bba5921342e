"""The adaptation objective: EBAE, EBAR and the language-model term over joint sequences."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adapters.llara.batches import Batch, Reader, Sums, TokenisedRows
from adapters.llara.config import Adaptation
from adapters.llara.joint import Frame, hidden_states, slot_states
from adapters.llara.losses import Head, bag_of_words_loss, bag_recall, bag_weights, language_model_loss
from llara_eval.encoding.model_facts import evaluating
from llara_eval.encoding.templates import Templates
from llara_eval.training.distributed import gather, rank, synchronise, total, world
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
        """Return the weighted sums of the losses, or the sums of the recalls, over a batch.

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
        task, weights = self.task, batch.weights
        bags = []
        for enabled, slots, targets, share in (
            (task.ebae, batch.joint.self_slots, batch.self_targets, weights.ebae),
            (task.ebar, batch.joint.next_slots, batch.next_targets, weights.ebar),
        ):
            tokens = bag_weights(
                targets, len(head.weight), distinct=task.distinct, mean=task.token_mean or recall
            )
            states = slot_states(hidden, slots)
            bags.append(measure(states, tokens * share[:, None], head) if enabled else hidden.new_zeros(()))
        language_model = hidden.new_zeros(())
        if task.language_model and not recall:
            predictors = batch.joint.predictors
            language_model = language_model_loss(
                hidden.flatten(0, 1)[predictors],
                batch.joint.labels,
                weights.language_model[predictors // hidden.shape[1]],
                head,
            )
        return Sums(language_model, *bags)

    def get_input_embeddings(self) -> Any:
        """Return the embedding matrix of the model, as a transformers model does."""
        return self.model.get_input_embeddings()

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters."""
        return next(self.parameters()).dtype


def row_weights(counts: Tensor, block: int, task: Adaptation) -> Tensor:
    """Return the weight of each row in each term of the loss, which is the sum of the terms.

    Released code: L = L_LM + (L_EBAE + L_EBAR) / 2, where L_LM is a mean over tokens, and each bag-of-words
    term is divided by 10 and is a mean over the texts with a target. Where a block has only one of the two
    terms, it is not halved. L is the mean of that over blocks. Paper (arXiv 2312.15503): L = L_EBAE + L_EBAR.

    Args:
        counts: (R, 3) of the rows of a batch, see :meth:`adapters.llara.batches.TokenisedRows.counts`.
        block: Consecutive rows that are averaged first; R for all of them.
        task: The variant of the loss.

    Returns:
        (R, 3) weights.
    """
    blocks = counts.view(-1, block, 3).sum(dim=1)
    is_active = (blocks[:, 1:] > 0) & torch.tensor([task.ebae, task.ebar], device=counts.device)
    terms = is_active.sum(dim=1, keepdim=True).clamp(min=1) if task.averaged else 1
    factors = torch.cat([torch.ones_like(blocks[:, :1]), task.scale / terms * is_active], dim=1)
    weights = factors / blocks.clamp(min=1) / len(blocks)
    return weights.repeat_interleave(block, dim=0)


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
        batches = self.reader.batches(inputs, self._weights(inputs), self.micro_tokens)
        logged = torch.zeros(len(Sums._fields), device=self.model.device)
        for number, batch in enumerate(batches, 1):
            synchronise(self.model, number == len(batches))
            with self._autocast():
                terms = self.model(batch.to(self.model.device))
            # Sharding averages gradients over processes; the weights are already those of all of them.
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
        read = self.reader.read(rows)
        counts = read.counts(len(self.reader.frame.prefix))
        batches = self.reader.batches(read, torch.ones_like(counts), self.micro_tokens)
        recalls = torch.zeros(len(Sums._fields), device=self.model.device)
        with evaluating(self.model), self._autocast():
            for batch in batches:
                recalls += torch.stack(self.model(batch.to(self.model.device), recall=True))
        _, ebae, ebar = (recalls.cpu() / counts.sum(dim=0).clamp(min=1)).tolist()
        return {"ebae_recall": ebae, "ebar_recall": ebar}

    def _weights(self, inputs: TokenisedRows) -> Tensor:
        """Return the weights (n, 3) of this process's rows; the rows are dealt to the processes in turn."""
        counts = gather(inputs.counts(len(self.reader.frame.prefix)).to(self.model.device))
        dealt = counts.view(world(), -1, 3).transpose(0, 1).reshape(-1, 3)  # in the order of the data
        weights = row_weights(dealt, self.model.task.block(len(dealt)), self.model.task)
        return weights[rank() :: world()].cpu()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.model.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16
        )
