"""Help, version, and what is not imported for them."""

import subprocess
import sys

import pytest
import typer
from commands import call
from help_pages import COMMANDS, GOLDEN, PLAIN, golden, help_page
from typer.testing import CliRunner

from llara_eval import __version__
from llara_eval.cli import app


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_the_golden_file(name):
    assert help_page(name) == golden(name).read_text(encoding="utf-8"), "python tests/support/help_pages.py"


def test_there_is_no_golden_file_of_a_command_that_is_gone():
    assert {path.stem for path in GOLDEN.iterdir()} == set(COMMANDS)


def test_every_command_has_help_whose_lines_are_broken_by_the_terminal_alone():
    group = typer.main.get_command(app)
    commands = {**group.commands, **group.commands["datasets"].commands}
    assert len(commands) > 20
    for name, command in commands.items():
        summary, *paragraphs = command.help.split("\n\n")
        assert summary, name
        assert not any("\n" in paragraph for paragraph in paragraphs), name
    shown = CliRunner().invoke(app, ["plan", "-h"], env=PLAIN).stdout
    assert " sets at hand are sampled; where it comes with weights, these are timed here." in shown


def test_version():
    result = call("--version")
    assert (result.exit_code, result.stdout) == (0, f"llara-eval {__version__}\n")


def test_no_arguments_show_the_help_and_exit_2():
    result = call()
    assert result.exit_code == 2
    assert "Commands" in result.stdout + result.stderr


def test_help_and_leaderboard_load_nothing_heavy(tmp_path):
    (tmp_path / "runs").mkdir()
    code = f"""
import sys
from typer.testing import CliRunner
from llara_eval.cli import app
heavy = {{"torch", "transformers", "jnius", "pyserini", "faiss", "beir", "huggingface_hub"}}
slow = {{"numpy", "pandas", "scipy", "pyarrow", "ir_measures"}}
for words in {[*COMMANDS.values()]!r}:
    assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0
assert not (heavy | slow) & set(sys.modules), (heavy | slow) & set(sys.modules)
words = ["leaderboard", "--runs-dir", {str(tmp_path / "runs")!r}, "--output", {str(tmp_path / "x.md")!r}]
for more in ([], ["--check"]):
    assert CliRunner().invoke(app, words + more).exit_code == 0
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert "llara_eval.reports.leaderboard" in sys.modules and "llara_eval.evaluation.audit" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
