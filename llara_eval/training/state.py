"""A training run on disk, from which the same command goes on exactly.

``state/step-00000120/`` holds the trained parameters and the optimiser's moments as safetensors (each
process writes its shards) and ``run.json``. Nothing else needs keeping: data order, negatives and
dropout are derived from the seed and the step.
"""

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save as save_shards

from llara_eval.errors import UsageError
from llara_eval.files import write_json
from llara_eval.training.distributed import rank

_FOLDER = "state"
_RUN = "run.json"


def save(output: Path, step: int, state: Mapping[str, Tensor], identity: Mapping[str, Any]) -> None:
    """Keep the state after ``step`` updates and drop the one before; whole or not at all.

    Args:
        output: The folder of the training run.
        step: Updates done.
        state: Tensors by name; sharded ones are written by the processes that hold them.
        identity: What makes this run the one it is.
    """
    folder = output / _FOLDER / f"step-{step:08d}"
    unfinished = folder.with_name(f".{folder.name}.tmp")
    if rank() == 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    _wait()
    with _single_process_is_meant():
        writer = HuggingFaceStorageWriter(str(unfinished), save_distributed=True)
        save_shards(dict(state), storage_writer=writer)
    if rank() == 0:
        write_json(unfinished / _RUN, {"step": step, **identity})
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
        for old in _kept(output)[:-1]:
            shutil.rmtree(old)
    _wait()


def restore(output: Path, state: Mapping[str, Tensor], identity: Mapping[str, Any]) -> int:
    """Load the last state into the tensors given.

    Returns:
        The updates it was taken after; 0 if there is none.

    Raises:
        UsageError: The state belongs to another run.
    """
    kept = _kept(output)
    if not kept:
        return 0
    record = json.loads((kept[-1] / _RUN).read_text(encoding="utf-8"))
    step = int(record.pop("step"))
    wanted = json.loads(json.dumps(identity))
    differing = sorted(key for key in {*record, *wanted} if record.get(key) != wanted.get(key))
    if differing:
        raise UsageError(
            f"{output} holds an unfinished run with other {', '.join(differing)}; give the same command to "
            "go on, --on-existing always to start again, or another --output"
        )
    with _single_process_is_meant():
        load(dict(state), storage_reader=HuggingFaceStorageReader(str(kept[-1])))
    return step


def discard(output: Path) -> None:
    """Drop all states of a run."""
    shutil.rmtree(output / _FOLDER, ignore_errors=True)


def _kept(output: Path) -> list[Path]:
    return sorted(path.parent for path in (output / _FOLDER).glob(f"step-*/{_RUN}"))


def _wait() -> None:
    if dist.is_initialized():
        dist.barrier()


class _single_process_is_meant(warnings.catch_warnings):
    """Silences the remark that there is only one process."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
