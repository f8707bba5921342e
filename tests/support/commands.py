"""The command line, called in this process or as the real program."""

import gzip
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from llara_eval.cli import app

DOCUMENTS = {"d1": "red apples", "d2": "green pears", "d3": "blue plums", "d4": "pears"}
QUERIES = {"q1": "apples", "q2": "pears", "q3": "cherries"}
QRELS = {"q1": {"d1": 1}, "q2": {"d2": 2, "d4": 1}, "q3": {"d3": 1}}


def call(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def program(*words: object) -> subprocess.CompletedProcess[str]:
    """Run the real program."""
    command = [sys.executable, "-m", "llara_eval", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def text_of(result) -> str:
    """Return stderr as one line: messages are wrapped to the terminal."""
    return " ".join(result.stderr.split())


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path
