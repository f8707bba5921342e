"""Fine-tuning: a checkpoint and training groups → a retriever, by the recipe of one of the systems."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch

from adapters import find_checkpoint, repllama
from adapters.llara import recipes
from adapters.llara.templates import RELEASED, add_tokens, fit_embeddings
from adapters.llara.templates import templates as llara_templates
from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.checkpoints.load import LoadOptions, read_model, settle_templates
from llara_eval.core.errors import UsageError
from llara_eval.core.paths import home
from llara_eval.encoding.compile import compile_layers
from llara_eval.encoding.model_facts import bare_facts, max_positions, require_positions
from llara_eval.encoding.prompt_sets import OWN_PROMPTS, PromptOptions
from llara_eval.encoding.templates import Templates
from llara_eval.planning.training import SAMPLE, Plan, make_plan
from llara_eval.training import groups
from llara_eval.training.checkpoint import precision_of, prepare
from llara_eval.training.config import Conditions, Contrast, Schedule
from llara_eval.training.contrastive import Finetune
from llara_eval.training.data import Rows
from llara_eval.training.distributed import distribute, processes
from llara_eval.training.job import Subject, carry_out
from llara_eval.training.output import check_output
from llara_eval.training.pairs import read_pairs


class Recipe(NamedTuple):
    """A way of fine-tuning.

    Attributes:
        settings: Makes the objective's settings and the schedule.
        templates: Makes the templates of a checkpoint, with the prompts that the user names. Adds the tokens
            that they need to its tokenizer, and returns the ids of these too.
    """

    settings: Callable[[], tuple[Contrast, Schedule]]
    templates: Callable[[Checkpoint, PromptOptions], tuple[Templates, list[int]]]


def _llara(checkpoint: Checkpoint, prompts: PromptOptions) -> tuple[Templates, list[int]]:
    """Return the templates and prompts of a checkpoint's own, or else those of the released code."""
    if checkpoint.templates is not None or checkpoint.modules:
        return settle_templates(checkpoint, LoadOptions(prompts=prompts))[0], []
    new_tokens = add_tokens(checkpoint.tokenizer, RELEASED.slot_tokens)
    options = LoadOptions(make_templates=llara_templates, prompts=prompts)
    return settle_templates(checkpoint, options)[0], new_tokens


def _repllama(checkpoint: Checkpoint, prompts: PromptOptions) -> tuple[Templates, list[int]]:
    options = LoadOptions(make_templates=repllama.templates, prompts=prompts)
    return settle_templates(checkpoint, options)[0], []


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "llara": Recipe(recipes.contrastive, _llara),
        "llara-released": Recipe(recipes.released_contrastive, _llara),
        "repllama": Recipe(repllama.recipe, _repllama),
        "repllama-v1": Recipe(repllama.released_recipe, _repllama),
    }
)
"""Recipes of ``llara-eval finetune`` by name."""


@dataclass(frozen=True, slots=True)
class FinetuningRun:
    """Contrastive fine-tuning of a checkpoint on queries with positive and negative passages.

    Attributes:
        model: The checkpoint, adapted or a bare language model: a folder, a GGUF file, a hub name, or a
            dense system's name.
        data: Files of ``query``, ``pos`` and, better, ``neg`` (lists of texts), or of another form of
            :mod:`llara_eval.datasets.training_rows`; ``pos_scores`` and ``neg_scores`` of a teacher are used
            where ``contrast.distillation`` is above 0, and ``prompt`` is the prompt or instruction of a
            query.
        contrast: The objective's settings: temperature, passages of a query, lengths in tokens.
        schedule: The settings of the optimizer steps.
        conditions: The output and the other conditions of the run.
        recipe: Makes the templates; its settings are not used here.
        prompts: The prompts, which the checkpoint is saved with; by default its own or the recipe's.
    """

    model: str | Path
    data: Sequence[Path]
    contrast: Contrast
    schedule: Schedule
    conditions: Conditions
    recipe: Recipe = RECIPES["llara"]
    prompts: PromptOptions = OWN_PROMPTS

    def plan(self) -> Plan:
        """Estimate what :meth:`run` will take.

        Raises:
            UsageError: As for :meth:`run`, as far as it shows without reading weights.
            DataError: The model is missing, or the data are malformed or too few.
        """
        checkpoint, rows = self._inputs()
        tokenizer = checkpoint.tokenizer
        templates, new_tokens = self.recipe.templates(checkpoint, self.prompts)
        templates = self._cut(templates)
        lengths = []
        for number, row in enumerate(rows.sample(SAMPLE)):
            group = groups.draw(
                row,
                self.contrast.group_size,
                seed=self.schedule.seed,
                epoch=0,
                index=number,
                distinct=self.contrast.mask_known,
            )
            sides = (
                (groups.with_prompt(templates.query, group.prompt), [group.query]),
                (templates.document, list(group.passages)),
            )
            lengths.append(
                sum(len(ids) for template, texts in sides for ids in template.token_ids(tokenizer, texts))
            )
        return make_plan(
            checkpoint,
            self.schedule,
            self.conditions,
            head=False,
            new_tokens=new_tokens,
            lengths=lengths,
            rows=len(rows),
            passes=4.0,  # all chunks but one are embedded twice
        )

    def run(self) -> Path:
        """Fine-tune the checkpoint and save a new one; a run that was interrupted is continued.

        Returns:
            The folder of the new checkpoint, which is the output.

        Raises:
            UsageError: The output must not be written or holds another run, the model is no causal decoder or
                has too few positions, the settings and the rows give no negatives, or the checkpoint has no
                prompt as the user names it.
            DataError: The model is missing, the data are malformed or too few, or the prompt of a row is an
                instruction for which the checkpoint shows no format.
            CheckFailedError: The loss is not finite, or the saved checkpoint gives other embeddings; or it is
                unclear which of the checkpoint's stored prompts is meant.
            KeyboardInterrupt: The run was interrupted; its training state is kept.
        """
        checkpoint, rows = self._inputs()
        with processes() as device:
            subject, objective = self._load(checkpoint, device)
            for row in rows.sample(SAMPLE):  # before the first step, not at the first of its rows
                groups.with_prompt(subject.templates.query, row.get("prompt"))
            task = {
                "stage": "finetune",
                "contrast": asdict(self.contrast),
                "templates": subject.templates.as_json(),
            }
            carry_out(subject, objective, rows, self.schedule, self.conditions, task=task)
        return self.conditions.output

    def _inputs(self) -> tuple[Checkpoint, Rows]:
        """Return the checkpoint and the rows, checked as far as is possible without reading weights."""
        conditions, contrast = self.conditions, self.contrast
        options = {"trust_remote_code": conditions.trust_remote_code}
        checkpoint = find_checkpoint(str(self.model), options, offline=conditions.offline)
        check_output(conditions, checkpoint.folder)
        require_positions(
            checkpoint.config,
            query_length=contrast.query_length,
            passage_length=contrast.passage_length,
        )
        rows = read_pairs(self.data, cache=home() / "training", progress=conditions.progress)
        self._require_contrast(rows)
        return checkpoint, rows

    def _require_contrast(self, rows: Rows) -> None:
        """Raise a UsageError if the rows lack a teacher's scores that are needed, or any negatives."""
        contrast, batch_size = self.contrast, self.schedule.batch_size
        if contrast.distillation and not any(
            row.get("pos_scores") and (row.get("neg_scores") or not row.get("neg")) for row in rows
        ):
            raise UsageError(
                f"distillation={contrast.distillation} needs pos_scores and neg_scores, and no row has them"
            )
        if contrast.block(batch_size) > 1:
            return
        if contrast.group_size == 1 or not any(set(row.get("neg", ())) - set(row["pos"]) for row in rows):
            raise UsageError(
                f"there are no negatives: batch_size={batch_size}, negatives={contrast.negatives}, "
                f"group_size={contrast.group_size}; hard negatives need a group_size above 1, and neg"
            )

    def _load(self, checkpoint: Checkpoint, device: torch.device) -> tuple[Subject, Finetune]:
        """Load the model, put a LoRA adapter on it if there is one, and shard it; refuse an encoder."""
        conditions = self.conditions
        torch.manual_seed(self.schedule.seed)
        decoder, tokenizer = read_model(checkpoint, dtype=torch.float32), checkpoint.tokenizer
        if not bare_facts(decoder).causal:
            raise UsageError(
                f"{type(decoder).__name__} cannot be fine-tuned: its tokens attend to those after them, and "
                "only decoders are trained, where the last tokens make the embedding"
            )
        templates, new_tokens = self.recipe.templates(checkpoint, self.prompts)
        templates = templates.within(max_positions(decoder.config))
        fit_embeddings(decoder, new_tokens)
        model = prepare(
            decoder, self.schedule.lora, new_tokens, gradient_checkpointing=conditions.gradient_checkpointing
        )
        if conditions.compiled:
            compile_layers(model, device)
        objective = Finetune(
            distribute(model, device),
            tokenizer,
            self._cut(templates),
            self.contrast,
            seed=self.schedule.seed,
            micro_tokens=conditions.micro_tokens,
            precision=precision_of(conditions.dtype, device),
        )
        return Subject.of(checkpoint, model, templates), objective

    def _cut(self, templates: Templates) -> Templates:
        return templates.cut_to(self.contrast.query_length, self.contrast.passage_length)
