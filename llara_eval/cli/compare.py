"""``llara-eval compare``: two or more results side by side, and which differences are significant."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llara_eval.cli import options
from llara_eval.cli.console import print_json, show, styled, table

if TYPE_CHECKING:
    from rich.table import Table

    from llara_eval.reports.compare import Comparison


def compare(
    items: Annotated[
        list[str],
        typer.Argument(
            metavar="BASELINE OTHER",
            help="Systems with results in the folder of --runs-dir, or folders of results, or run files "
            "(with --qrels).",
        ),
    ],
    data_dir: options.DataDir,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset",
            "-d",
            metavar="NAME",
            help="The one data set on which named systems are compared: its name in the command that "
            "evaluated them, or in their results.",
        ),
    ] = None,
    runs_dir: options.RunsDir = Path("runs"),
    split: options.Split = None,
    qrels: Annotated[Path | None, typer.Option(metavar="FILE", help="The judgements of run files.")] = None,
    measure: Annotated[str, typer.Option(metavar="NAME", help="The measure that is compared.")] = "nDCG@10",
    as_json: options.Json = False,
) -> None:
    """Compare runs query by query, with intervals and paired tests.

    Each run is compared with the first: the difference of the means, its 95 % interval, and a paired
    randomisation test.
    """
    from llara_eval.core.errors import PartialResultsError, UsageError
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
    if as_json:
        systems = comparison.rows()
        print_json({"measure": comparison.measure, "n_queries": comparison.n_queries, "systems": systems})
    else:
        show(_table(comparison))
    if comparison.left_out:
        raise PartialResultsError(
            f"{len(comparison.left_out)} of {len(items)} results left out: {comparison.left_out[0]}"
        )


def _table(comparison: "Comparison") -> "Table":
    rows: list[list[Any]] = []
    for system in comparison.systems:
        rows.append([system.system, f"{system.mean:.4f}"])
        if difference := system.difference:
            rows[-1] += [
                styled(f"{difference.mean:+.4f}", "bold" if difference.significant else ""),
                f"{difference.low:+.4f} … {difference.high:+.4f}",
                f"{difference.p_holm:.4f}",
                f"{difference.wins}/{difference.ties}/{difference.losses}",
            ]
    return table(
        ["system", comparison.measure, "difference", "95 % interval", "p", "wins/ties/losses"],
        rows,
        title=comparison.caption(),
        caption="p: paired randomisation test, two-sided, Holm-adjusted for the number of comparisons",
    )
