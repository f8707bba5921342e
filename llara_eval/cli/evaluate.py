"""``llara-eval evaluate``: systems × data sets → stored results and a table."""

from pathlib import Path
from typing import Annotated

import typer

from llara_eval.cli import options
from llara_eval.cli.console import say, set_up_logging, show
from llara_eval.cli.evaluation import conclude, print_objects, run

Measures = Annotated[
    str | None,
    typer.Option(
        "--measures",
        help="Comma-separated (MRR@10 is RR@10); by default nDCG@10, RR, R and Judged@10, of MS MARCO and "
        "TREC what is reported there.",
    ),
]


def evaluate(
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            help="A system's name, a checkpoint folder, a GGUF file or a hub name; repeatable.",
        ),
    ],
    dataset: options.Datasets,
    data_dir: options.DataDir,
    store: options.Store,
    runs_dir: options.RunsDir = Path("runs"),
    split: options.Split = None,
    measures: Measures = None,
    depth: options.Depth = None,
    option: options.Settings = None,
    dtype: options.Dtype = None,
    max_length: options.MaxLength = None,
    batch_tokens: options.BatchTokens = None,
    backend: options.Backend = None,
    vectors: options.Vectors = None,
    dims: options.Dims = None,
    on_existing: options.OnExisting = options.Existing.ONLY_MISSING,
    offline: options.Offline = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Evaluate systems on data sets and keep the results.

    With --json, one object per system and data set is printed on stdout, a line each.
    """
    set_up_logging(quiet=quiet, verbose=verbose)
    outcomes, failures = run(
        model,
        dataset,
        data_dir=data_dir,
        store=store,
        runs_dir=runs_dir,
        split=split,
        measures=None if measures is None else options.split_list(measures),
        depth=depth,
        options=options.settings(
            option,
            dtype=dtype,
            max_length=max_length,
            batch_tokens=batch_tokens,
            backend=backend,
            vectors=vectors,
            dims=dims,
        ),
        on_existing=on_existing.value,
        offline=offline,
        quiet=quiet,
    )
    if as_json:
        print_objects(outcomes)
    else:
        from llara_eval.cli.tables import outcomes_table

        show(outcomes_table(outcomes))
        if not quiet:
            say(f"results: {runs_dir}/<system>/<data set>/  (result.json, per_query.tsv, run.trec.gz)")
    conclude(outcomes, failures)
