"""``finetune``: a checkpoint and training groups → a retriever, by the recipe of one of the systems."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from adapters import repllama
from adapters.llara import recipes
from adapters.llara.templates import RELEASED, add_tokens, fit_embeddings
from adapters.llara.templates import templates as llara_templates
from llara_eval.checkpoints.folder import content_hash
from llara_eval.checkpoints.load import read_model, read_model_config, read_tokenizer
from llara_eval.core.errors import UsageError
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.datasets.contamination import declared
from llara_eval.encoding.compile import compile_layers
from llara_eval.encoding.model_facts import is_causal, own_positions, require_positions
from llara_eval.encoding.templates import Templates
from llara_eval.planning.training import SAMPLE, Plan, make_plan
from llara_eval.training import groups
from llara_eval.training.checkpoint import precision_of, prepare
from llara_eval.training.config import Contrast, Schedule
from llara_eval.training.contrastive import Finetune
from llara_eval.training.data import Rows
from llara_eval.training.distributed import place, processes
from llara_eval.training.job import Conditions, Subject, carry_out, check_output
from llara_eval.training.validation import Validate


class Recipe(NamedTuple):
    """A way of fine-tuning.

    Attributes:
        settings: Makes its settings.
        templates: Makes its templates from a folder and its tokenizer, adding the tokens they need to
            the tokenizer; returns their ids too.
    """

    settings: Callable[[], tuple[Contrast, Schedule]]
    templates: Callable[[Path, Any], tuple[Templates, list[int]]]


def _llara(folder: Path, tokenizer: Any) -> tuple[Templates, list[int]]:
    """Take the prompts a checkpoint was adapted with, or those of the released code."""
    own = Templates.load(folder)
    if own is not None:
        return own, []
    new = add_tokens(tokenizer, RELEASED.slot_tokens)
    return llara_templates(tokenizer), new


def _repllama(folder: Path, tokenizer: Any) -> tuple[Templates, list[int]]:
    return repllama.templates(tokenizer), []


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {"llara": Recipe(recipes.contrastive, _llara), "repllama": Recipe(repllama.recipe, _repllama)}
)
"""Recipes of ``llara-eval finetune`` by name."""


def read_rows(data: Sequence[Path], *, cache: Path, progress: Progress = SILENT) -> Rows:
    """Read training rows, JSONL of ``query``, ``pos`` and, better, ``neg``.

    Raises:
        DataError: A file is malformed.
    """
    return Rows(data, groups.FORMAT, cache=cache, progress=progress)


def plan(
    folder: Path, rows: Rows, recipe: Recipe, contrast: Contrast, schedule: Schedule, conditions: Conditions
) -> Plan:
    """Estimate what :func:`finetune` will take; what it would refuse before it reads weights is refused."""
    _refuse(folder, rows, contrast, schedule, conditions)
    tokenizer = read_tokenizer(folder)
    templates, new = recipe.templates(folder, tokenizer)
    templates = templates.cut_to(contrast.query_length, contrast.passage_length)
    lengths = []
    for number, row in enumerate(rows.sample(SAMPLE)):
        group = groups.draw(row, contrast.group_size, seed=schedule.seed, epoch=0, index=number)
        sides = ((templates.query, [group.query]), (templates.document, list(group.passages)))
        lengths.append(
            sum(len(ids) for template, texts in sides for ids in template.token_ids(tokenizer, texts))
        )
    return make_plan(
        folder,
        schedule,
        conditions,
        head=False,
        new_tokens=new,
        lengths=lengths,
        rows=len(rows),
        passes=4.0,  # all chunks but one are embedded twice
    )


def _refuse(folder: Path, rows: Rows, contrast: Contrast, schedule: Schedule, conditions: Conditions) -> None:
    """Raise where there is no place for the checkpoint, no position for a token, or nothing to learn from."""
    check_output(conditions, folder)
    lengths = {"query_length": contrast.query_length, "passage_length": contrast.passage_length}
    require_positions(read_model_config(folder), **lengths)

    def some(has: Callable[[Mapping[str, Any]], Any]) -> bool:
        return any(has(rows[row]) for row in range(len(rows)))

    if contrast.distillation and not some(
        lambda row: row.get("pos_scores") and (row.get("neg_scores") or not row.get("neg"))
    ):
        raise UsageError(
            f"distillation={contrast.distillation} needs pos_scores and neg_scores, and no row has them"
        )
    alone = schedule.batch_size == 1 or not contrast.in_batch
    hard = contrast.group_size > 1
    if alone and not (hard and some(lambda row: set(row.get("neg", ())) - set(row["pos"]))):
        raise UsageError(
            f"there is nothing to tell a positive from: batch_size={schedule.batch_size}, in_batch="
            f"{contrast.in_batch}, group_size={contrast.group_size}; hard negatives take a group_size above "
            "1 and rows with neg"
        )


def finetune(
    folder: Path,
    rows: Rows,
    recipe: Recipe,
    contrast: Contrast,
    schedule: Schedule,
    conditions: Conditions,
    *,
    validate: Validate | None = None,
    progress: Progress = SILENT,
) -> None:
    """Fine-tune a checkpoint on queries with positive and negative passages.

    Args:
        folder: The checkpoint: adapted, or a bare language model.
        rows: Training rows; see :func:`read_rows`.
        recipe: Where the templates come from.
        contrast: The objective.
        schedule: How parameters are updated.
        conditions: How the run is carried out.
        validate: Measures the model now and then.
        progress: Where to show progress.

    Raises:
        LlaraEvalError: The data or the model cannot be used, or see
            :func:`llara_eval.training.job.carry_out`.
    """
    _refuse(folder, rows, contrast, schedule, conditions)
    with processes() as device:
        torch.manual_seed(schedule.seed)
        bare, tokenizer = read_model(folder, dtype=torch.float32)
        if not is_causal(bare):
            raise UsageError(
                f"{type(bare).__name__} cannot be fine-tuned: its tokens see what follows them, and only "
                "decoders are trained, whose last tokens make the embedding"
            )
        templates, new = recipe.templates(folder, tokenizer)
        templates = templates.within(own_positions(bare.config))
        fit_embeddings(bare, new)
        precision = precision_of(conditions.dtype, device)
        model = prepare(bare, schedule.lora, new, gradient_checkpointing=conditions.gradient_checkpointing)
        if conditions.compiled:
            compile_layers(model, device)
        root = place(model, device)
        objective = Finetune(
            root,
            tokenizer,
            templates.cut_to(contrast.query_length, contrast.passage_length),
            contrast,
            seed=schedule.seed,
            micro_tokens=conditions.micro_tokens,
            precision=precision,
        )
        carry_out(
            Subject(model, tokenizer, templates, content_hash(folder), declared(folder)),
            objective,
            rows,
            schedule,
            conditions,
            task={"stage": "finetune", "contrast": asdict(contrast), "templates": templates.as_json()},
            precision=precision,
            validate=validate,
            progress=progress,
        )
