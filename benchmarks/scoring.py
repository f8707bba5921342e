"""Scoring: reading and measuring a run of MS MARCO's size, ours against ir_measures and pytrec_eval."""

import json
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rounds import Competitor, Outcome, compete, ratio
from table import Table
from worker import Once, Output, notes

QUERIES, DEPTH = 6_980, 1_000
CORPUS = 8_841_823

MEASURES = {
    "nDCG@10": "ndcg_cut_10",
    "R@100": "recall_100",
    "R@1000": "recall_1000",
    "RR": "recip_rank",
    "AP": "map",
}
"""ir_measures' name → pytrec_eval's; all three compute them."""

TOLERANCE = 1e-9


def write(folder: Path, queries: int) -> dict[str, Any]:
    """Write a run and judgements, made up; return how they are passed on."""
    draw, judged = random.Random(0), {}
    with (folder / "run.trec").open("w") as file:
        for query in range(queries):
            found = draw.sample(range(CORPUS), DEPTH)
            judged[f"q{query}"] = {str(draw.choice(found[:100])): 1, str(draw.choice(found)): 1, "none": 1}
            file.writelines(
                f"q{query} Q0 {document} {place} {100 - place * 0.05:.4f} made-up\n"
                for place, document in enumerate(found, 1)
            )
    (folder / "qrels.json").write_text(json.dumps(judged))
    return {"run": str(folder / "run.trec"), "qrels": str(folder / "qrels.json")}


def ir_measures(run: str, qrels: str) -> Once:
    """Its reader and ``iter_calc``."""
    import ir_measures

    judged = json.loads(Path(qrels).read_text())
    wanted = [ir_measures.parse_measure(name) for name in MEASURES]

    def once() -> Any:
        started = time.perf_counter()
        found = list(ir_measures.read_trec_run(run))
        notes["read"] = time.perf_counter() - started
        values = list(ir_measures.iter_calc(wanted, judged, found))
        notes["score"] = time.perf_counter() - started - notes["read"]

        def arrays() -> Output:
            by_query = sorted(values, key=lambda value: value.query_id)
            return {
                name: np.array([value.value for value in by_query if value.measure == measure])
                for name, measure in zip(MEASURES, wanted, strict=True)
            }

        return arrays

    return once


def pytrec_eval(run: str, qrels: str) -> Once:
    """``parse_run`` and ``RelevanceEvaluator``."""
    import pytrec_eval

    judged: Mapping[str, Mapping[str, int]] = json.loads(Path(qrels).read_text())

    def once() -> Any:
        started = time.perf_counter()
        with Path(run).open() as file:
            found = pytrec_eval.parse_run(file)
        notes["read"] = time.perf_counter() - started
        values = pytrec_eval.RelevanceEvaluator(judged, set(MEASURES.values())).evaluate(found)
        notes["score"] = time.perf_counter() - started - notes["read"]
        return lambda: {
            name: np.array([values[query][theirs] for query in sorted(judged)])
            for name, theirs in MEASURES.items()
        }

    return once


def objection(expected: Output, found: Output) -> str:
    """Say which values differ; empty if none does."""
    for name in MEASURES:
        if len(expected[name]) != len(found[name]):
            return f"other values: {name} of {len(found[name])} queries, not {len(expected[name])}"
        if not (worst := np.abs(expected[name] - found[name]).max()) <= TOLERANCE:
            return f"other values: {name} differs by {worst:.1e}"
    return ""


def measure(queries: int, rounds: int, say: Callable[[str], None]) -> list[Outcome]:
    """Measure all on a run written for the occasion."""
    with tempfile.TemporaryDirectory() as folder:
        given = write(Path(folder), queries)
        return compete(
            [
                Competitor("llara-eval", "ours:score", {**given, "measures": [*MEASURES]}),
                Competitor("ir_measures", "scoring:ir_measures", given),
                Competitor("pytrec_eval", "scoring:pytrec_eval", given),
            ],
            rounds,
            objection,
            say=say,
        )


def table(queries: int, outcomes: Sequence[Outcome]) -> Table:
    """Return seconds and ratios of reading, of measuring, and of both."""
    own, parts = outcomes[0], ("read", "score", "seconds")
    rows: list[list[object]] = []
    for peer in outcomes:
        row: list[object] = [peer.name, peer.refused, "", "", "", "", ""]
        if not peer.refused:
            seconds = [f"{peer.median(part):.2f}" for part in parts]
            ratios = ["" if peer is own else ratio(peer, own, part) for part in parts]
            row = [peer.name, *(cell for pair in zip(seconds, ratios, strict=True) for cell in pair)]
        rows.append(row)
    faster = "ours is faster, times"
    return Table(
        f"Score a run of {queries:,} × {DEPTH:,}",
        f"{', '.join(MEASURES)}; values of each query compared with ours, to {TOLERANCE:.0e}.",
        ["", "read, s", faster, "measure, s", faster, "both, s", faster],
        rows,
    )
