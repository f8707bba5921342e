"""``llara-eval beir``: a system on BEIR, beside BM25 and RepLLaMA."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from llara_eval.cli import options
from llara_eval.cli.console import styled, table
from llara_eval.cli.evaluation import Evaluation

if TYPE_CHECKING:
    from rich.table import Table

    from llara_eval.evaluation.evaluate import Outcome
    from llara_eval.reports.averages import Values


def beir(
    context: typer.Context,
    model: options.System,
    datasets: options.SomeDatasets = None,
    *,
    evaluation: Evaluation,
) -> None:
    """Evaluate a system on BEIR and compare it with BM25 and RepLLaMA.

    By default, the data sets are those of beir-15 (the public ones and MS MARCO dev) and the licensed ones
    that are in the folder of --data-dir. Other groups are beir-13, beir-14, beir-18 and cqadupstack.
    """
    from llara_eval.datasets.known import BEIR, KNOWN

    data_dir = evaluation.data_dir
    usual = [name for name in BEIR if KNOWN[name].url or (data_dir / KNOWN[name].folder).is_dir()]
    outcomes, failures = evaluation.run(context, [model], datasets or usual)
    evaluation.report(outcomes, failures, lambda outcomes: _comparison(outcomes, evaluation.runs_dir))


def _comparison(outcomes: "Sequence[Outcome]", runs_dir: Path) -> "Table":
    """Return nDCG@10 of a system beside the baselines: measured where there is a run, else published."""
    from llara_eval.cli.tables import BM25_IS, PUBLISHED_IS, baseline_cell, notes
    from llara_eval.evaluation.record import on_same_data
    from llara_eval.reports import averages, published

    results = [outcome.result for outcome in outcomes]
    system = results[0].system
    ndcg, mrr = (averages.measured(results, name).get(system, {}) for name in ("nDCG@10", "RR@10"))
    ours = averages.measured(on_same_data(runs_dir, results), "nDCG@10")
    theirs = averages.published(published.load(), "nDCG@10")
    columns: list[tuple[str, Values, Values]] = [
        (system, ndcg, {}),
        ("MRR@10", mrr, {}),
        ("BM25 flat", ours.get("bm25", {}), theirs[published.BM25]),
        ("BM25 multifield", ours.get("bm25-multifield", {}), theirs[published.BM25_MULTIFIELD]),
        ("RepLLaMA-7B", {}, theirs[published.REPLLAMA]),
    ]

    def cell(name: str, *sources: "Values") -> str:
        means = (averages.mean(name, values) for values in sources)
        ours, theirs = (mean and mean.value for mean in means)
        return baseline_cell(ours, theirs)

    def row(title: str, n_queries: str, name: str) -> list[object]:
        first, *others = (cell(name, ours, theirs) for _, ours, theirs in columns)
        return [title, n_queries, styled(first, "bold"), *others]

    rows = [row(result.dataset, f"{result.n_queries:,}", result.dataset) for result in results]
    for name in averages.complete([ndcg, mrr]):
        rows += [[], row(averages.title(name), "", name)]
    titles = [title for title, _, _ in columns]
    caption = "\n".join([BM25_IS, PUBLISHED_IS, *notes(outcomes)])
    return table(["data set", "n", *titles], rows, numbers=titles, title="nDCG@10", caption=caption)
