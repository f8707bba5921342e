"""A small run: its leaderboard and its results' keys; ``python golden_reports.py FOLDER`` writes both."""

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from checkout import ROOT
from fakes import WordOverlap
from tiny_models import save_checkpoint

from adapters import open_system
from adapters.options import Context
from llara_eval.datasets.load import load
from llara_eval.evaluation.evaluate import evaluate
from llara_eval.evaluation.record import RESULT, read_all
from llara_eval.reports.leaderboard import render
from llara_eval.reports.published import REPLLAMA
from llara_eval.reports.published import load as load_published

MACHINE_KEYS = ("provenance.git", "provenance.packages", "settings.runtime")
"""What these hold depends on the machine: their keys are left out."""

PROVENANCE = {"date": "2025-01-01T00:00:00+00:00", "git": {"commit": "0123456789abcdef" * 2, "dirty": False}}


def measure(folder: Path) -> None:
    """Evaluate two systems that compare words, and a tiny checkpoint, on the demo collection."""
    dataset = load("demo", data_dir=folder)
    checkpoint = save_checkpoint(folder / "tiny")
    context = Context(home=folder, offline=True)
    systems = [
        WordOverlap(name="words"),
        WordOverlap(name="stems", letters=5),
        open_system(str(checkpoint), {"dtype": "float32"}, context),
    ]
    for system in systems:
        evaluate(system, dataset, runs_dir=folder / "runs", depth=100)


def leaderboard(folder: Path) -> str:
    """Return the leaderboard of the two systems that give the same values on every processor."""
    entries = [
        (ROOT / path.relative_to(folder), replace(result, provenance=PROVENANCE))
        for path, result in read_all(folder / "runs")[0].items()
        if result.system != "tiny"
    ]
    published = [score for score in load_published() if score.system == REPLLAMA]
    return render(entries, published, ROOT / "leaderboard.md")


def result_keys(folder: Path) -> dict[str, list[str]]:
    """Return the keys of the results, by system: ``measures.RR@10.mean``, each list sorted."""
    return {
        path.parent.name: sorted(_keys(json.loads((path / RESULT).read_text(encoding="utf-8"))))
        for path in read_all(folder / "runs")[0]
    }


def _keys(value: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, item in value.items():
        name = prefix + key
        if isinstance(item, dict) and item and name not in MACHINE_KEYS:
            yield from _keys(item, f"{name}.")
        else:
            yield name


if __name__ == "__main__":
    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as temporary:
        measure(Path(temporary))
        (target / "leaderboard.md").write_text(leaderboard(Path(temporary)), encoding="utf-8")
        keys = json.dumps(result_keys(Path(temporary)), indent=1)
        (target / "result_keys.json").write_text(keys + "\n", encoding="utf-8")
