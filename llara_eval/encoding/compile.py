"""Compilation of a model's layers by torch."""

import importlib
import os
import shutil
from typing import Any

import torch
from torch import nn

from llara_eval.core.errors import MissingPartError
from llara_eval.encoding.model_facts import layers_of

_VARIANTS = 64
"""The most variants of one compiled layer: training or evaluation, with or without gradients or masks, ….

A call that needs one more is an error. With torch's own, lower limit, layers would silently run uncompiled,
and dropout could differ between the two passes of a gradient cache.
"""


def compile_layers(model: nn.Module, device: torch.device) -> None:
    """Compile every layer in place, at its first call; the names of parameters do not change.

    The layers are alike, so one compilation serves all. Elementwise operations are fused, and the backward
    pass computes their results again instead of keeping them. It also rounds weights again for its products,
    since torch would otherwise keep the rounded weights of every layer.

    A layer that cannot be compiled as a whole raises torch's error at its first call.

    Args:
        model: A transformers model, with or without peft around it, not sharded yet.
        device: The device on which the model will compute.

    Raises:
        MissingPartError: The device is a CPU and there is no C++ compiler.
    """
    compilers = [os.environ.get("CXX", ""), "g++", "clang++"]
    if device.type == "cpu" and not any(map(shutil.which, compilers)):
        raise MissingPartError(
            "compiling needs a C++ compiler on a CPU, and neither CXX, g++ nor clang++ is one: "
            "install one (apt-get install g++), or do not compile"
        )
    settings: Any = importlib.import_module("torch._dynamo").config
    settings.recompile_limit = max(settings.recompile_limit, _VARIANTS)
    partitioner: Any = importlib.import_module("torch._functorch.config")
    partitioner.ban_recompute_materialized_backward = False
    for layer in layers_of(model):
        layer.compile(dynamic=True, fullgraph=True)
