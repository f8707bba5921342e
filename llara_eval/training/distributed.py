"""The processes of a training run: joining them, sharding a model over them, talking to them.

Alone, one process joins nobody, shards nothing, and each exchange returns what it was given.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.nn.functional import all_gather
from torch.utils import deterministic

from llara_eval.encoding.devices import set_up
from llara_eval.encoding.model_facts import layers_of

Model = TypeVar("Model", bound=nn.Module)
Value = TypeVar("Value")


@contextmanager
def processes() -> Iterator[torch.device]:
    """Join the other processes if torchrun started some, and leave them at the end.

    Yields:
        The device of this process.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    set_up(device)
    with _repeatable() if device.type == "cuda" else nullcontext():
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            yield device
            return
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        try:
            yield device
        finally:
            dist.destroy_process_group()


@contextmanager
def _repeatable() -> Iterator[None]:
    """Let a GPU add in the same order every time, instead of as the numbers come."""
    settings: Any = deterministic
    settings.fill_uninitialized_memory = False  # it finds mistakes, and costs time
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def distribute(model: Model, device: torch.device) -> Model:
    """Move a model to its device, in place, and shard it if there are other processes.

    Every layer of the decoder is gathered when it is needed; embedding matrix, final norm and head are
    gathered with the outermost module.
    """
    if not dist.is_initialized():
        return model.to(device)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for layer in layers_of(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def reshard(model: nn.Module) -> None:
    """Release the parameters that a pass without gradients has gathered: an optimizer is made of shards."""
    if isinstance(model, FSDPModule):
        model.reshard()


def synchronise(model: nn.Module, on: bool) -> None:
    """Say whether the next backward pass shall exchange gradients between processes."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(on)


def world() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def barrier() -> None:
    """Wait for the other processes."""
    if dist.is_initialized():
        dist.barrier()


def from_first(value: Value) -> Value:
    """Return what the first process gave, in all processes; it must be picklable."""
    values = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(values, src=0)
    return values[0]


def total(value: float) -> float:
    """Return the sum of a number over all processes."""
    return _reduced(value, dist.ReduceOp.SUM)


def largest(value: int) -> int:
    """Return the largest of a number over all processes."""
    return int(_reduced(value, dist.ReduceOp.MAX))


def gather(tensor: Tensor) -> Tensor:
    """Return the rows of all processes, in the order of their numbers.

    Gradients go back to the process that gave a row, summed over all that used it: the plain
    collective has no gradient at all.

    Args:
        tensor: (n, …); n may differ between processes.
    """
    if world() == 1:
        return tensor
    size = torch.tensor([tensor.shape[0]], device=tensor.device)
    sizes = [torch.zeros_like(size) for _ in range(world())]
    dist.all_gather(sizes, size)
    rows = [int(one) for one in sizes]
    padding = tensor.new_zeros(max(rows) - tensor.shape[0], *tensor.shape[1:])
    parts = cast("tuple[Tensor, ...]", all_gather(torch.cat([tensor, padding])))  # type: ignore[no-untyped-call]
    return torch.cat([part[:count] for part, count in zip(parts, rows, strict=True)])


def _reduced(value: float, operation: dist.ReduceOp.RedOpType) -> float:
    if world() == 1:
        return value
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else "cpu"
    shared = torch.tensor(float(value), dtype=torch.float64, device=device)
    dist.all_reduce(shared, operation)
    return float(shared)
