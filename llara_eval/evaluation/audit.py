"""The audit of stored results: every number must follow from its stored run."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from llara_eval.core.errors import CheckFailedError, DataError, LlaraEvalError
from llara_eval.core.types import Qrels
from llara_eval.datasets import load as datasets
from llara_eval.evaluation import record
from llara_eval.evaluation.record import Result
from llara_eval.scoring.measures import score

TOLERANCE = 1e-9
"""The largest difference that is ignored: logarithms may differ in the last bit between machines."""


class Verdict(NamedTuple):
    """The outcome of the audit of one result.

    Attributes:
        system: The system of the result.
        dataset: The data set of the result.
        scored: Whether the run was scored again; False if the judgements are not at hand.
        problems: One sentence for each difference; empty if there is none.
    """

    system: str
    dataset: str
    scored: bool
    problems: tuple[str, ...]


def audit(folder: Path, result: Result, data_dir: Path) -> Verdict:
    """Check a stored result against its own files and, if they are at hand, its judgements."""
    problems = []
    scored = False
    usual = record.folder_of(folder.parents[1], result.system, result.dataset, result.split)
    try:
        if folder.resolve() != usual.resolve():
            problems.append(f"{folder} is not the folder of {result.system} on {result.dataset}")
        if record.run_sha256(folder) != result.run_sha256:
            problems.append(f"{record.RUN} is not the run the result was measured on")
        stored = record.load_per_query(folder / record.PER_QUERY)
        if len(stored.query_ids) != result.n_queries:
            problems.append(f"{len(stored.query_ids)} per-query values, the result has {result.n_queries}")
        problems += _differences("per-query values give", stored.means, result.means)
        qrels = judgements(result, data_dir)
        if qrels is not None:
            scored = True
            scores = score(qrels, record.load_run(folder), list(result.measures))
            problems += _differences("the run scores", scores.means, result.means)
            if list(stored.query_ids) != list(scores.query_ids):
                problems.append("the per-query values are not of the judged queries")
            for name, column in stored.values.items():
                if not np.allclose(column, scores.values[name], rtol=0, atol=TOLERANCE):
                    problems.append(f"per-query values of {name} are not those of the run")
    except (LlaraEvalError, KeyError, ValueError) as error:
        problems.append(f"cannot be checked: {error}")
    return Verdict(result.system, result.dataset, scored, tuple(problems))


def judgements(result: Result, data_dir: Path) -> Qrels | None:
    """Return the judgements that a result was measured with, or None if they are not at hand."""
    try:
        qrels = datasets.judgements(result.dataset, result.split, data_dir=data_dir)
    except (CheckFailedError, DataError):
        return None
    return qrels if record.qrels_fingerprint(qrels) == result.qrels_fingerprint else None


def _differences(subject: str, means: dict[str, float], expected: dict[str, float]) -> list[str]:
    """Return a sentence for each mean that differs from the expected one; the subject comes with its verb."""
    if set(means) != set(expected):
        return [f"{subject} other measures: {', '.join(means)}; the result has {', '.join(expected)}"]
    return [
        f"{subject} {name} {means[name]:.6f}, the result has {mean:.6f}"
        for name, mean in expected.items()
        if not math.isclose(means[name], mean, rel_tol=0, abs_tol=TOLERANCE)
    ]
