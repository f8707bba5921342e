"""``llara-eval score``: any run file against any judgements."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llara_eval.cli import options
from llara_eval.cli.console import print_json, show, table

if TYPE_CHECKING:
    from rich.table import Table

    from llara_eval.reports.score import Scored


def score(
    run: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="A run: TREC (6 columns), query, document, rank and score (4), MS MARCO (3), or JSON, JSONL "
            "or Parquet; also gzipped.",
        ),
    ],
    qrels: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="Judgements: TREC, BEIR, MS MARCO, or JSON, JSONL or Parquet; also gzipped.",
        ),
    ],
    measures: Annotated[
        str, typer.Option(metavar="NAMES", help="The measures, with commas between them (MRR@10 is RR@10).")
    ] = "nDCG@10,RR@10,RR@100,R@100,R@1000,Judged@10",
    per_query: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the values of each query to this file.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Score a run; every judged query counts, and ties have one order.

    A measure with a cut-off, such as MRR@100 of MS MARCO documents, looks no deeper than the cut-off, however
    long the run is.
    """
    from llara_eval.core.files import refuse_inputs
    from llara_eval.core.own_files import require_own
    from llara_eval.evaluation.record import is_part_of_result, load_per_query, save_per_query
    from llara_eval.reports.score import score as score_run

    if per_query is not None:
        refuse_inputs(per_query, (run, qrels))
        require_own(
            per_query,
            lambda path: not is_part_of_result(path) and load_per_query(path),
            "score",
            "--per-query",
        )
    scored = score_run(run, qrels, options.split_list(measures))
    if per_query is not None:
        save_per_query(per_query, scored.per_query)
    if as_json:
        print_json(
            {
                "run": str(run),
                "qrels": str(qrels),
                "n_queries": scored.n_queries,
                "measures": scored.means,
                "ties@10": scored.ties_at_10,
                "by_written_ranks": scored.by_written_ranks,
            }
        )
        return
    show(_table(scored, f"{run}: {scored.n_queries:,} judged queries"))


def _table(scored: "Scored", title: str) -> "Table":
    rows = [
        [name, f"{value['mean']:.4f}", f"{value['low']:.4f} – {value['high']:.4f}"]
        for name, value in scored.measures.items()
    ]
    rows += [
        [f"{name} by the written ranks", f"{mean:.4f}", ""] for name, mean in scored.by_written_ranks.items()
    ]
    rows.append(["ties@10", f"{scored.ties_at_10:.4f}", ""])
    caption = "the ranks have gaps or repeats: MS MARCO's script counts them, all else closes them"
    return table(
        ["measure", "mean", "95 % interval"],
        rows,
        title=title,
        caption=caption if scored.by_written_ranks else "",
    )
