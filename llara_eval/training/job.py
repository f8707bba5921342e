"""A training run from beginning to end: train, save a checkpoint, load it again and compare."""

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.core.decode import read_record
from llara_eval.core.provenance import describe
from llara_eval.datasets.contamination import RECORD, TRAINING_FILES, declared
from llara_eval.encoding.templates import Templates
from llara_eval.training.checkpoint import rehearse_saving, sample_embeddings, save_checkpoint
from llara_eval.training.config import Conditions, Schedule
from llara_eval.training.data import Rows
from llara_eval.training.distributed import barrier, rank
from llara_eval.training.loop import Measure, train
from llara_eval.training.objective import Objective
from llara_eval.training.output import clear, locked
from llara_eval.training.state import discard, refuse_other
from llara_eval.training.validation import ndcg_at_10

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Subject:
    """The model that is trained, with what a checkpoint of it holds.

    Attributes:
        model: The transformers model, or peft's around it; this is what is saved.
        tokenizer: Its tokenizer.
        templates: The templates of the checkpoint.
        base: Content hash of the checkpoint that training begins with.
        training_files: The files which that checkpoint declares it was trained on; SHA-256 → name.
        code: The SHA-256 of each file of code which that checkpoint brings and that ran.
    """

    model: Any
    tokenizer: Any
    templates: Templates
    base: str
    training_files: Mapping[str, str]
    code: Mapping[str, str]

    @classmethod
    def of(cls, checkpoint: Checkpoint, model: Any, templates: Templates) -> "Subject":
        """Return the subject of a training that begins with a checkpoint."""
        return cls(
            model=model,
            tokenizer=checkpoint.tokenizer,
            templates=templates,
            base=checkpoint.content_hash,
            training_files=declared(checkpoint.folder),
            code=checkpoint.code,
        )


def carry_out(
    subject: Subject,
    objective: Objective,
    rows: Rows,
    schedule: Schedule,
    conditions: Conditions,
    *,
    task: Mapping[str, Any],
    measure: Measure | None = None,
) -> None:
    """Train, save, load again and compare; a run that is finished already is left as it is.

    Args:
        subject: The model that is trained, and what is saved with it.
        objective: The objective that is minimised; its model shares the subject's weights.
        rows: The training data.
        schedule: The settings of the optimizer steps.
        conditions: The conditions of the run.
        task: The task of the model in JSON values. A run with another task is another run.
        measure: Measures the model at each evaluation, beside ``conditions.validate_on``.

    Raises:
        UsageError: The output holds a finished run of another identity, or another process writes it.
        LlaraEvalError: See :func:`llara_eval.training.checkpoint.rehearse_saving`,
            :func:`llara_eval.training.loop.train` and :func:`llara_eval.training.checkpoint.save_checkpoint`.
    """
    identity = {
        **task,
        "schedule": asdict(schedule),
        "base": subject.base,
        "data": rows.fingerprint,
        "precision": str(objective.precision),
        **{name: getattr(conditions, name) for name in ("micro_tokens", "compiled", "merge")},
    }
    with locked(conditions.output) if rank() == 0 else nullcontext():
        if not _is_finished(conditions, identity):
            _train_and_save(subject, objective, rows, schedule, conditions, identity, measure)
            if rank() == 0:
                discard(conditions.output)


def _train_and_save(
    subject: Subject,
    objective: Objective,
    rows: Rows,
    schedule: Schedule,
    conditions: Conditions,
    identity: Mapping[str, Any],
    measure: Measure | None,
) -> None:
    tokenizer, templates, output = subject.tokenizer, subject.templates, conditions.output
    if rank() == 0:
        rehearse_saving(subject.model, tokenizer, templates, output, allowed=conditions.allowed)
    measures = [] if measure is None else [measure]
    if conditions.validate_on is not None:
        measures.append(
            partial(
                ndcg_at_10,
                *(conditions.validate_on, objective.model, tokenizer, templates),
                micro_tokens=conditions.micro_tokens,
                precision=objective.precision,
            )
        )
    steps = train(objective, rows, schedule, conditions, identity=identity, measures=measures)
    save_checkpoint(
        subject.model,
        tokenizer,
        templates,
        output,
        expected=sample_embeddings(objective.model, tokenizer, templates),
        merge=conditions.merge,
        allowed=conditions.allowed,
        record={
            **identity,
            **({"code_sha256": subject.code} if subject.code else {}),
            TRAINING_FILES: {**subject.training_files, **rows.sources},
            "steps": steps,
            "rows": len(rows),
            "provenance": describe(),
        },
    )


def _is_finished(conditions: Conditions, identity: Mapping[str, Any]) -> bool:
    """Return whether the output holds this run, finished; with ``always``, first remove its files."""
    output = conditions.output
    if conditions.on_existing == "always":
        if rank() == 0:
            clear(output)
        barrier()
    if not (output / RECORD).is_file():
        return False
    record = read_record(output / RECORD, dict[str, Any])
    refuse_other(record, identity, f"{output} holds a finished run")
    logger.info("%s is finished; --on-existing always starts again", output)
    return True
