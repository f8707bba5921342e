"""``llara-eval beir``: a checkpoint on BEIR, beside BM25 and RepLLaMA."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llara_eval.cli import options
from llara_eval.cli.console import plain, set_up_logging, show

if TYPE_CHECKING:
    from rich.table import Table

    from llara_eval.evaluate import Outcome


def beir(
    model: Annotated[
        str, typer.Option("--model", "-m", help="A checkpoint folder, a system's name or a hub name.")
    ],
    data_dir: options.DataDir,
    datasets: Annotated[
        str | None,
        typer.Option(
            "--datasets", "-d", help="Comma-separated names or folders; all public sets by default."
        ),
    ] = None,
    runs_dir: options.RunsDir = Path("runs"),
    depth: options.Depth = 1000,
    option: options.Settings = None,
    dtype: options.Dtype = None,
    max_length: options.MaxLength = None,
    batch_tokens: options.BatchTokens = None,
    on_existing: options.OnExisting = options.Existing.ONLY_MISSING,
    offline: options.Offline = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Evaluate a checkpoint on BEIR and compare it with BM25 and RepLLaMA."""
    from llara_eval.catalogue import KNOWN_SETS
    from llara_eval.cli.evaluate import DEFAULT_MEASURES, print_objects, raise_failures, run_all

    set_up_logging(quiet=quiet, verbose=verbose)
    outcomes, errors = run_all(
        models=[model],
        datasets=options.split_list(datasets) if datasets else list(KNOWN_SETS),
        data_dir=data_dir,
        runs_dir=runs_dir,
        split=None,
        measures=options.split_list(DEFAULT_MEASURES),
        depth=depth,
        settings=options.settings(option, dtype=dtype, max_length=max_length, batch_tokens=batch_tokens),
        on_existing=on_existing,
        offline=offline,
        quiet=quiet,
    )
    if as_json:
        print_objects(outcomes)
    else:
        show(_comparison(outcomes, runs_dir))
    raise_failures(errors, done=len(outcomes))


def _comparison(outcomes: "list[Outcome]", runs_dir: Path) -> "Table":
    """Return nDCG@10 of a system beside the baselines: measured where there is a run, else published."""
    from rich.table import Table

    from llara_eval import published
    from llara_eval.cli.tables import baseline_cell, measured_means

    measured = {key: means.get("nDCG@10") for key, means in measured_means(runs_dir).items()}
    baselines = {
        "BM25 flat": ("bm25", published.BM25),
        "BM25 multifield": ("bm25-multifield", published.BM25_MULTIFIELD),
        "RepLLaMA-7B": (None, published.REPLLAMA),
    }
    table = Table(
        "data set", "n", title="nDCG@10", caption="* published, not measured here (source: leaderboard.md)"
    )
    for title in (outcomes[0].result.system, "MRR@10", *baselines):
        table.add_column(title, justify="right")
    for outcome in outcomes:
        result = outcome.result
        cells = []
        for own, theirs in baselines.values():
            here = measured.get((own, result.dataset)) if own else None
            cells.append(baseline_cell(here, published.value(theirs, result.dataset, "nDCG@10")))
        ndcg, rr = (
            f"{result.means[name]:.4f}" if name in result.means else "–" for name in ("nDCG@10", "RR@10")
        )
        table.add_row(plain(result.dataset), f"{result.n_queries:,}", f"[bold]{ndcg}[/]", rr, *cells)
    for row in _means(outcomes, list(baselines.values()), measured):
        table.add_section()
        table.add_row(*row)
    return table


def _means(
    outcomes: "list[Outcome]",
    baselines: list[tuple[str | None, str]],
    measured: dict[tuple[str, str], float | None],
) -> list[list[str]]:
    """Return a row for each complete set of sets; a part of a set has no mean under its name."""
    import math

    from llara_eval import published
    from llara_eval.catalogue import BEIR_13, CQADUPSTACK

    own = {outcome.result.dataset: outcome.result.means for outcome in outcomes}
    rows = []
    for title, members in (("CQADupStack, macro mean", CQADUPSTACK), ("BEIR-13", BEIR_13)):
        if not set(members) <= set(own):
            continue
        sums = [math.fsum(own[member][name] for member in members) for name in ("nDCG@10", "RR@10")]
        row = [title, f"{len(members)} sets", *(f"{value / len(members):.4f}" for value in sums)]
        for ours, theirs in baselines:
            values = [measured.get((ours, m)) if ours else None for m in members]
            mark = ""
            if None in values:
                values, mark = [published.value(theirs, member, "nDCG@10") for member in members], "*"
            known = [value for value in values if value is not None]
            row.append(f"{math.fsum(known) / len(known):.4f}{mark}" if len(known) == len(members) else "–")
        rows.append(row)
    return rows
