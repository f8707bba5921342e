"""Freed memory is kept where glibc allocates it."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from llara_eval.encoding.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    torch.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is meant")
def test_tensors_take_the_place_of_freed_ones() -> None:
    """Not from the first one on: the heap grows until a hole has room for the alignment too (2 to 9)."""
    mapped, kept = (
        int(subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, check=True).stdout)
        for how in ("mapped", "kept")
    )
    assert kept < mapped / 2
