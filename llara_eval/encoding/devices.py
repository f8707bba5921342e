"""The device and the dtype of a model, and the settings of this process for them."""

import ctypes
import os
import sys
from pathlib import Path

import torch

from llara_eval.core.errors import UsageError

_DTYPES = {
    torch.float32: ("float32", "fp32", "float"),
    torch.bfloat16: ("bfloat16", "bf16"),
    torch.float16: ("float16", "fp16", "half"),
}
"""Dtype → its names."""

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # malloc.h of glibc


def default_device() -> torch.device:
    """Return the CUDA device of this process if there are CUDA devices, else the CPU.

    Processes that torchrun numbers on a machine (``LOCAL_RANK``) take its devices in turn.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if "LOCAL_RANK" in os.environ:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    return torch.device("cuda")


def set_up(device: torch.device) -> None:
    """Change settings of this process for computations on a device, before a model is read.

    On a GPU, cuBLAS is asked for reproducible products, which training requires; it reads this setting once.
    cuDNN's attention is switched off: it makes a plan for every new shape, and hardly two of our batches have
    the same shape. Without it fine-tuning took less than half of the time (H100, torch 2.11). For a CPU see
    :func:`keep_freed_memory`.
    """
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cuda.enable_cudnn_sdp(False)
    elif device.type == "cpu":
        keep_freed_memory()


def keep_freed_memory() -> None:
    """Tell glibc to keep large freed blocks of memory instead of returning them to the kernel.

    Otherwise the kernel maps and zeroes every large tensor page by page, which takes a tenth (float32) to a
    quarter (bfloat16) of an adaptation step on a CPU. Memory grows where sizes vary, see
    :class:`KeptMemory`. Only Linux with
    glibc has this setting; elsewhere nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


class KeptMemory:
    """Limits what :func:`keep_freed_memory` keeps in training, where it grows with every step.

    The blocks that a batch frees seldom fit the next batch, whose sequences have other lengths. Once this
    process is half as large again as it was after its first step, all free blocks go back to the kernel.
    """

    def __init__(self) -> None:
        self._usual = 0
        self._is_new = True
        self._return = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None

    def limit(self) -> None:
        """Return the free blocks if they have become too much; called after every step."""
        if self._return is None:
            return
        size = _private_bytes()
        if self._is_new:
            self._usual = max(self._usual, size)
            self._is_new = False
        elif size > 1.5 * self._usual:
            self._return(0)
            self._is_new = True


def _private_bytes() -> int:
    """Return the bytes of this process in memory that are not of a file (proc_pid_statm(5))."""
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def describe(device: torch.device) -> dict[str, str | int]:
    """Return the properties of a device that decide the last bits of a vector, for the record of a result.

    Equal bytes can be expected from the same model, engine, dtype and threads on the same kind of processor.

    Returns:
        ``device``, and of a GPU its name, ``gpu``, of a CPU ``threads`` and the ``instructions`` that torch
        uses (``ATEN_CPU_CAPABILITY`` may limit them).
    """
    if device.type == "cuda":
        return {"device": "cuda", "gpu": torch.cuda.get_device_name(device)}
    return {
        "device": device.type,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def default_dtype(device: torch.device) -> torch.dtype:
    """Return the fastest dtype whose vectors are those of float32: float16 on a GPU, else float32.

    Vectors are called equal if their cosine is at least .9999. bfloat16 rounds eight times as coarsely as
    float16 and does not reach that: its smallest cosine is .998 with all-MiniLM-L6-v2, whose nDCG@10 on
    SciFact becomes .6442 instead of .6451.
    """
    return torch.float16 if device.type == "cuda" else torch.float32


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for products in bfloat16.

    On a CPU without AVX-512 BF16 or AMX such a product is a hundred times slower than in float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def settle_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """Return the dtype of a name, in any case or by an alias; None chooses the :func:`default_dtype`.

    Raises:
        UsageError: The name is unknown.
    """
    return default_dtype(device) if name is None else named_dtype(name)


def named_dtype(name: str) -> torch.dtype:
    """Return the dtype of a name: ``float32`` (``fp32``), ``bfloat16`` (``bf16``) or ``float16`` (``fp16``).

    Raises:
        UsageError: The name is unknown.
    """
    for dtype, aliases in _DTYPES.items():
        if name.lower() in aliases:
            return dtype
    raise UsageError(f"dtype {name!r} is not one of {', '.join(aliases[0] for aliases in _DTYPES.values())}")
