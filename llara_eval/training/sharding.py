"""More than one process: FSDP2 under torchrun, one process by default."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.utils import deterministic

from llara_eval.encoding.devices import set_up
from llara_eval.encoding.model_facts import layers_of

Model = TypeVar("Model", bound=nn.Module)


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
    """Have a GPU add in the same order every time, where it would take whichever number comes first."""
    settings: Any = deterministic
    settings.fill_uninitialized_memory = False  # a check for mistakes, which costs time
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def place(model: Model, device: torch.device) -> Model:
    """Put a model on its device, in place, in shards if there are other processes.

    Every layer of the decoder is a unit that is gathered when it is needed; what is left (embeddings,
    final norm, head) is gathered with the outermost module.
    """
    if not dist.is_initialized():
        return model.to(device)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for layer in layers_of(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def shard_again(model: nn.Module) -> None:
    """Let go of parameters that a pass without gradients has gathered: an optimiser is made of shards."""
    if isinstance(model, FSDPModule):
        model.reshard()


def synchronise(model: nn.Module, on: bool) -> None:
    """Say whether the next backward pass shall exchange gradients between processes."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(on)
