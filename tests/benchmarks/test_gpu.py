"""The script for a machine with a GPU, on a machine that may have none."""

import os
import subprocess
import sys

import pytest
from checkout import ROOT
from tiny_models import save_checkpoint


@pytest.mark.nightly
def test_a_dry_run_does_all_that_a_gpu_would(tmp_path) -> None:
    environment = {
        **os.environ,
        "PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
        "LLARA_EVAL_HOME": str(tmp_path / "home"),
    }
    command = [
        "bash",
        str(ROOT / "benchmarks" / "gpu.sh"),
        "--dry-run",
        str(save_checkpoint(tmp_path / "tiny")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [line for line in done.stdout.splitlines() if line.startswith("== ")]
    assert steps == ["== tests", "== evaluate", "== adapt", "== finetune"]
    assert done.stdout.count("times the tokens per second") == 2
