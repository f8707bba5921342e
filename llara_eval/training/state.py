"""The training state of an unfinished run, from which the same command resumes the run exactly.

``state/step-00000120/`` holds the trained parameters and the optimizer's moments as safetensors (each
process writes its shards) and ``run.json``. Nothing else is saved, since data order, negatives and dropout
follow from the seed and the step.
"""

import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save as save_shards

from llara_eval.core.decode import read_record
from llara_eval.core.differences import differences
from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.files import remove_drafts, write_json
from llara_eval.core.folders import atomic_folder
from llara_eval.core.sealed import CHECKSUMS, is_whole, seal_folder
from llara_eval.training.distributed import barrier, from_first, rank

STATES = "state"
"""The folder of training states in the folder of a run."""

_RUN = "run.json"


@dataclass(frozen=True, slots=True)
class SavedRun:
    """The content of ``run.json``.

    Attributes:
        step: Optimizer steps done.
        identity: The JSON values that distinguish the run from others.
    """

    step: int
    identity: dict[str, Any]


def save(output: Path, step: int, state: Mapping[str, Tensor], identity: Mapping[str, Any]) -> None:
    """Save the training state, whole or not at all, and remove the one before.

    The first process makes the folder and gives it its name in the end; all processes write into it.

    Args:
        output: The folder of the run.
        step: Optimizer steps done.
        state: Tensors by name; a sharded tensor is written by the processes that hold its shards.
        identity: The JSON values that distinguish this run from others.
    """
    folder = output / STATES / f"step-{step:08d}"
    with atomic_folder(folder, replace=True) if rank() == 0 else nullcontext() as draft:
        unfinished = from_first(draft)
        with _without_warning_of_one_process():
            save_shards(
                dict(state),
                storage_writer=HuggingFaceStorageWriter(str(unfinished), save_distributed=True),
            )
        if draft is not None:
            write_json(draft / _RUN, asdict(SavedRun(step, dict(identity))))
            seal_folder(draft)
    if rank() == 0:
        for earlier in _saved_states(output)[:-1]:
            shutil.rmtree(earlier)
    barrier()


def restore(output: Path, state: Mapping[str, Tensor], identity: Mapping[str, Any]) -> int:
    """Load the last training state of a run into the tensors of ``state``, if one was saved.

    Returns:
        The number of optimizer steps after which it was saved, or 0.

    Raises:
        UsageError: The training state belongs to another run.
        DataError: The training state is damaged.
    """
    folders = _saved_states(output)
    if not folders:
        return 0
    saved = read_record(folders[-1] / _RUN, SavedRun)
    refuse_other(saved.identity, identity, f"{output} holds an unfinished run")
    if not from_first(rank() > 0 or is_whole(folders[-1])):
        raise DataError(
            f"{folders[-1]} is damaged: its files are not those of its {CHECKSUMS}; --on-existing always "
            "starts the run again"
        )
    with _without_warning_of_one_process():
        load(dict(state), storage_reader=HuggingFaceStorageReader(str(folders[-1])))
    return saved.step


def refuse_other(record: Mapping[str, Any], identity: Mapping[str, Any], finding: str) -> None:
    """Raise if a record belongs to another run than this one.

    Args:
        record: The identity of the recorded run; it may have other fields, too.
        identity: The identity of this run.
        finding: The beginning of the message, which names the folder of the recorded run.

    Raises:
        UsageError: The two identities differ.
    """
    differing = differences({key: record.get(key) for key in identity}, identity)
    if differing:
        raise UsageError(
            f"{finding} with other {', '.join(differing)}; give the same command again, --on-existing always "
            "to start again, or another --output"
        )


def discard(output: Path) -> None:
    """Remove all training states of a run."""
    if (output / STATES).is_dir():
        for folder in (output / STATES).glob("step-*"):
            shutil.rmtree(folder)
        remove_drafts(output / STATES)
        with suppress(OSError):  # other files stay
            (output / STATES).rmdir()


def _saved_states(output: Path) -> list[Path]:
    return sorted(path.parent for path in (output / STATES).glob(f"step-*/{_RUN}"))


@contextmanager
def _without_warning_of_one_process() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
