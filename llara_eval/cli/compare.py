"""``llara-eval compare``: two or more results side by side, and which differences are real."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llara_eval.cli import options
from llara_eval.cli.console import plain, show

if TYPE_CHECKING:
    from llara_eval.scoring.measures import Scores


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
    from llara_eval.scoring.measures import parse_measures
    from llara_eval.scoring.statistics import holm, paired_difference

    if len(items) < 2:
        raise UsageError("name at least two: a baseline and what is compared with it")
    if dataset and len(dataset) > 1:
        raise UsageError(f"results are compared on one data set at a time, not on {', '.join(dataset)}")
    (name,) = parse_measures([measure])
    systems = [item for item in items if not _is_place(Path(item))]
    if not systems and (dataset or split):
        raise UsageError("--dataset and --split are of systems by name, and none is named")
    if qrels is not None and not any(Path(item).is_file() for item in items):
        raise UsageError("--qrels is what run files are scored against, and none is named")
    folders = _folders(systems, dataset[0] if dataset else None, split, runs_dir, data_dir) if systems else {}
    found = [_scores(folders.get(item, Path(item)), name, qrels) for item in items]
    columns = [column for column, _ in found]
    base, judgements = found[0]
    for item, (column, judged) in zip(items, found, strict=True):
        if list(column.query_ids) != list(base.query_ids):
            raise UsageError(f"{item} and {items[0]} were not measured on the same queries")
        if judged != judgements:
            raise UsageError(f"{item} and {items[0]} were not measured against the same judgements")
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


def _is_place(path: Path) -> bool:
    """Return whether a path is a run file or the folder of a result."""
    from llara_eval.evaluation.record import RESULT

    return path.is_file() or (path / RESULT).is_file()


def _folders(
    systems: list[str], dataset: str | None, split: str | None, runs_dir: Path, data_dir: Path
) -> dict[str, Path]:
    """Return where results of systems lie: under the one name of the data set that there are results of.

    Raises:
        UsageError: No data set is named, or there are results of two that the name may mean.
    """
    from llara_eval.core.errors import UsageError
    from llara_eval.datasets.load import naming
    from llara_eval.evaluation.record import folder_of

    if dataset is None:
        raise UsageError(
            f"{systems[0]} is neither a run file nor a result folder; name a system together with --dataset"
        )
    called = naming(dataset, data_dir=data_dir)
    folders = {
        name: {system: folder_of(runs_dir, system, name, split or called.split) for system in systems}
        for name in (dataset, *called.names)
    }
    some = [name for name, of in folders.items() if any(map(_is_place, of.values()))]
    found = [name for name in some if all(map(_is_place, folders[name].values()))] or some
    public = called.known is not None and called.known.name == dataset  # whose whole name nothing else has
    if len(found) > 1 and not public:
        raise UsageError(
            f"--dataset {dataset} may be {' or '.join(found)}, and there are results of both: name their "
            f"folders instead, e.g. {folders[found[0]][systems[0]]}"
        )
    return folders[found[0] if found else dataset]


def _scores(path: Path, measure: str, qrels: Path | None) -> "tuple[Scores, str]":
    """Return per-query values of a run file or of a stored result, and the fingerprint of the judgements."""
    from llara_eval.core.errors import DataError, UsageError
    from llara_eval.evaluation import record
    from llara_eval.scoring.measures import score
    from llara_eval.scoring.trec import read_qrels, read_run

    if path.is_file():
        if qrels is None:
            raise UsageError(f"{path} is a run file: --qrels says what to score it against")
        judgements = read_qrels(qrels)
        return score(judgements, read_run(path), [measure]), record.qrels_fingerprint(judgements)
    if not _is_place(path):
        raise DataError(f"{path}: no result there; `llara-eval evaluate` makes one")
    stored = record.load_per_query(path / record.PER_QUERY)
    if measure not in stored.values:
        raise UsageError(f"{path} has no {measure}; it has {', '.join(stored.values)}")
    return stored, record.load(path).qrels_fingerprint


def _show(rows: list[dict[str, Any]], measure: str, queries: int) -> None:
    from rich.table import Column, Table

    title = f"{measure} over {queries:,} queries, differences from {plain(rows[0]['system'])}"
    caption = "p: paired randomisation test, two-sided, Holm-adjusted for the number of comparisons"
    table = Table(Column("system", overflow="fold"), title=title, caption=caption)
    for heading in (measure, "difference", "95 % interval", "p", "wins/ties/losses"):
        table.add_column(heading, overflow="fold")
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
