"""How a model's layers are compiled."""

import importlib
import os
import shutil
from typing import Any

import torch
from torch import nn

from llara_eval.core.errors import MissingPartError
from llara_eval.encoding.model_facts import layers_of

_VARIANTS = 64
"""Most kernels of one layer: training and evaluation, with and without gradients, masks, batches of one.

Beyond them a call is an error. By torch's own limit, soon reached, layers would silently run uncompiled, and
with other dropout in one pass of a gradient cache than in the next.
"""


def compile_layers(model: nn.Module, device: torch.device) -> None:
    """Compile every layer in place, when it is first used; the names of parameters stay.

    The layers are alike, so that one is compiled for all of them. Elementwise work is fused, and what it
    makes is computed again on the way back instead of kept; so are weights rounded for a product, which
    torch would otherwise keep for every layer.

    Args:
        model: A transformers model, peft around it or not, not sharded yet.
        device: Where it will be.

    A layer that cannot be compiled as a whole is an error when it is first used.

    Raises:
        MissingPartError: There is no C++ compiler for a CPU.
    """
    known = [os.environ.get("CXX", ""), "g++", "clang++"]
    if device.type == "cpu" and not any(shutil.which(name) for name in known if name):
        raise MissingPartError(
            "compiling needs a C++ compiler on a CPU, and neither CXX, g++ nor clang++ is one: "
            "apt-get install g++ (or your system's way), or go without"
        )
    settings: Any = importlib.import_module("torch._dynamo").config
    settings.recompile_limit = max(settings.recompile_limit, _VARIANTS)
    partitioner: Any = importlib.import_module("torch._functorch.config")
    partitioner.ban_recompute_materialized_backward = False
    for layer in layers_of(model):
        part: Any = layer
        part.compile(dynamic=True, fullgraph=True)
