"""``finetune``: a checkpoint and training groups → a retriever, by the recipe of one of the systems."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from adapters import checkpoint_folder, repllama
from adapters.llara import recipes
from adapters.llara.templates import RELEASED, add_tokens, fit_embeddings
from adapters.llara.templates import templates as llara_templates
from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.checkpoints.load import read_model
from llara_eval.core.errors import UsageError
from llara_eval.core.paths import home
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.datasets.contamination import declared
from llara_eval.encoding.compile import compile_layers
from llara_eval.encoding.model_facts import bare_facts, max_positions, require_positions
from llara_eval.encoding.templates import Templates
from llara_eval.planning.training import SAMPLE, Plan, make_plan
from llara_eval.training import groups
from llara_eval.training.checkpoint import precision_of, prepare
from llara_eval.training.config import Contrast, Schedule
from llara_eval.training.contrastive import Finetune
from llara_eval.training.data import Rows
from llara_eval.training.distributed import distribute, processes
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
    model: str | Path,
    data: Sequence[Path],
    contrast: Contrast,
    schedule: Schedule,
    conditions: Conditions,
    *,
    recipe: Recipe = RECIPES["llara"],
    offline: bool = False,
    progress: Progress = SILENT,
) -> Plan:
    """Estimate what :func:`finetune` will take, and refuse what it would refuse before it reads weights.

    Args and errors are those of :func:`finetune`.
    """
    folder, rows = _inputs(model, data, contrast, schedule, conditions, offline=offline, progress=progress)
    tokenizer = Checkpoint(folder).tokenizer
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


def _inputs(
    model: str | Path,
    data: Sequence[Path],
    contrast: Contrast,
    schedule: Schedule,
    conditions: Conditions,
    *,
    offline: bool,
    progress: Progress,
) -> tuple[Path, Rows]:
    """Return the checkpoint's folder and the rows, after what can be refused without reading weights."""
    folder = checkpoint_folder(str(model), offline=offline)
    check_output(conditions, folder)
    lengths = {"query_length": contrast.query_length, "passage_length": contrast.passage_length}
    require_positions(Checkpoint(folder).config, **lengths)
    rows = read_rows(data, cache=home() / "training", progress=progress)
    _require_contrast(rows, contrast, schedule)
    return folder, rows


def _require_contrast(rows: Rows, contrast: Contrast, schedule: Schedule) -> None:
    """Raise where the rows leave nothing to learn from."""

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
    model: str | Path,
    data: Sequence[Path],
    contrast: Contrast,
    schedule: Schedule,
    conditions: Conditions,
    *,
    recipe: Recipe = RECIPES["llara"],
    validate: Validate | None = None,
    offline: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Fine-tune a checkpoint on queries with positive and negative passages, and leave a checkpoint.

    ``llara-eval finetune`` makes this call. A run that was interrupted goes on when the call is made again.

    Args:
        model: The checkpoint, adapted or a bare language model: a folder, a GGUF file, a hub name, or a
            dense system's name.
        data: JSON Lines of ``query``, ``pos`` and, better, ``neg`` (lists of texts); ``pos_scores`` and
            ``neg_scores`` of a teacher are used where ``contrast.distillation`` is above 0.
        contrast: The objective: temperature, passages of a query, lengths in tokens.
        schedule: How many optimizer steps are made, of how many queries, at which learning rate.
        conditions: Where the checkpoint is written, and how the run is carried out.
        recipe: Where the templates come from; its own settings are not used here.
        validate: Measures the model before the first optimizer step, after the last, and every
            ``conditions.evaluate_every``.
        offline: Whether downloads are forbidden.
        progress: Where to show progress.

    Returns:
        The folder of the checkpoint, which is ``conditions.output``.

    Raises:
        UsageError: The output must not be written, holds another run, the model is no causal decoder or has
            too few positions, or the rows leave nothing to tell a positive from.
        DataError: The model is missing, or the data are malformed or too few.
        CheckFailedError: The loss is not finite, or the saved checkpoint gives other embeddings.
        KeyboardInterrupt: The run was asked to stop; its training state is kept.
    """
    folder, rows = _inputs(model, data, contrast, schedule, conditions, offline=offline, progress=progress)
    with processes() as device:
        subject, objective = _objective(folder, recipe, contrast, schedule, conditions, device)
        stage = {"stage": "finetune", "contrast": asdict(contrast), "templates": subject.templates.as_json()}
        carry_out(
            subject,
            objective,
            rows,
            schedule,
            conditions,
            task=stage,
            precision=objective.precision,
            validate=validate,
            progress=progress,
        )
    return conditions.output


def _objective(
    folder: Path,
    recipe: Recipe,
    contrast: Contrast,
    schedule: Schedule,
    conditions: Conditions,
    device: torch.device,
) -> tuple[Subject, Finetune]:
    """Load the model, put the LoRA adapter on it if there is one, and shard it; refuse an encoder."""
    torch.manual_seed(schedule.seed)
    checkpoint = Checkpoint(folder)
    bare, tokenizer = read_model(checkpoint, dtype=torch.float32), checkpoint.tokenizer
    if not bare_facts(bare).causal:
        raise UsageError(
            f"{type(bare).__name__} cannot be fine-tuned: its tokens see what follows them, and only "
            "decoders are trained, whose last tokens make the embedding"
        )
    templates, new = recipe.templates(folder, tokenizer)
    templates = templates.within(max_positions(bare.config))
    fit_embeddings(bare, new)
    precision = precision_of(conditions.dtype, device)
    model = prepare(bare, schedule.lora, new, gradient_checkpointing=conditions.gradient_checkpointing)
    if conditions.compiled:
        compile_layers(model, device)
    objective = Finetune(
        distribute(model, device),
        tokenizer,
        templates.cut_to(contrast.query_length, contrast.passage_length),
        contrast,
        seed=schedule.seed,
        micro_tokens=conditions.micro_tokens,
        precision=precision,
    )
    return Subject(model, tokenizer, templates, checkpoint.content_hash, declared(folder)), objective
