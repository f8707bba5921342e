"""Where a model is computed, in which type, and how this process is set up for it."""

import ctypes
import os
import sys

import torch

from llara_eval.core.errors import UsageError

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # malloc.h of glibc


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


def set_up(device: torch.device) -> None:
    """Set the switches of this process with which a model is computed; called before a model is opened.

    On a GPU, cuBLAS is asked for products that repeat, which training insists on; it reads that once. cuDNN's
    attention is switched off: it makes a plan for every shape it has not seen, and hardly two of our batches
    have the same. Without it fine-tuning took less than half of the time (H100, torch 2.11). On a CPU, see
    :func:`keep_freed_memory`.
    """
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cuda.enable_cudnn_sdp(False)
    elif device.type == "cpu":
        keep_freed_memory()


def keep_freed_memory() -> None:
    """Tell glibc to keep large blocks that are freed, instead of giving them back to the kernel.

    On a CPU every large tensor is otherwise mapped, zeroed and unmapped anew, page by page: a tenth
    (float32) to a quarter (bfloat16) of an adaptation step. Peak memory grows by a few per cent. Elsewhere
    than on Linux with glibc this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def describe(device: torch.device) -> dict[str, str | int]:
    """Return what decides the last bits of a vector beside the model, for the record of a result.

    The same bytes come out on the same kind of processor, with the same engine, dtype and threads. On a CPU
    the instruction set is the one that torch computes with, which may be smaller than the processor's
    (``ATEN_CPU_CAPABILITY``); the processor's name is in every record.

    Returns:
        ``device``, and ``gpu`` (its name) or ``instructions`` and ``threads``.
    """
    if device.type == "cuda":
        return {"device": "cuda", "gpu": torch.cuda.get_device_name(device)}
    return {
        "device": device.type,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def default_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the processor computes it natively, else float32.

    On a CPU without AVX-512 BF16 or AMX a bfloat16 product is a hundred times slower than float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
        return torch.bfloat16 if native else torch.float32
    return torch.float32


def settle_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """Return the type of a name; None is what the processor supports.

    Raises:
        UsageError: The name is unknown.
    """
    if name is None:
        return default_dtype(device)
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in dtypes:
        raise UsageError(f"dtype {name!r} is not one of {', '.join(dtypes)}")
    return dtypes[name]
