"""A training run from beginning to end: it is refused or found finished, trained, saved and compared."""

import logging
import shutil
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from llara_eval.core.decode import read_record
from llara_eval.core.errors import UsageError
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.core.provenance import describe
from llara_eval.datasets.contamination import RECORD, TRAINING_FILES
from llara_eval.encoding.devices import default_device
from llara_eval.encoding.templates import Templates
from llara_eval.training.checkpoint import sample_embeddings, save_checkpoint
from llara_eval.training.config import Schedule
from llara_eval.training.data import Rows
from llara_eval.training.distributed import barrier, rank
from llara_eval.training.log import LOG
from llara_eval.training.loop import SAVE_MINUTES, Evaluate, train
from llara_eval.training.objective import Objective
from llara_eval.training.state import discard, refuse_other
from llara_eval.training.validation import Validate

logger = logging.getLogger(__name__)

_MICRO_TOKENS = {"cpu": 1_024, "cuda": 16_384}
"""By device type. On a CPU 1,024 is as fast as any (docs/performance.md); memory grows with it."""


EXISTING = ("only-missing", "always", "never")
"""What may be done where the output holds a run: see :class:`Conditions`."""

_OURS = {LOG, RECORD}
"""Files that only a training run has in its folder, from its first optimizer step to its end."""


def usual_micro_tokens() -> int:
    """Return how many tokens are computed at a time on this machine, where nobody says."""
    return _MICRO_TOKENS.get(default_device().type, 4_096)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How a run is carried out.

    Attributes:
        output: The folder of the run, and of the checkpoint it ends with.
        micro_tokens: Most tokens of a micro-batch, padding included.
        dtype: ``float32`` or ``bfloat16`` for products (weights stay float32); None takes what the
            processor computes fast.
        gradient_checkpointing: Compute activations twice instead of keeping them.
        compiled: Compile the layers, which takes a minute or two and saves time and memory afterwards.
        merge: Merge the LoRA adapter into the base model in the end; otherwise it is saved alone.
        save_minutes: Minutes between two training states.
        evaluate_every: Optimizer steps between two evaluations; 0 only before and after.
        on_existing: ``only-missing`` goes on or keeps what is finished, ``always`` starts again,
            ``never`` refuses.
    """

    output: Path
    micro_tokens: int = field(default_factory=usual_micro_tokens)
    dtype: str | None = None
    gradient_checkpointing: bool = False
    compiled: bool = False
    merge: bool = False
    save_minutes: float = SAVE_MINUTES
    evaluate_every: int = 0
    on_existing: str = "only-missing"

    def __post_init__(self) -> None:
        """Refuse what cannot be carried out.

        Raises:
            UsageError: ``on_existing`` is unknown, or a number is out of range.
        """
        if self.on_existing not in EXISTING:
            raise UsageError(f"on_existing {self.on_existing!r} is not one of {', '.join(EXISTING)}")
        if min(self.micro_tokens, self.evaluate_every) < 0 or not self.save_minutes >= 0:
            raise UsageError(
                f"micro_tokens, save_minutes and evaluate_every must not be negative, found "
                f"{self.micro_tokens}, {self.save_minutes}, {self.evaluate_every}"
            )


@dataclass(frozen=True, slots=True)
class Subject:
    """What is trained.

    Attributes:
        model: The transformers model, or peft's around it: what is saved.
        tokenizer: Its tokenizer.
        templates: The templates it is used with afterwards.
        base: Content hash of the checkpoint it comes from.
        training_files: What that checkpoint was trained on, as it declares; SHA-256 → name.
    """

    model: Any
    tokenizer: Any
    templates: Templates
    base: str
    training_files: Mapping[str, str]


def check_output(conditions: Conditions, folder: Path) -> None:
    """Refuse an output folder that a run must not write to.

    Args:
        conditions: How the run is carried out; they name its output.
        folder: The checkpoint it begins with.

    Raises:
        UsageError: The output is a file, or it holds that checkpoint or something else than a training run.
    """
    output, folder = conditions.output.expanduser().resolve(), folder.expanduser().resolve()
    if output == folder or output in folder.parents:
        raise UsageError(f"--output {output} holds the model itself; name another folder")
    if output.exists() and not output.is_dir():
        raise UsageError(f"--output {output} is a file; name a folder")
    names = sorted(path.name for path in output.iterdir()) if output.is_dir() else []
    if names and (conditions.on_existing == "never" or not _OURS.intersection(names)):
        raise UsageError(f"{output} exists and holds {', '.join(names[:5])}; choose another --output")


def carry_out(
    subject: Subject,
    objective: Objective,
    rows: Rows,
    schedule: Schedule,
    conditions: Conditions,
    *,
    task: Mapping[str, Any],
    precision: torch.dtype,
    measures: Sequence[Evaluate] = (),
    validate: Validate | None = None,
    progress: Progress = SILENT,
) -> None:
    """Train, save, load again and compare; or find that the run is finished.

    Args:
        subject: What is trained and saved.
        objective: What is minimised; its model shares the subject's weights.
        rows: The data.
        schedule: How parameters are trained.
        conditions: How it is carried out.
        task: What is learnt, as JSON values: a run of another task is another run.
        precision: The dtype of products.
        measures: Functions that measure the model now and then.
        validate: Measures how well it retrieves.
        progress: Where to show progress.

    Raises:
        UsageError: The output holds a finished run of another identity.
        LlaraEvalError: See :func:`llara_eval.training.loop.train` and
            :func:`llara_eval.training.checkpoint.save_checkpoint`.
    """
    identity = {
        **task,
        "schedule": asdict(schedule),
        "base": subject.base,
        "data": rows.fingerprint,
        "precision": str(precision),
        **{name: getattr(conditions, name) for name in ("micro_tokens", "compiled", "merge")},
    }
    if _is_finished(conditions, identity):
        return
    tokenizer, templates = subject.tokenizer, subject.templates
    if validate is not None:
        how = {"micro_tokens": conditions.micro_tokens, "precision": precision}
        measures = [*measures, partial(validate, objective.model, tokenizer, templates, **how)]
    declared = {TRAINING_FILES: {**subject.training_files, **rows.sources}}
    steps = train(
        objective,
        rows,
        schedule,
        conditions.output,
        identity=identity,
        save_minutes=conditions.save_minutes,
        evaluate=(lambda: dict(ChainMap(*(dict(measure()) for measure in measures)))) if measures else None,
        evaluate_every=conditions.evaluate_every,
        progress=progress,
    )
    save_checkpoint(
        subject.model,
        tokenizer,
        templates,
        conditions.output,
        expected=sample_embeddings(objective.model, tokenizer, templates),
        merge=conditions.merge,
        record={**identity, **declared, "steps": steps, "rows": len(rows), "provenance": describe()},
    )
    if rank() == 0:
        discard(conditions.output)


def _is_finished(conditions: Conditions, identity: Mapping[str, Any]) -> bool:
    """Say whether the run is finished already; remove it first if it shall start again."""
    output = conditions.output
    if conditions.on_existing == "always":
        if rank() == 0:
            shutil.rmtree(output, ignore_errors=True)
        barrier()
    if not (output / RECORD).is_file():
        return False
    record = read_record(output / RECORD, dict[str, Any])
    refuse_other(record, identity, f"{output} holds a finished run")
    logger.info("%s is finished; --on-existing always starts again", output)
    return True
