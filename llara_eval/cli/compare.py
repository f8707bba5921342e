"""``llara-eval compare``: two or more results side by side, and which differences are real."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llara_eval.cli import options
from llara_eval.cli.console import plain, show

if TYPE_CHECKING:
    from llara_eval.reports.compare import Comparison


def compare(
    items: Annotated[
        list[str],
        typer.Argument(
            metavar="BASELINE OTHER...",
            help="Systems of --runs-dir, result folders, or run files (with --qrels).",
        ),
    ],
    data_dir: options.DataDir,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset", "-d", help="Which one data set, where systems are named: as evaluated, or as filed."
        ),
    ] = None,
    runs_dir: options.RunsDir = Path("runs"),
    split: options.Split = None,
    qrels: Annotated[
        Path | None, typer.Option("--qrels", help="Judgements, where run files are named.")
    ] = None,
    measure: Annotated[str, typer.Option("--measure", help="The measure compared.")] = "nDCG@10",
    as_json: options.Json = False,
) -> None:
    """Compare two or more runs query by query: difference from the first, its interval, and a paired test."""
    from llara_eval.core.errors import UsageError
    from llara_eval.reports.compare import compare as compare_results

    if dataset and len(dataset) > 1:
        raise UsageError(f"results are compared on one data set at a time, not on {', '.join(dataset)}")
    comparison = compare_results(
        *items,
        dataset=dataset[0] if dataset else None,
        split=split,
        runs_dir=runs_dir,
        data_dir=data_dir,
        qrels=qrels,
        measure=measure,
    )
    if not as_json:
        _show(comparison)
        return
    values = {
        "measure": comparison.measure,
        "n_queries": comparison.n_queries,
        "systems": comparison.rows(),
    }
    typer.echo(json.dumps(values))


def _show(comparison: "Comparison") -> None:
    from rich.table import Column, Table

    caption = "p: paired randomisation test, two-sided, Holm-adjusted for the number of comparisons"
    table = Table(Column("system", overflow="fold"), title=plain(comparison.caption()), caption=caption)
    for heading in (comparison.measure, "difference", "95 % interval", "p", "wins/ties/losses"):
        table.add_column(heading, overflow="fold")
    for system in comparison.systems:
        cells = [plain(system.system), f"{system.mean:.4f}"]
        if difference := system.difference:
            mean = f"{difference.mean:+.4f}"
            cells += [
                f"[bold]{mean}[/]" if difference.significant else mean,
                f"{difference.low:+.4f} … {difference.high:+.4f}",
                f"{difference.p_holm:.4f}",
                f"{difference.wins}/{difference.ties}/{difference.losses}",
            ]
        table.add_row(*cells)
    show(table)
