"""The README says what is there."""

import re
import shlex

import typer
from checkout import ROOT

from llara_eval.cli import app


def test_every_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in [*app.registered_commands, *app.registered_groups]:
        assert f"llara-eval {command.name}" in readme
    (datasets,) = app.registered_groups
    for command in datasets.typer_instance.registered_commands:
        assert f"llara-eval datasets {command.name}" in readme or command.name == "list"


def test_every_version_that_is_installed_is_pinned_once() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split("\n")
    names = [line.split("==")[0].lower() for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!-]+", line) for line in lines if line)
    assert len(names) == len(set(names)) > 100


def test_every_command_line_in_the_readme_is_one_the_program_takes() -> None:
    program = typer.main.get_command(app)
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^(?:\$ )?llara-eval (.+)$", text, flags=re.MULTILINE)
    assert len(lines) > 40
    for line in lines:
        name, *words = shlex.split(line, comments=True)
        command = program.commands[name]
        if name == "datasets" and words:
            command = command.commands[words.pop(0)]
        try:
            command.make_context(name, words)
        except typer.BadParameter as error:
            assert "does not exist" in error.message, f"{line}: {error.message}"  # a file of the reader's
