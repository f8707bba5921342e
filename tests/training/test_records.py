"""Damaged records of training are refused with a message that names the file and the place in it."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from llara_eval.core.errors import DataError, UsageError
from llara_eval.datasets import contamination
from llara_eval.datasets.contamination import RECORD, Finding, declared
from llara_eval.training import job, state
from llara_eval.training.config import Conditions
from llara_eval.training.log import LOG, Journal

WEIGHTS = {"weight": torch.ones(2, 3)}
IDENTITY = {"data": "a", "schedule": {"seed": 42}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run")
    state.save(output, 3, WEIGHTS, IDENTITY)
    return output


def test_a_training_state_is_restored_in_place(saved: Path) -> None:
    weights = {"weight": torch.zeros(2, 3)}
    assert state.restore(saved, weights, IDENTITY) == 3
    assert torch.equal(weights["weight"], WEIGHTS["weight"])
    (folder,) = (saved / "state").iterdir()
    assert folder.name == "step-00000003", "nothing unfinished is left"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "Expected `object`, got `array`"),
        ('{"identity": {}}', "missing required field `step`"),
        ('{"step": null, "identity": {}}', r"Expected `int`, got `null` - at `\$.step`"),
        ('{"step": NaN, "identity": {}}', "cannot be read as JSON"),
        ('{"step": "3", "identity": {}}', r"Expected `int`, got `str` - at `\$.step`"),
        ('{"step": true, "identity": {}}', r"Expected `int`, got `bool` - at `\$.step`"),
        ('{"step": 3, "identity": []}', r"Expected `object`, got `array` - at `\$.identity`"),
    ],
)
def test_a_malformed_training_state_is_named(saved: Path, tmp_path: Path, record: str, message: str) -> None:
    output = shutil.copytree(saved, tmp_path / "run")
    (output / "state" / "step-00000003" / "run.json").write_text(record)
    with pytest.raises(DataError, match=message) as error:
        state.restore(output, WEIGHTS, IDENTITY)
    assert "step-00000003/run.json" in str(error.value)


@pytest.mark.parametrize("name", ["run.json", "checksums.json", "*.safetensors"])
def test_a_training_state_with_one_wrong_bit_is_not_resumed(saved: Path, tmp_path: Path, name: str) -> None:
    output = shutil.copytree(saved, tmp_path / "run")
    (path,) = (output / "state" / "step-00000003").glob(name)
    content = bytearray(path.read_bytes())
    position = content.index(b"3") if name == "run.json" else len(content) - 8
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="step-00000003 is damaged"):
        state.restore(output, WEIGHTS, IDENTITY)


@pytest.mark.parametrize("identity", [{}, {"data": None}, {"data": 2.5, "schedule": 3}])
def test_a_training_state_that_says_something_else_is_of_another_run(
    saved: Path, tmp_path: Path, identity: dict[str, Any]
) -> None:
    output = shutil.copytree(saved, tmp_path / "run")
    path = output / "state" / "step-00000003" / "run.json"
    path.write_text(json.dumps({"step": 3, "identity": identity}))
    with pytest.raises(UsageError, match="holds an unfinished run with other data"):
        state.restore(output, WEIGHTS, IDENTITY)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("[]", "Expected `object`, got `array`"),
        ('{"training_files": null}', r"Expected `object`, got `null` - at `\$.training_files`"),
        ('{"training_files": {"a": null}}', "Expected `str`, got `null`"),
        ('{"training_files": {"a": NaN}}', "cannot be read as JSON"),
        ('{"training_files": ["a"]}', "Expected `object`, got `array`"),
    ],
)
def test_a_malformed_declaration_is_named(tmp_path: Path, record: str, message: str) -> None:
    (tmp_path / RECORD).write_text(record)
    with pytest.raises(DataError, match=message) as error:
        declared(tmp_path)
    assert f"{tmp_path / RECORD}" in str(error.value)


@pytest.mark.parametrize("record", ["[]", "null", "{", "3"])
def test_a_malformed_record_of_a_finished_run_is_named(tmp_path: Path, record: str) -> None:
    (tmp_path / RECORD).write_text(record)
    with pytest.raises(DataError, match=RECORD):
        job._is_finished(Conditions(output=tmp_path, micro_tokens=1), IDENTITY)


@pytest.mark.parametrize(
    "line", ['{"kind": "train"}', '{"kind": "train", "step": "1"}', '{"kind": null, "step": 1}', "{1}"]
)
def test_a_malformed_line_of_the_log_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / LOG).write_text(f'{{"kind": "train", "step": 1, "loss": 2.5}}\n{line}\n')
    with pytest.raises(DataError, match=f"{LOG}:2"):
        Journal(tmp_path, 1, 3)


def test_a_line_that_was_being_written_is_dropped_and_so_are_later_steps(tmp_path: Path) -> None:
    entries = [f'{{"kind": "train", "step": {step}, "loss": NaN}}' for step in (1, 2)]
    (tmp_path / LOG).write_text("\n".join([*entries, '{"kind": "tr']))
    with Journal(tmp_path, 1, 3):
        assert (tmp_path / LOG).read_text() == entries[0] + "\n"


FINDING = Finding(
    **{"file": "t.jsonl", "sha256": "0" * 64, "texts": {"query": 1}, "dataset": "d", "split": "test"},
    **{"dataset_fingerprint": "1" * 64, "tested": {"query": 2}, "seen": {"query": {"any": {"exact": 1}}}},
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tested": {"query": None}}, "Expected `int`, got `null`"),
        ({"tested": {"query": float("nan")}}, "cannot be read as JSON"),
        ({"seen": {"query": {"any": 1}}}, "Expected `object`, got `int`"),
        ({"file": 3}, r"Expected `str`, got `int` - at `\$.file`"),
    ],
)
def test_a_malformed_finding_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = contamination.keep(tmp_path, FINDING)
    assert contamination.read_all(tmp_path) == ([FINDING], [])
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    findings, (error,) = contamination.read_all(tmp_path)
    assert findings == []
    assert str(path) in str(error)
    assert re.search(message, str(error))
