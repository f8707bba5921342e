"""The command line, called in this process or as a program, and small input files for it."""

import gzip
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from llara_eval.cli import app

DOCUMENTS = {"d1": "red apples", "d2": "green pears", "d3": "blue plums", "d4": "pears"}
QUERIES = {"q1": "apples", "q2": "pears", "q3": "cherries"}
QRELS = {"q1": {"d1": 1}, "q2": {"d2": 2, "d4": 1}, "q3": {"d3": 1}}

RUN = {"q1": ["d2", "d1"], "q2": ["d2", "d4"]}
"""A run whose RR@10 is 1/2, 1 and, for the missing query, 0."""

RUN_FORMS = {
    "trec": lambda q, d, rank: f"{q} Q0 {d} {rank} {10 - rank} tag",
    "msmarco": lambda q, d, rank: f"{q}\t{d}\t{rank}",
    "four columns": lambda q, d, rank: f"{q} {d} {rank} {10 - rank}",
}
QRELS_FORMS = {
    "trec": ("", lambda q, d, grade: f"{q} 0 {d} {grade}"),
    "commented": ("# judged twice\n", lambda q, d, grade: f"{q} 0 {d} {grade}.0"),
    "beir": ("query-id\tcorpus-id\tscore\n", lambda q, d, grade: f"{q}\t{d}\t{grade}"),
}


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


def run_file(folder: Path, form: str = "trec", ending: str = "txt", run=RUN) -> Path:
    line = RUN_FORMS[form]
    rows = [line(q, d, rank) for q, docs in run.items() for rank, d in enumerate(docs, 1)]
    return write(folder / f"run-{form}-{len(list(folder.iterdir()))}.{ending}", "\n".join(rows) + "\n")


def qrels_file(folder: Path, form: str = "trec", ending: str = "txt") -> Path:
    header, line = QRELS_FORMS[form]
    rows = [line(q, d, grade) for q, docs in QRELS.items() for d, grade in docs.items()]
    return write(folder / f"qrels-{form}.{ending}", header + "\n".join(rows) + "\n")
