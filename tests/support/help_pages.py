"""What ``--help`` of every command shows on a terminal of 80 columns, and the files that pin it.

``python tests/support/help_pages.py`` writes tests/cli/golden/ again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from checkout import ROOT
from typer.testing import CliRunner

from llara_eval.cli import app

GOLDEN = ROOT / "tests" / "cli" / "golden"
PLAIN = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
PROGRAM = "llara-eval"


def _commands(group: Any, *words: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of the program and of all its commands, those of a group after it."""
    yield words
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            yield from _commands(command, *words, name)
        else:
            yield (*words, name)


COMMANDS = {"-".join(words) or PROGRAM: words for words in _commands(typer.main.get_command(app))}
"""Name of a golden file, without its ending → the words of its command."""


def help_page(name: str) -> str:
    """Return what a command's ``--help`` shows."""
    shown = CliRunner().invoke(app, [*COMMANDS[name], "--help"], prog_name=PROGRAM, env=PLAIN)
    assert shown.exit_code == 0, shown.output
    return shown.stdout


def golden(name: str) -> Path:
    """Return the file that pins a command's help."""
    return GOLDEN / f"{name}.txt"


if __name__ == "__main__":
    for file in GOLDEN.glob("*.txt"):
        file.unlink()
    for command in COMMANDS:
        golden(command).write_text(help_page(command), encoding="utf-8")
