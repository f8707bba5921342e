"""The training state of an unfinished run, from which the same command goes on exactly.

``state/step-00000120/`` holds the trained parameters and the optimizer's moments as safetensors (each
process writes its shards) and ``run.json``. Nothing else needs keeping: data order, negatives and dropout
are derived from the seed and the step.
"""

import json
import shutil
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save as save_shards

from llara_eval.core.decode import read_record
from llara_eval.core.errors import UsageError
from llara_eval.core.files import write_json
from llara_eval.core.folders import atomic_folder
from llara_eval.training.distributed import barrier, from_first, rank

_FOLDER = "state"
_RUN = "run.json"


@dataclass(frozen=True, slots=True)
class SavedRun:
    """What ``run.json`` says of a training state.

    Attributes:
        step: Optimizer steps done.
        identity: What makes the run the one it is, as JSON values.
    """

    step: int
    identity: dict[str, Any]

    def __post_init__(self) -> None:
        """Refuse a training state that was saved before the first step.

        Raises:
            ValueError: ``step`` is below 1.
        """
        if self.step < 1:
            raise ValueError(f"step must be at least 1, found {self.step}")


def save(output: Path, step: int, state: Mapping[str, Tensor], identity: Mapping[str, Any]) -> None:
    """Keep the training state and drop the one before; whole or not at all.

    The first process makes the folder and gives it its name in the end; all processes write into it.

    Args:
        output: The folder of the run.
        step: Optimizer steps done.
        state: Tensors by name; sharded ones are written by the processes that hold them.
        identity: What makes this run the one it is, as JSON values.
    """
    folder = output / _FOLDER / f"step-{step:08d}"
    with atomic_folder(folder, replace=True) if rank() == 0 else nullcontext() as made:
        unfinished = from_first(made)
        with _no_remark_on_one_process():
            save_shards(
                dict(state),
                storage_writer=HuggingFaceStorageWriter(str(unfinished), save_distributed=True),
            )
        if made is not None:
            write_json(made / _RUN, asdict(SavedRun(step, dict(identity))))
    if rank() == 0:
        for earlier in _kept(output)[:-1]:
            shutil.rmtree(earlier)
    barrier()


def restore(output: Path, state: Mapping[str, Tensor], identity: Mapping[str, Any]) -> int:
    """Load the last training state into the tensors given.

    Returns:
        The optimizer steps it was saved after; 0 if there is none.

    Raises:
        UsageError: The training state belongs to another run.
        DataError: Its ``run.json`` is malformed.
    """
    kept = _kept(output)
    if not kept:
        return 0
    saved = read_record(kept[-1] / _RUN, SavedRun)
    refuse_other(saved.identity, identity, f"{output} holds an unfinished run")
    with _no_remark_on_one_process():
        load(dict(state), storage_reader=HuggingFaceStorageReader(str(kept[-1])))
    return saved.step


def refuse_other(record: Mapping[str, Any], identity: Mapping[str, Any], what: str) -> None:
    """Raise if a record is of another run than this one.

    Args:
        record: The identity of the recorded run; it may have other fields, too.
        identity: The identity of this run.
        what: Begins the message.

    Raises:
        UsageError: The two identities differ.
    """
    recorded, current = (
        _flat(json.loads(json.dumps({key: one.get(key) for key in identity}))) for one in (record, identity)
    )
    differing = [
        f"{key} ({recorded.get(key, 'nothing')} there, {current.get(key, 'nothing')} now)"
        for key in sorted({*recorded, *current})
        if recorded.get(key, "nothing") != current.get(key, "nothing")
    ]
    if differing:
        raise UsageError(
            f"{what} with other {', '.join(differing)}; give the same command again, --on-existing always to "
            "start again, or another --output"
        )


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return the values in nested dictionaries, each by its path."""
    if not isinstance(value, dict):
        return {name: value}
    return {
        path: leaf
        for key, part in value.items()
        for path, leaf in _flat(part, f"{name}.{key}" if name else key).items()
    }


def discard(output: Path) -> None:
    """Drop all training states of a run."""
    shutil.rmtree(output / _FOLDER, ignore_errors=True)


def _kept(output: Path) -> list[Path]:
    return sorted(path.parent for path in (output / _FOLDER).glob(f"step-*/{_RUN}"))


class _no_remark_on_one_process(warnings.catch_warnings):
    """Silences the library's remark that there is only one process, which is meant."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
