"""Scoring: time to read and measure a run of MS MARCO's size, ours against ir_measures and pytrec_eval."""

import json
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rounds import Competitor, Outcome, comparison, compete, ratio
from table import Table
from worker import Once, Output, noted

QUERIES, DEPTH = 6_980, 1_000
CORPUS = 8_841_823

MEASURES = {
    "nDCG@10": "ndcg_cut_10",
    "R@100": "recall_100",
    "R@1000": "recall_1000",
    "RR": "recip_rank",
    "AP": "map",
}
"""Name of a measure in ir_measures, and in our own code → its name in pytrec_eval."""

TOLERANCE = 1e-9


def write(folder: Path, queries: int) -> dict[str, Any]:
    """Write a made-up run and judgements, and return the arguments that name both files."""
    draw, qrels = random.Random(0), {}
    with (folder / "run.trec").open("w") as file:
        for query in range(queries):
            ranking = draw.sample(range(CORPUS), DEPTH)
            qrels[f"q{query}"] = {str(draw.choice(ranking[:100])): 1, str(draw.choice(ranking)): 1, "none": 1}
            file.writelines(
                f"q{query} Q0 {document} {rank} {100 - rank * 0.05:.4f} made-up\n"
                for rank, document in enumerate(ranking, 1)
            )
    (folder / "qrels.json").write_text(json.dumps(qrels))
    return {"run": str(folder / "run.trec"), "qrels": str(folder / "qrels.json")}


def ir_measures(run: str, qrels: str) -> Once:
    """Read a run with ir_measures, and measure it with ``iter_calc``."""
    import ir_measures

    judgements = json.loads(Path(qrels).read_text())
    measures = [ir_measures.parse_measure(name) for name in MEASURES]

    def once() -> Any:
        with noted("read"):
            hits = list(ir_measures.read_trec_run(run))
        with noted("score"):
            values = list(ir_measures.iter_calc(measures, judgements, hits))

        def arrays() -> Output:
            by_query = sorted(values, key=lambda value: value.query_id)
            return {
                name: np.array([value.value for value in by_query if value.measure == measure])
                for name, measure in zip(MEASURES, measures, strict=True)
            }

        return arrays

    return once


def pytrec_eval(run: str, qrels: str) -> Once:
    """Read a run with ``parse_run`` of pytrec_eval, and measure it with ``RelevanceEvaluator``."""
    import pytrec_eval

    judgements: Mapping[str, Mapping[str, int]] = json.loads(Path(qrels).read_text())

    def once() -> Any:
        with noted("read"), Path(run).open() as file:
            hits = pytrec_eval.parse_run(file)
        with noted("score"):
            values = pytrec_eval.RelevanceEvaluator(judgements, set(MEASURES.values())).evaluate(hits)
        return lambda: {
            name: np.array([values[query][measure] for query in sorted(judgements)])
            for name, measure in MEASURES.items()
        }

    return once


def objection(expected: Output, output: Output) -> str:
    """Return the first measure whose values differ; empty if there is none."""
    for name in MEASURES:
        if len(expected[name]) != len(output[name]):
            return f"other values: {name} of {len(output[name])} queries, not {len(expected[name])}"
        if not (worst := np.abs(expected[name] - output[name]).max()) <= TOLERANCE:
            return f"other values: {name} differs by {worst:.1e}"
    return ""


def measure(queries: int, rounds: int, say: Callable[[str], None]) -> list[Outcome]:
    """Measure all competitors on a made-up run."""
    with tempfile.TemporaryDirectory() as folder:
        files = write(Path(folder), queries)
        return compete(
            [
                Competitor("llara-eval", "ours:score", {**files, "measures": [*MEASURES]}),
                Competitor("ir_measures", "scoring:ir_measures", files),
                Competitor("pytrec_eval", "scoring:pytrec_eval", files),
            ],
            rounds,
            objection,
            say=say,
        )


def table(queries: int, outcomes: Sequence[Outcome]) -> Table:
    """Return the table of seconds and ratios of reading, of measuring, and of both."""
    ours, faster = outcomes[0], "ours is faster, times"

    def cells(peer: Outcome) -> list[object]:
        parts = ("read", "score", "seconds")
        pairs = [
            (f"{peer.median(part):.2f}", "" if peer is ours else ratio(peer, ours, part)) for part in parts
        ]
        return [cell for pair in pairs for cell in pair]

    return comparison(
        f"Score a run of {queries:,} × {DEPTH:,}",
        f"{', '.join(MEASURES)}; values of each query compared with ours, to {TOLERANCE:.0e}.",
        ["read, s", faster, "measure, s", faster, "both, s", faster],
        outcomes,
        cells,
    )
