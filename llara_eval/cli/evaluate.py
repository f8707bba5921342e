"""``llara-eval evaluate``: systems × data sets → stored results and a table."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llara_eval.cli import options
from llara_eval.cli.console import progress, say, set_up_logging, show
from llara_eval.core.errors import LlaraEvalError, PartialResultsError
from llara_eval.core.paths import home

if TYPE_CHECKING:
    from llara_eval.core.protocols import Retriever
    from llara_eval.evaluation.evaluate import Outcome

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
    outcomes, errors = run_all(
        models=model,
        datasets=dataset,
        data_dir=data_dir,
        store=store,
        runs_dir=runs_dir,
        split=split,
        measures=None if measures is None else options.split_list(measures),
        depth=depth,
        settings=options.settings(
            option,
            dtype=dtype,
            max_length=max_length,
            batch_tokens=batch_tokens,
            backend=backend,
            vectors=vectors,
            dims=dims,
        ),
        on_existing=on_existing,
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
    raise_failures(errors, done=len(outcomes))


def run_all(
    *,
    models: list[str],
    datasets: list[str],
    data_dir: Path,
    store: str | None,
    runs_dir: Path,
    settings: dict[str, Any],
    on_existing: options.Existing,
    offline: bool,
    quiet: bool,
    measures: list[str] | None = None,
    depth: int | None = None,
    split: str | None = None,
    maxp: bool = False,
) -> "tuple[list[Outcome], list[LlaraEvalError]]":
    """Evaluate every system on every data set; a failure does not lose what comes after it.

    Returns:
        What was evaluated, and the errors of what failed.

    Raises:
        LlaraEvalError: Nothing succeeded: the first error, as it is.
    """
    from llara_eval.cli.installation import require_own_adapters

    require_own_adapters()
    from adapters import open_system
    from adapters.options import Context
    from llara_eval.datasets import load as sets
    from llara_eval.datasets.known import expand
    from llara_eval.evaluation.evaluate import evaluate as evaluate_one

    outcomes: list[Outcome] = []
    errors: list[LlaraEvalError] = []
    watch = progress(quiet=quiet)
    names = list(dict.fromkeys(part for name in datasets for part in expand(name)))
    for model in models:
        retriever: Retriever | None = None
        opened: Context | None = None  # once for all data sets that are read alike: weights are large
        for name in names:
            try:
                dataset = sets.load(name, data_dir=data_dir, split=split, offline=offline, progress=watch)
                length = None if maxp else dataset.text_length
                context = Context(home(), offline=offline, text_length=length, maxp=maxp, store=store)
                if retriever is None or context != opened:
                    retriever = None  # two at a time might not fit into memory
                    retriever, opened = open_system(model, settings, context), context
                outcome = evaluate_one(
                    retriever,
                    dataset,
                    runs_dir=runs_dir,
                    measures=measures,
                    depth=depth,
                    settings_passed=settings,
                    on_existing=on_existing.value,
                    progress=watch,
                )
            except LlaraEvalError as error:
                errors.append(error)
                if len(models) * len(names) > 1:
                    say(f"{model} on {name} failed: {error}", style="red")
                continue
            outcomes.append(outcome)
            if not quiet:
                _note(outcome)
    if errors and not outcomes:
        raise errors[0]
    return outcomes, errors


def raise_failures(errors: list[LlaraEvalError], *, done: int) -> None:
    """Raise if some evaluations failed, after the others have been shown.

    Raises:
        PartialResultsError: There are errors.
    """
    if errors:
        raise PartialResultsError(f"{len(errors)} of {len(errors) + done} evaluations failed: {errors[0]}")


def print_objects(outcomes: "list[Outcome]") -> None:
    """Print one JSON object for each evaluation, a line each, on stdout."""
    for outcome in outcomes:
        typer.echo(json.dumps(as_object(outcome), ensure_ascii=False))


def as_object(outcome: "Outcome") -> dict[str, Any]:
    """Return what ``--json`` prints of an evaluation."""
    from llara_eval.evaluation.record import RUN

    result = outcome.result
    return {
        "system": result.system,
        "dataset": result.dataset,
        "split": result.split,
        "n_queries": result.n_queries,
        "measures": result.means,
        "ties@10": result.ties_at_10,
        "run": str(outcome.folder / RUN),
    }


def _note(outcome: "Outcome") -> None:
    result = outcome.result
    kept = "" if outcome.fresh else " (kept from an earlier run)"
    measure, mean = next(iter(result.means.items()))
    say(f"{result.system} on {result.dataset}: {measure} {mean:.4f}{kept}")
    for warning in result.warnings:
        say(f"  note: {warning}")
