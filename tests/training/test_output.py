"""The folder of a training run: files of others are neither replaced nor removed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.sealed import seal_folder
from llara_eval.datasets.contamination import RECORD
from llara_eval.training.config import Conditions
from llara_eval.training.output import check_output, clear, locked

MODEL = Path("/nowhere/model")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Return the folder of a run that was interrupted after its checkpoint was saved."""
    output = tmp_path / "out"
    for name in ("state/step-00000003/run.json", "tensorboard/events"):
        (output / name).parent.mkdir(parents=True)
        (output / name).touch()
    (output / "config.json").write_text("{}")
    (output / "model.safetensors").write_bytes(b"weights")
    seal_folder(output)
    (output / "checksums.json").write_text(
        json.dumps({name: value for name, value in listed(output).items() if "/" not in name})
    )
    (output / "log.jsonl").touch()
    (output / ".new.0123.x.tmp").mkdir()
    return output


def listed(output: Path) -> dict[str, str]:
    """Return the list of checksums."""
    checksums: dict[str, str] = json.loads((output / "checksums.json").read_text())
    return checksums


def check(output: Path, existing: str) -> None:
    """Check an output."""
    check_output(Conditions(output=output, on_existing=existing), MODEL)


def test_a_run_may_go_on_and_start_again_in_its_own_folder(output: Path) -> None:
    check(output, "only-missing")
    check(output, "always")
    with pytest.raises(UsageError, match=r"exists and holds .*choose another --output"):
        check(output, "refuse")


@pytest.mark.parametrize("name", ["thesis.tex", "train.jsonl", "tokenizer.json", "pictures/a.png", ".notes"])
@pytest.mark.parametrize("existing", ["only-missing", "always"])
def test_a_folder_with_a_file_of_the_user_is_refused(output: Path, name: str, existing: str) -> None:
    (output / name).parent.mkdir(exist_ok=True)
    (output / name).write_text("years of work")
    with pytest.raises(UsageError, match=f"holds {name.partition('/')[0]}, which no training run wrote"):
        check(output, existing)


def test_a_file_that_was_changed_since_is_the_users(output: Path) -> None:
    (output / "config.json").write_text('{"by": "hand"}')
    check(output, "only-missing")
    with pytest.raises(UsageError, match=r"holds config\.json, which no training run wrote or which changed"):
        check(output, "always")


def test_a_finished_run_is_left_alone_whatever_is_beside_it(output: Path) -> None:
    (output / RECORD).write_text("{}")
    (output / "README.md").write_text("a card")
    check(output, "only-missing")
    assert (output / "README.md").read_text() == "a card"


def test_clearing_removes_the_runs_files_alone(output: Path) -> None:
    (output / "state" / "notes.txt").write_text("years of work")
    clear(output)
    assert [path.relative_to(output).as_posix() for path in sorted(output.rglob("*"))] == [
        ".new.0123.x.tmp",  # of another machine, perhaps still in use
        "state",
        "state/notes.txt",
    ]


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    output = tmp_path / "runs" / "out"
    with locked(output):
        check(output, "always")
        with (
            pytest.raises(UsageError, match=rf"out is being written by process {os.getpid()} on "),
            locked(output),
        ):
            pass
        (output / "log.jsonl").touch()
    assert [path.name for path in output.iterdir()] == ["log.jsonl"]
    (output / "log.jsonl").unlink()
    with locked(output):
        pass
    assert not output.exists(), "a refused run leaves nothing"


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from llara_eval.training.output import locked
with locked(Path({str(tmp_path)!r})):
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path):
        check(tmp_path, "only-missing")


@pytest.mark.parametrize(
    "name", ["../thesis.tex", "/etc/passwd", "state/../../thesis.tex", "..", "", ".", "a\0b"]
)
@pytest.mark.parametrize("existing", ["only-missing", "always"])
def test_a_list_that_names_files_elsewhere_is_refused(output: Path, name: str, existing: str) -> None:
    thesis = output.parent / "thesis.tex"
    thesis.write_text("years of work")
    (output / "checksums.json").write_text(json.dumps({name: "0" * 64}))
    with pytest.raises(DataError, match="is not the name of a file in that folder"):
        check(output, existing)
    with pytest.raises(DataError, match="is not the name of a file in that folder"):
        clear(output)
    assert thesis.exists()
