"""``llara-eval beir``: a checkpoint on BEIR, beside BM25 and RepLLaMA."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llara_eval.cli import options
from llara_eval.cli.console import plain
from llara_eval.cli.evaluation import Evaluation

if TYPE_CHECKING:
    from rich.table import Table

    from llara_eval.evaluation.evaluate import Outcome
    from llara_eval.reports.averages import Values


@options.grouped
def beir(
    model: Annotated[
        str, typer.Option("--model", "-m", help="A checkpoint folder, a system's name or a hub name.")
    ],
    datasets: options.SomeDatasets = None,
    *,
    evaluation: Evaluation,
) -> None:
    """Evaluate a checkpoint on BEIR and compare it with BM25 and RepLLaMA.

    By default, on beir-15 (the public sets and MS MARCO dev) and the licensed sets that are in --data-dir;
    beir-13, beir-14, beir-18 and cqadupstack are other groups.
    """
    from llara_eval.datasets.known import BEIR, KNOWN

    data_dir = evaluation.data_dir
    usual = [name for name in BEIR if KNOWN[name].url or (data_dir / KNOWN[name].folder).is_dir()]
    outcomes, failures = evaluation.run([model], datasets or usual)
    evaluation.report(outcomes, failures, lambda rows: _comparison(rows, evaluation.runs_dir))


def _comparison(outcomes: "Sequence[Outcome]", runs_dir: Path) -> "Table":
    """Return nDCG@10 of a system beside the baselines: measured where there is a run, else published."""
    from rich.table import Table

    from llara_eval.cli.tables import BM25_IS, PUBLISHED_IS, baseline_cell
    from llara_eval.evaluation.record import beside
    from llara_eval.reports import averages, published

    results = [outcome.result for outcome in outcomes]
    own = [averages.measured(results, name).get(results[0].system, {}) for name in ("nDCG@10", "RR@10")]
    here = averages.measured(beside(runs_dir, results), "nDCG@10")
    there = averages.published(published.load(), "nDCG@10")
    baselines = {
        "BM25 flat": (here.get("bm25", {}), there[published.BM25]),
        "BM25 multifield": (here.get("bm25-multifield", {}), there[published.BM25_MULTIFIELD]),
        "RepLLaMA-7B": ({}, there[published.REPLLAMA]),
    }
    table = Table("data set", "n", title="nDCG@10", caption=f"{BM25_IS}\n{PUBLISHED_IS}")
    for title in (results[0].system, "MRR@10", *baselines):
        table.add_column(plain(title), justify="right")
    for result in results:
        name, shown = result.dataset, [baseline_cell(values.get(result.dataset)) for values in own]
        others = [baseline_cell(ours.get(name), theirs.get(name)) for ours, theirs in baselines.values()]
        table.add_row(plain(name), f"{result.n_queries:,}", f"[bold]{shown[0]}[/]", shown[1], *others)
    for name in averages.complete(own):
        table.add_section()
        shown = [baseline_cell(_mean(name, values)) for values in own]
        others = [
            baseline_cell(_mean(name, ours), _mean(name, theirs)) for ours, theirs in baselines.values()
        ]
        table.add_row(averages.title(name), "", f"[bold]{shown[0]}[/]", shown[1], *others)
    return table


def _mean(name: str, values: "Values") -> float | None:
    from llara_eval.reports.averages import mean

    found = mean(name, values)
    return found and found.value
