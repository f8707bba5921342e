"""Imports change no setting of the process; settings of torch are changed when a checkpoint is opened."""

import platform
import subprocess
import sys

import pytest
import torch
from rooms import modules
from tiny_models import save_checkpoint

from llara_eval.encoding import devices

IMPORTS = """
import importlib, os, sys
import torch, transformers

def switches():
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    return {
        "environment": dict(os.environ),
        "attention": [
            getattr(cuda, f"{name}_sdp_enabled")() for name in ("cudnn", "flash", "mem_efficient", "math")
        ],
        "cudnn": [cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32],
        "products": [cuda.matmul.allow_tf32, torch.get_float32_matmul_precision()],
        "determinism": torch.are_deterministic_algorithms_enabled(),
        "types": [torch.get_default_dtype(), torch.get_default_device()],
        "threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "gradients": torch.is_grad_enabled(),
        "seed": torch.initial_seed(),
    }

before = switches()
for name in sys.argv[1:]:
    importlib.import_module(name)
after = switches()
for name, value in before.items():
    assert after[name] == value, (name, value, after[name])
"""

MEMORY = """
import resource, sys, torch
from llara_eval.encoding.devices import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    torch.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

KEPT = """
from pathlib import Path
import torch
from llara_eval.encoding.devices import KeptMemory, keep_freed_memory

def private_mib():
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return (resident - shared) >> 8  # pages of 4 KiB

keep_freed_memory()
memory = KeptMemory()
memory.limit()
usual = private_mib()
blocks = [(torch.ones(1 << 18), torch.ones(1 << 8)) for _ in range(1000)]  # 1 MiB, and one that stays
pins = [pin for _, pin in blocks]
del blocks
kept = private_mib()
memory.limit()
print(kept - usual, private_mib() - usual)
"""


def test_imports_change_neither_the_environment_nor_settings_of_torch() -> None:
    names = [name for name in modules() if not name.endswith("__main__")]
    done = subprocess.run([sys.executable, "-c", IMPORTS, *names], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_process_is_set_up_where_a_checkpoint_is_opened(tmp_path, monkeypatch) -> None:
    from llara_eval.checkpoints import load as checkpoints

    calls: list[torch.device] = []
    monkeypatch.setattr(checkpoints, "set_up", calls.append)
    encoder = checkpoints.load(save_checkpoint(tmp_path / "model"), dtype="float32")
    assert calls == [encoder.device]


def test_a_gpu_has_reproducible_products_and_no_attention_by_cudnn(monkeypatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", lambda on: calls.append(on))
    calls: list[bool] = []
    environment: dict[str, str] = {}
    monkeypatch.setattr(devices.os, "environ", environment)
    devices.set_up(torch.device("cuda"))
    assert environment == {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    assert calls == [False]


def test_the_description_of_a_cpu_names_what_decides_the_last_bits() -> None:
    described = devices.describe(torch.device("cpu"))
    assert described["device"] == "cpu"
    assert described["threads"] == torch.get_num_threads()
    assert described["instructions"] == torch.backends.cpu.get_cpu_capability()


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is meant")
def test_freed_blocks_go_back_once_they_are_much() -> None:
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True)
    kept, left = map(int, done.stdout.split())
    assert kept > 900
    assert left < 200


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is meant")
def test_tensors_reuse_freed_memory() -> None:
    """The first few tensors do not: the heap grows until a hole has room for the alignment too (2 to 9)."""
    mapped, kept = (
        int(subprocess.run([sys.executable, "-c", MEMORY, how], capture_output=True, check=True).stdout)
        for how in ("mapped", "kept")
    )
    assert kept < mapped / 2


@pytest.mark.parametrize("able", [True, False])
def test_vectors_are_computed_in_float32_and_products_of_training_in_bfloat16(monkeypatch, able) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able})
    assert devices.default_dtype(cpu) is torch.float32
    assert devices.has_bfloat16(cpu) is able
