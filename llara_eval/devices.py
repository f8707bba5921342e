"""Where a model is computed, and in which type."""

import torch

from llara_eval.errors import UsageError


def default_device() -> torch.device:
    """Return the first CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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
