"""The commands that train, called in this process on tiny models, and their output."""

from typer.testing import CliRunner

from llara_eval.cli import app

QUICK = ["--steps", "2", "--batch-size", "4", "--batch-tokens", "600"]


def call(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "160"})


def table_of(text: str) -> list[list[str]]:
    """Return the cells of a table in the output."""
    return [
        [cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if "│" in line
    ]
