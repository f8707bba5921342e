"""Made-up results, and the cells of rendered tables."""

import re

from llara_eval.evaluation.record import Result


def make_result(**changes) -> Result:
    values = {
        "system": "fake",
        "dataset": "tiny",
        "split": "test",
        "n_queries": 2,
        "n_documents": 3,
        "depth": 10,
        "measures": {"nDCG@10": {"mean": 0.1 + 0.2, "low": 0.0, "high": 1 / 3}},
        "ties_at_10": 0.5,
        "settings_passed": {"k1": "0.9"},
        "settings": {"k1": 0.9, "runtime": {"threads": 2}},
        "drop_own_ids": False,
        "dataset_fingerprint": "f" * 64,
        "qrels_fingerprint": "e" * 64,
        "run_sha256": "d" * 64,
        "warnings": ["été"],
        "phases": {"search": {"seconds": 0.1}},
        "provenance": {"date": "2025-01-01T00:00:00+00:00", "git": None},
    }
    return Result(**{**values, **changes})


def cells(text: str, start: str) -> list[str]:
    """Return the cells of the only table row that starts with a text."""
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {start} |")]
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
