"""``adapt``: a base model and plain text → a checkpoint whose embeddings say what a text holds."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from adapters.llara import data as pairs
from adapters.llara.joint import Frame
from adapters.llara.objective import Adapt, Adaptation, AdaptationModel, Reader
from adapters.llara.templates import add_tokens, fit_embeddings, templates
from adapters.llara.verify_joint import require_isolation
from llara_eval.checkpoints.folder import content_hash
from llara_eval.checkpoints.load import read_model, read_model_config, read_tokenizer
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.datasets.contamination import declared
from llara_eval.encoding.compile import compile_layers
from llara_eval.encoding.model_facts import own_positions, require_positions
from llara_eval.planning.training import SAMPLE, Plan, make_plan
from llara_eval.training.checkpoint import precision_of, prepare
from llara_eval.training.config import Schedule
from llara_eval.training.data import Rows
from llara_eval.training.distributed import place, processes, shard_again
from llara_eval.training.job import Conditions, Subject, carry_out, check_output
from llara_eval.training.validation import Validate


def read_rows(data: Sequence[Path], *, chunk_words: int, cache: Path, progress: Progress = SILENT) -> Rows:
    """Read adaptation rows, or make them from text.

    Args:
        data: JSONL files of adaptation rows, or text; see :func:`adapters.llara.data.prepare`.
        chunk_words: Words of a chunk made from text.
        cache: Where rows made from text, and indexes of the data, are kept.
        progress: Where to show progress.

    Raises:
        DataError: A file is malformed.
    """
    files = pairs.prepare(data, words=chunk_words, cache=cache, progress=progress)
    return Rows(files, pairs.FORMAT, cache=cache, progress=progress, sources=data)


def plan(folder: Path, rows: Rows, task: Adaptation, schedule: Schedule, conditions: Conditions) -> Plan:
    """Estimate what :func:`adapt` will take; an output, a model or a length it would refuse is refused."""
    _refuse(folder, task, conditions)
    tokenizer = read_tokenizer(folder)
    new = add_tokens(tokenizer, task.prompts.slot_tokens)
    reader = Reader(tokenizer, Frame.of(templates(tokenizer, task.prompts), tokenizer), task)
    texts, _ = reader.texts(rows.sample(SAMPLE))
    around = task.max_length - reader.room
    return make_plan(
        folder,
        schedule,
        conditions,
        head=True,
        new_tokens=new,
        lengths=[len(text) + around for text in texts],
        rows=len(rows),
    )


def _refuse(folder: Path, task: Adaptation, conditions: Conditions) -> None:
    """Raise where there is no place for the checkpoint, no head to train with, or no position for a token."""
    check_output(conditions, folder)
    require_positions(read_model_config(folder, head=True), max_length=task.max_length)


def adapt(
    folder: Path,
    rows: Rows,
    task: Adaptation,
    schedule: Schedule,
    conditions: Conditions,
    *,
    held_out: int = 0,
    validate: Validate | None = None,
    progress: Progress = SILENT,
) -> None:
    """Adapt a causal language model and leave a checkpoint.

    Args:
        folder: The base model.
        rows: Adaptation rows; see :func:`read_rows`.
        task: What it is adapted to.
        schedule: How parameters are updated.
        conditions: How the run is carried out.
        held_out: Rows at the end of the data that are not trained on; recall is measured on them.
        validate: Measures the model now and then.
        progress: Where to show progress.

    Raises:
        LlaraEvalError: The data or the model cannot be used, or see
            :func:`llara_eval.training.job.carry_out`.
    """
    _refuse(folder, task, conditions)
    trained, kept = rows.split(held_out)
    with processes() as device:
        torch.manual_seed(schedule.seed)
        causal, tokenizer = read_model(folder, dtype=torch.float32, head=True)
        new = add_tokens(tokenizer, task.prompts.slot_tokens)
        fit_embeddings(causal, new)
        made = templates(tokenizer, task.prompts).within(own_positions(causal.config))
        precision = precision_of(conditions.dtype, device)
        model = prepare(causal, schedule.lora, new, gradient_checkpointing=conditions.gradient_checkpointing)
        if conditions.compiled:
            compile_layers(model, device)
        root = place(AdaptationModel(causal, task), device)
        objective = Adapt(root, tokenizer, made, micro_tokens=conditions.micro_tokens, precision=precision)
        require_isolation(root, objective.reader.frame, made, task.max_length)
        shard_again(root)
        carry_out(
            Subject(model, tokenizer, made, content_hash(folder), declared(folder)),
            objective,
            trained,
            schedule,
            conditions,
            task={"stage": "adapt", "task": asdict(task), "held_out": held_out},
            precision=precision,
            measures=[partial(objective.recall, list(kept))] if kept else [],
            validate=validate,
            progress=progress,
        )
