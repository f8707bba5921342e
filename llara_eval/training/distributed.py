"""The processes of a training run: a model is sharded over them, and they exchange numbers and tensors.

In a run of one process, nothing is sharded, and each exchange returns its argument.
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
    """Join the other processes that torchrun started, if any, and leave them at the end.

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
    """Make sums on a GPU independent of the order in which threads finish."""
    settings: Any = deterministic
    settings.fill_uninitialized_memory = False  # filling helps to find mistakes, and costs time
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def distribute(model: Model, device: torch.device) -> Model:
    """Move a model to its device, in place, and shard it if there are other processes.

    The weights of a decoder layer are gathered when the layer is needed; those of embedding matrix, final
    norm and LM head are gathered with the outermost module.
    """
    if not dist.is_initialized():
        return model.to(device)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for layer in layers_of(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def reshard(model: nn.Module) -> None:
    """Release the weights that a pass without gradients has gathered; an optimizer needs the shards."""
    if isinstance(model, FSDPModule):
        model.reshard()


def synchronise(model: nn.Module, enabled: bool) -> None:
    """Set whether the next backward pass exchanges gradients between processes."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(enabled)


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
    """Return the first process's value in all processes; it must be picklable."""
    values = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(values, src=0)
    return values[0]


def total(value: float) -> float:
    """Return the sum of a number over all processes."""
    return _reduced(value, dist.ReduceOp.SUM)


def largest(value: int) -> int:
    """Return the largest value of a number over all processes."""
    return int(_reduced(value, dist.ReduceOp.MAX))


def gather(tensor: Tensor) -> Tensor:
    """Return the rows of all processes, in the order of the processes.

    The gradient of a row is summed over all processes and goes back to the process that the row came from;
    ``torch.distributed.all_gather`` alone has no gradient.

    Args:
        tensor: (n, …) rows of this process; n may differ between processes.
    """
    if world() == 1:
        return tensor
    size = torch.tensor([tensor.shape[0]], device=tensor.device)
    sizes = [torch.zeros_like(size) for _ in range(world())]
    dist.all_gather(sizes, size)
    counts = [int(count) for count in sizes]
    padding = tensor.new_zeros(max(counts) - tensor.shape[0], *tensor.shape[1:])
    gathered = cast("tuple[Tensor, ...]", all_gather(torch.cat([tensor, padding])))  # type: ignore[no-untyped-call]
    return torch.cat([rows[:count] for rows, count in zip(gathered, counts, strict=True)])


def _reduced(value: float, operation: dist.ReduceOp.RedOpType) -> float:
    if world() == 1:
        return value
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else "cpu"
    shared = torch.tensor(float(value), dtype=torch.float64, device=device)
    dist.all_reduce(shared, operation)
    return float(shared)
