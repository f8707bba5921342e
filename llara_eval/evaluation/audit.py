"""Scoring stored runs again: is every number on the leaderboard what its run says?"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from llara_eval.core.errors import DataError
from llara_eval.core.types import Qrels
from llara_eval.datasets import load as datasets
from llara_eval.evaluation import record
from llara_eval.evaluation.record import Result
from llara_eval.scoring.measures import score

TOLERANCE = 1e-9
"""Largest difference that counts as none: logarithms may differ in the last bit between machines."""


class Verdict(NamedTuple):
    """What the audit of one result found.

    Attributes:
        system: The result's system.
        dataset: Its data set.
        scored: Whether the run was scored again; False where the judgements are not at hand.
        problems: What does not hold, one sentence each; empty if all holds.
    """

    system: str
    dataset: str
    scored: bool
    problems: tuple[str, ...]


def audit(folder: Path, result: Result, data_dir: Path) -> Verdict:
    """Check a stored result against its own files and, where they are at hand, its judgements."""
    problems = []
    scored = False
    try:
        if (
            folder.resolve()
            != record.folder_of(folder.parents[1], result.system, result.dataset, result.split).resolve()
        ):
            problems.append(f"{folder} is not the folder of {result.system} on {result.dataset}")
        if record.run_sha256(folder) != result.run_sha256:
            problems.append(f"{record.RUN} is not the run the result was measured on")
        stored = record.load_per_query(folder / record.PER_QUERY)
        if len(stored.query_ids) != result.n_queries:
            problems.append(f"{len(stored.query_ids)} per-query values, the result says {result.n_queries}")
        problems += _differences("per-query values give", stored.means, result.means)
        qrels = judgements(result, data_dir)
        if qrels is not None:
            scored = True
            again = score(qrels, record.load_run(folder), list(result.measures))
            problems += _differences("the run scores", again.means, result.means)
            if list(stored.query_ids) != list(again.query_ids):
                problems.append("the per-query values are not of the judged queries")
            for name, column in stored.values.items():
                if not np.allclose(column, again.values[name], rtol=0, atol=TOLERANCE):
                    problems.append(f"per-query values of {name} are not those of the run")
    except (DataError, KeyError, ValueError, ZeroDivisionError) as error:
        problems.append(f"cannot be checked: {error}")
    return Verdict(result.system, result.dataset, scored, tuple(problems))


def judgements(result: Result, data_dir: Path) -> Qrels | None:
    """Return the judgements a result was measured with, if exactly those are at hand."""
    try:
        qrels = datasets.judgements(result.dataset, result.split, data_dir=data_dir)
    except DataError:
        return None
    return qrels if record.qrels_fingerprint(qrels) == result.qrels_fingerprint else None


def _differences(what: str, found: dict[str, float], expected: dict[str, float]) -> list[str]:
    if set(found) != set(expected):
        return [f"{what} other measures: {', '.join(found)}; the result has {', '.join(expected)}"]
    return [
        f"{what} {name} {found[name]:.6f}, the result says {mean:.6f}"
        for name, mean in expected.items()
        if not math.isclose(found[name], mean, rel_tol=0, abs_tol=TOLERANCE)
    ]
