"""``llara-eval score``: any run file against any judgements."""

import json
from pathlib import Path
from typing import Annotated

import typer

from llara_eval.cli import options
from llara_eval.cli.console import plain, show


def score(
    run: Annotated[
        Path, typer.Option("--run", help="TREC (6 columns) or MS MARCO (3 columns) run, may be gzipped.")
    ],
    qrels: Annotated[
        Path, typer.Option("--qrels", help="TREC, BEIR or MS MARCO judgements, may be gzipped.")
    ],
    measures: options.Measures = "nDCG@10,RR@10,RR@100,R@100,R@1000,Judged@10",
    per_query: Annotated[
        Path | None, typer.Option("--per-query", help="Write the values of each query to this file.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Score a run: ties broken canonically, every judged query counts.

    MRR@100 of MS MARCO documents and the like look no deeper than their cut-off, however long the run is.
    """
    from llara_eval.core.files import refuse_inputs
    from llara_eval.evaluation.record import save_per_query
    from llara_eval.reports.score import score as score_run

    if per_query is not None:
        refuse_inputs(per_query, (run, qrels))
    scored = score_run(run, qrels, options.split_list(measures))
    if per_query is not None:
        save_per_query(per_query, scored.per_query)
    if as_json:
        values = {
            "run": str(run),
            "qrels": str(qrels),
            "n_queries": scored.n_queries,
            "measures": scored.means,
            "ties@10": scored.ties_at_10,
        }
        typer.echo(json.dumps(values, ensure_ascii=False))
        return
    from rich.table import Table

    title = f"{plain(str(run))}: {scored.n_queries:,} judged queries"
    table = Table("measure", "mean", "95 % interval", title=title)
    for name, value in scored.measures.items():
        table.add_row(name, f"{value['mean']:.4f}", f"{value['low']:.4f} – {value['high']:.4f}")
    table.add_row("ties@10", f"{scored.ties_at_10:.4f}", "")
    show(table)
