"""Help, version, and what is not imported for them."""

import os
import subprocess
import sys

import pytest
import typer
from checkout import ROOT
from commands import call
from reference import commands
from typer.testing import CliRunner

from llara_eval import __version__
from llara_eval.cli import app
from llara_eval.cli.examples import EXAMPLES

PLAIN = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
COMMANDS = [name.split()[1:] for name, _ in commands(typer.main.get_command(app), "llara-eval")]
PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "llara-eval")
def test_help_is_what_the_page_of_commands_shows(words):
    shown = CliRunner().invoke(app, [*words, "--help"], prog_name="llara-eval", env=PLAIN)
    assert shown.exit_code == 0
    section = f"## {' '.join(['llara-eval', *words])}\n\n```text\n{shown.stdout.rstrip()}\n```\n"
    assert section in PAGE, "python tests/support/reference.py > docs/cli.md"


def test_the_page_of_commands_has_no_command_that_is_gone():
    assert PAGE.count("\n## ") == len(COMMANDS)


def test_every_command_has_help_whose_lines_are_broken_by_the_terminal_alone():
    group = typer.main.get_command(app)
    commands = {**group.commands, **group.commands["datasets"].commands}
    assert len(commands) > 20
    for name, command in commands.items():
        summary, *paragraphs = command.help.split("\n\n")
        assert summary, name
        assert not any("\n" in paragraph for paragraph in paragraphs), name
    shown = CliRunner().invoke(app, ["plan", "-h"], env=PLAIN).stdout
    assert "sets at hand are sampled; if it comes with weights, they are timed here." in shown


def test_every_command_has_two_examples():
    assert sorted(EXAMPLES) == sorted(" ".join(words) for words in COMMANDS if words)
    for name, examples in EXAMPLES.items():
        assert len(examples) >= 2
        assert all(example.startswith(f"llara-eval {name}") for example in examples)
        assert max(map(len, examples)) <= 78, "an example fits into a line of 80 columns"


def test_the_list_of_commands_has_a_line_each():
    lines = CliRunner().invoke(app, ["--help"], env=PLAIN).stdout.splitlines()
    assert len(lines) <= 50
    for words in COMMANDS:
        if len(words) == 1:
            (line,) = [line for line in lines if line.startswith(f"  {words[0]} ")]
            assert line.endswith("."), line


@pytest.mark.parametrize("columns", ["60", "80", "120"])
def test_no_word_of_a_help_is_cut(columns):
    for words in COMMANDS:
        shown = CliRunner().invoke(app, [*words, "--help"], env={**PLAIN, "COLUMNS": columns}).stdout
        lines = shown.partition("Examples:")[0].splitlines()
        assert not [line for line in lines if line.endswith("-") or "\N{NON-BREAKING HYPHEN}" in line], words
        assert "x>=" not in shown, words


def test_help_takes_the_width_of_the_terminal():
    words = [sys.executable, "-m", "llara_eval", "evaluate", "-h"]
    environment = {**os.environ, "COLUMNS": "150"}
    shown = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
    assert 120 < max(map(len, shown.splitlines())) <= 150


def test_options_are_in_the_panel_of_what_they_are_about():
    shown = CliRunner().invoke(app, ["evaluate", "-h"], env=PLAIN).stdout
    panels = [line[:-1] for line in shown.splitlines() if line.endswith(":") and not line.startswith(" ")]
    expected = ["Options", "Prompt options", "System options", "Data options", "Evaluation options"]
    assert panels == [*expected, "General options", "Examples"]
    assert "<" not in shown.replace("<system>", "")


def test_systems_are_named_with_commas_or_by_a_path(tmp_path):
    comma = tmp_path / "a,b"
    comma.mkdir()
    command = typer.main.get_command(app).commands["evaluate"]
    words = ["-m", "bm25,bm25-multifield", "-m", str(comma), "-d", "demo"]
    assert command.make_context("evaluate", words).params["model"] == ["bm25", "bm25-multifield", str(comma)]


def test_version():
    result = call("--version")
    assert (result.exit_code, result.stdout) == (0, f"llara-eval {__version__}\n")


def test_no_arguments_show_the_help_and_exit_2():
    result = call()
    assert result.exit_code == 2
    assert "Compare and publish:" in result.stdout + result.stderr


def test_help_and_leaderboard_load_nothing_heavy(tmp_path):
    (tmp_path / "runs").mkdir()
    code = f"""
import sys
from typer.testing import CliRunner
from llara_eval.cli import app
from llara_eval.cli.examples import EXAMPLES
heavy = {{"torch", "transformers", "jnius", "pyserini", "faiss", "beir", "huggingface_hub"}}
slow = {{"numpy", "pandas", "scipy", "pyarrow", "ir_measures"}}
for words in {COMMANDS!r}:
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
