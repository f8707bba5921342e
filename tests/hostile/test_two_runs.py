"""Two training runs with one output: the second is told who has it, and the first is not disturbed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkout import ROOT


@pytest.mark.slow
def test_a_second_run_with_the_same_output_is_refused(tmp_path: Path) -> None:
    import parts

    for make in ("collection", "llama"):
        parts.copy(parts.make(make, tmp_path / "parts", lambda room, words: None), tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LLARA_EVAL_HOME": str(tmp_path / "home")}
    position = parts.TRAIN.index("--steps") + 1
    words = (*parts.TRAIN[:position], "100000", *parts.TRAIN[position + 1 :])
    command = [sys.executable, "-m", "llara_eval", *words]
    first = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + 120
        while not any((tmp_path / "out/tuned").glob("state/step-*/run.json")) and time.monotonic() < end:
            time.sleep(0.1)
        second = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert first.poll() is None, "the first run was disturbed"
        assert second.returncode not in (0, 1)
        assert "Traceback" not in second.stderr
        assert "tuned" in second.stderr
        assert str(first.pid) in second.stderr
    finally:
        first.terminate()
        first.communicate()
