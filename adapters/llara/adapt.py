"""``adapt``: a base model and plain text → a checkpoint whose embeddings say what a text holds."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from adapters import checkpoint_folder
from adapters.llara import data as pairs
from adapters.llara.batches import Reader
from adapters.llara.config import USUAL_LENGTH, Adaptation
from adapters.llara.joint import Frame
from adapters.llara.objective import Adapt, AdaptationModel
from adapters.llara.templates import add_tokens, fit_embeddings, templates
from adapters.llara.verify_joint import require_isolation
from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.checkpoints.load import read_model
from llara_eval.core.paths import home
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.datasets.contamination import declared
from llara_eval.encoding.compile import compile_layers
from llara_eval.encoding.model_facts import max_positions, require_positions
from llara_eval.planning.training import SAMPLE, Plan, make_plan
from llara_eval.training.checkpoint import precision_of, prepare
from llara_eval.training.config import Schedule
from llara_eval.training.data import Rows
from llara_eval.training.distributed import distribute, processes, reshard
from llara_eval.training.job import Conditions, Subject, carry_out, check_output
from llara_eval.training.validation import Validate

CHUNK_WORDS = 500
"""Words of a chunk, roughly, where adaptation rows are made from text."""


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


class _Inputs(NamedTuple):
    """What a run begins with, after everything that can be refused without reading weights.

    Attributes:
        folder: The checkpoint's folder.
        task: The task, with a length that the model can read.
        trained: The rows that are trained on.
        held_out: The rows on which recall is measured.
    """

    folder: Path
    task: Adaptation
    trained: Rows
    held_out: Rows


def _inputs(
    model: str | Path,
    data: Sequence[Path],
    task: Adaptation,
    conditions: Conditions,
    *,
    chunk_words: int,
    held_out: int,
    offline: bool,
    progress: Progress,
) -> _Inputs:
    """Find the checkpoint, read the rows, and refuse an output, a model or a length that cannot be."""
    folder = checkpoint_folder(str(model), offline=offline)
    check_output(conditions, folder)
    checkpoint = Checkpoint(folder)
    checkpoint.require_head()
    config = checkpoint.config
    task = replace(task, max_length=task.max_length or min(USUAL_LENGTH, max_positions(config)))
    require_positions(config, max_length=task.max_length or 0)
    rows = read_rows(data, chunk_words=chunk_words, cache=home() / "training", progress=progress)
    return _Inputs(folder, task, *rows.split(held_out))


def plan(
    model: str | Path,
    data: Sequence[Path],
    task: Adaptation,
    schedule: Schedule,
    conditions: Conditions,
    *,
    chunk_words: int = CHUNK_WORDS,
    held_out: int = 0,
    offline: bool = False,
    progress: Progress = SILENT,
) -> Plan:
    """Estimate what :func:`adapt` will take, and refuse what it would refuse before it reads weights.

    Args and errors are those of :func:`adapt`.
    """
    folder, task, rows, _ = _inputs(
        *(model, data, task, conditions),
        chunk_words=chunk_words,
        held_out=held_out,
        offline=offline,
        progress=progress,
    )
    tokenizer = Checkpoint(folder).tokenizer
    new = add_tokens(tokenizer, task.prompts.slot_tokens)
    reader = Reader(tokenizer, Frame.of(templates(tokenizer, task.prompts), tokenizer), task)
    texts, _ = reader.texts(rows.sample(SAMPLE))
    return make_plan(
        folder,
        schedule,
        conditions,
        head=True,
        new_tokens=new,
        lengths=[len(text) + reader.around for text in texts],
        rows=len(rows),
    )


def adapt(
    model: str | Path,
    data: Sequence[Path],
    task: Adaptation,
    schedule: Schedule,
    conditions: Conditions,
    *,
    chunk_words: int = CHUNK_WORDS,
    held_out: int = 0,
    validate: Validate | None = None,
    offline: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Adapt a causal language model the LLaRA way and leave a checkpoint.

    ``llara-eval adapt`` makes this call. A run that was interrupted goes on when the call is made again.

    Args:
        model: The base model: a checkpoint folder, a GGUF file, a hub name, or a dense system's name.
        data: JSON Lines of ``input``, ``output_summarize`` and ``output_predict``, or text to make such rows
            from: ``.txt``, or JSON Lines of ``text``; compressed or not.
        task: What the model is adapted to; :mod:`adapters.llara.recipes` has the tasks of the paper and of
            the released code.
        schedule: How many optimizer steps are made, of how many rows, at which learning rate.
        conditions: Where the checkpoint is written, and how the run is carried out.
        chunk_words: Words of a chunk, roughly, where rows are made from text.
        held_out: Rows at the end of the data that are not trained on; recall is measured on them.
        validate: Measures the model before the first optimizer step, after the last, and every
            ``conditions.evaluate_every``.
        offline: Whether downloads are forbidden.
        progress: Where to show progress.

    Returns:
        The folder of the checkpoint, which is ``conditions.output``.

    Raises:
        UsageError: The output must not be written, holds another run, the model cannot be adapted in one
            pass, or has fewer positions than ``task.max_length``.
        DataError: The model is missing, or the data are malformed or too few.
        CheckFailedError: The loss is not finite, or the saved checkpoint gives other embeddings.
        KeyboardInterrupt: The run was asked to stop; its training state is kept.
    """
    folder, task, trained, kept = _inputs(
        *(model, data, task, conditions),
        chunk_words=chunk_words,
        held_out=held_out,
        offline=offline,
        progress=progress,
    )
    with processes() as device:
        subject, objective = _objective(folder, task, schedule, conditions, device)
        carry_out(
            subject,
            objective,
            trained,
            schedule,
            conditions,
            task={"stage": "adapt", "task": asdict(task), "held_out": held_out},
            precision=objective.precision,
            measures=[partial(objective.recall, list(kept))] if kept else [],
            validate=validate,
            progress=progress,
        )
    return conditions.output


def _objective(
    folder: Path, task: Adaptation, schedule: Schedule, conditions: Conditions, device: torch.device
) -> tuple[Subject, Adapt]:
    """Load the model, put the LoRA adapter on it if there is one, and shard it; refuse one that leaks."""
    torch.manual_seed(schedule.seed)
    checkpoint = Checkpoint(folder)
    causal, tokenizer = read_model(checkpoint, dtype=torch.float32, head=True), checkpoint.tokenizer
    new = add_tokens(tokenizer, task.prompts.slot_tokens)
    fit_embeddings(causal, new)
    both = templates(tokenizer, task.prompts).within(max_positions(causal.config))
    precision = precision_of(conditions.dtype, device)
    model = prepare(causal, schedule.lora, new, gradient_checkpointing=conditions.gradient_checkpointing)
    if conditions.compiled:
        compile_layers(model, device)
    root = distribute(AdaptationModel(causal, task), device)
    objective = Adapt(root, tokenizer, both, micro_tokens=conditions.micro_tokens, precision=precision)
    require_isolation(root, objective.reader.frame, both, objective.reader.max_length)
    reshard(root)
    return Subject(model, tokenizer, both, checkpoint.content_hash, declared(folder)), objective
