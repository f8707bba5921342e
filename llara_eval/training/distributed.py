"""Talking to the other processes of a training run; alone, each of these is the identity."""

from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather


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
