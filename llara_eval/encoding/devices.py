"""Where a model is computed, and in which type."""

import os

import torch

from llara_eval.core.errors import UsageError

os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
"""Asks MKL, before it is first used, for products that depend neither on where operands lie in memory nor on
the number of threads: workers have different ones. It costs nothing that could be measured."""

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
"""Asks cuBLAS for products that repeat, which training insists on; it is read once."""

torch.backends.cuda.enable_cudnn_sdp(False)
"""cuDNN's attention makes a plan for every shape it has not seen, and hardly two of our batches have the
same: without it fine-tuning took less than half of the time (H100, torch 2.11)."""


def default_device() -> torch.device:
    """Return the CUDA device of this process if there are any, else the CPU.

    Where several processes of one machine are numbered (``LOCAL_RANK``, as torchrun does), its devices are
    dealt out among them.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if "LOCAL_RANK" in os.environ:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    return torch.device("cuda")


def default_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the processor computes it natively, else float32.

    On a CPU without AVX-512 BF16 or AMX a bfloat16 product is a hundred times slower than float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32
    return torch.float32


def settle_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """Return the type of a name; None is what the processor supports.

    Raises:
        UsageError: The name is unknown.
    """
    if name is None:
        return default_dtype(device)
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in kinds:
        raise UsageError(f"dtype {name!r} is not one of {', '.join(kinds)}")
    return kinds[name]
