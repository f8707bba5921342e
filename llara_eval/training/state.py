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

from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save as save_shards

from llara_eval.core.errors import UsageError
from llara_eval.core.files import write_json
from llara_eval.training.distributed import barrier, rank

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
    barrier()
    with _single_process_is_meant():
        writer = HuggingFaceStorageWriter(str(unfinished), save_distributed=True)
        save_shards(dict(state), storage_writer=writer)
    if rank() == 0:
        write_json(unfinished / _RUN, {"step": step, **identity})
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
        for old in _kept(output)[:-1]:
            shutil.rmtree(old)
    barrier()


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
    refuse_other(record, identity, f"{output} holds an unfinished run")
    with _single_process_is_meant():
        load(dict(state), storage_reader=HuggingFaceStorageReader(str(kept[-1])))
    return int(record["step"])


def refuse_other(record: Mapping[str, Any], identity: Mapping[str, Any], what: str) -> None:
    """Raise if what is recorded of a run is not what makes this run the one it is.

    Args:
        record: What is recorded, and maybe more.
        identity: Of this run.
        what: Begins the message.

    Raises:
        UsageError: It is another run.
    """
    there, asked = (
        _flat(json.loads(json.dumps({key: one.get(key) for key in identity}))) for one in (record, identity)
    )
    differing = [
        f"{key} ({there.get(key, 'nothing')} there, {asked.get(key, 'nothing')} now)"
        for key in sorted({*there, *asked})
        if there.get(key, "nothing") != asked.get(key, "nothing")
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
    """Drop all states of a run."""
    shutil.rmtree(output / _FOLDER, ignore_errors=True)


def _kept(output: Path) -> list[Path]:
    return sorted(path.parent for path in (output / _FOLDER).glob(f"step-*/{_RUN}"))


class _single_process_is_meant(warnings.catch_warnings):
    """Silences the remark that there is only one process."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
