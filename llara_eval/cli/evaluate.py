"""``llara-eval evaluate``: systems × data sets → stored results and a table."""

from typing import Annotated

import typer

from llara_eval.cli import options
from llara_eval.cli.evaluation import Evaluation


def evaluate(
    context: typer.Context,
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            callback=options.split_names,
            help="A system: its name, a checkpoint folder, a GGUF file, or a hub name. Repeat the option for "
            "several systems, or put commas between them.",
        ),
    ],
    dataset: options.Datasets,
    split: options.Split = None,
    measures: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="The measures, with commas between them (MRR@10 is RR@10). By default nDCG@10, RR, R and "
            "Judged@10; on MS MARCO and TREC those that are usually reported.",
        ),
    ] = None,
    *,
    evaluation: Evaluation,
) -> None:
    """Evaluate systems on data sets and keep the results.

    With --json, each result is one line on stdout.
    """
    names = None if measures is None else options.split_list(measures)
    outcomes, failures = evaluation.run(context, model, dataset, split=split, measures=names)
    from llara_eval.cli.tables import outcomes_table

    evaluation.report(outcomes, failures, outcomes_table)
