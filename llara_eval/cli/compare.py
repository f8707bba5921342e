"""``llara-eval compare``: two or more results side by side, and which differences are real."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llara_eval.cli import options
from llara_eval.cli.console import plain, show

if TYPE_CHECKING:
    from llara_eval.measure import Scores


def compare(
    items: Annotated[
        list[str],
        typer.Argument(
            metavar="BASELINE OTHER...",
            help="Systems of --runs-dir, result folders, or run files (with --qrels).",
        ),
    ],
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="Which data set, where systems are named.")
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
    from llara_eval.errors import UsageError
    from llara_eval.measure import parse_measures
    from llara_eval.statistics import holm, paired_difference

    if len(items) < 2:
        raise UsageError("name at least two: a baseline and what is compared with it")
    (name,) = parse_measures([measure])
    columns = [_scores(item, name, dataset, split, runs_dir, qrels) for item in items]
    base = columns[0]
    for item, column in zip(items, columns, strict=True):
        if list(column.query_ids) != list(base.query_ids):
            raise UsageError(f"{item} and {items[0]} were not measured on the same queries")
    differences = [paired_difference(base.values[name], column.values[name]) for column in columns[1:]]
    adjusted = holm([difference.p_value for difference in differences])
    rows: list[dict[str, Any]] = [{"system": items[0], "mean": base.means[name]}]
    for item, column, difference, p_holm in zip(items[1:], columns[1:], differences, adjusted, strict=True):
        delta = column.values[name] - base.values[name]
        rows.append(
            {
                "system": item,
                "mean": column.means[name],
                "difference": difference.mean,
                "low": difference.low,
                "high": difference.high,
                "p_value": difference.p_value,
                "p_holm": p_holm,
                "wins": int((delta > 0).sum()),
                "losses": int((delta < 0).sum()),
                "ties": int((delta == 0).sum()),
            }
        )
    if as_json:
        typer.echo(json.dumps({"measure": name, "n_queries": len(base.query_ids), "systems": rows}))
        return
    _show(rows, name, len(base.query_ids))


def _scores(
    item: str, measure: str, dataset: str | None, split: str | None, runs_dir: Path, qrels: Path | None
) -> "Scores":
    """Return per-query values of one of the things that can be compared."""
    from llara_eval import catalogue, results
    from llara_eval.errors import DataError, UsageError
    from llara_eval.measure import score
    from llara_eval.msmarco import MSMARCO_SETS
    from llara_eval.trec import read_qrels, read_run

    path = Path(item)
    if path.is_file():
        if qrels is None:
            raise UsageError(f"{item} is a run file: --qrels says what to score it against")
        return score(read_qrels(qrels), read_run(path), [measure])
    if not (path / results.RESULT).is_file():
        if dataset is None:
            raise UsageError(
                f"{item} is neither a run file nor a result folder; name a system together with --dataset"
            )
        known = catalogue.find(dataset) or MSMARCO_SETS.get(dataset)
        name, usual = (known.name, known.split) if known else (Path(dataset).name, "test")
        path = results.folder_of(runs_dir, item, name, split or usual)
    if not (path / results.RESULT).is_file():
        raise DataError(f"{path}: no result there; `llara-eval evaluate` makes one")
    stored = results.load_per_query(path / results.PER_QUERY)
    if measure not in stored.values:
        raise UsageError(f"{path} has no {measure}; it has {', '.join(stored.values)}")
    return stored


def _show(rows: list[dict[str, Any]], measure: str, queries: int) -> None:
    from rich.table import Table

    title = f"{measure} over {queries:,} queries, differences from {plain(rows[0]['system'])}"
    caption = "p: paired randomisation test, two-sided, Holm-adjusted for the number of comparisons"
    table = Table(
        "system",
        measure,
        "difference",
        "95 % interval",
        "p",
        "wins/ties/losses",
        title=title,
        caption=caption,
    )
    table.add_row(plain(rows[0]["system"]), f"{rows[0]['mean']:.4f}", "", "", "", "")
    for row in rows[1:]:
        real = row["p_holm"] < 0.05
        table.add_row(
            plain(row["system"]),
            f"{row['mean']:.4f}",
            f"[bold]{row['difference']:+.4f}[/]" if real else f"{row['difference']:+.4f}",
            f"{row['low']:+.4f} … {row['high']:+.4f}",
            f"{row['p_holm']:.4f}",
            f"{row['wins']}/{row['ties']}/{row['losses']}",
        )
    show(table)
