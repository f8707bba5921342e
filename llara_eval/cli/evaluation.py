"""What the commands that evaluate or encode have in common: their options, one call, one report."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import typer

from llara_eval.cli import options
from llara_eval.cli.console import print_json, progress, say, show
from llara_eval.core import paths
from llara_eval.core.errors import PartialResultsError

if TYPE_CHECKING:
    from rich.table import Table

    from llara_eval.core.protocols import Retriever
    from llara_eval.evaluation.evaluate import Outcome
    from llara_eval.evaluation.suite import Failure, Helpers


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding(options.Opening):
    """The options of every command that opens a system on data sets."""

    PANEL: ClassVar[str] = "Data options"

    data_dir: options.DataDir
    store: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|URL",
            help="The folder or URL (s3://, gs://, …) of token ids and vectors.",
            envvar="LLARA_EVAL_STORE",
            default_factory=paths.store,
            show_default="the cache folder",
        ),
    ]
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Take only N queries and a pool of documents, for a trial; not comparable."),
    ] = None

    def conditions(self) -> dict[str, Any]:
        """Set up the log, and return the arguments that evaluation and encoding have in common.

        Raises:
            UsageError: A setting is malformed, or given twice.
        """
        self.set_up()
        return {
            "options": self.settings(),
            "data_dir": self.data_dir,
            "store": self.store,
            "limit": self.limit,
            "offline": self.offline,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation(Encoding):
    """The options of every command that evaluates systems."""

    PANEL: ClassVar[str] = "Evaluation options"

    NAMED: ClassVar[tuple[str, ...]] = (*Encoding.NAMED, "vectors", "dims")

    vectors: Annotated[
        str | None,
        typer.Option(
            metavar="fp16|int8|binary",
            help="How vectors are searched: fp16 (the default) searches them as they are stored; int8 and "
            "binary search codes of a byte or a bit for each component, and score the best hits in full.",
        ),
    ] = None
    dims: Annotated[
        int | None,
        typer.Option(min=1, help="How many dimensions of the vectors to keep (Matryoshka models)."),
    ] = None
    runs_dir: options.RunsDir = Path("runs")
    depth: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many documents are kept for a query; by default 1000, or 100 on MS MARCO's documents.",
        ),
    ] = None
    own_ids: Annotated[
        Literal["drop", "keep"] | None,
        typer.Option(
            help="Drop the document with a query's own id from its ranking, or keep it; by default as the "
            "data set declares it."
        ),
    ] = None
    workers: Annotated[
        int,
        typer.Option(
            min=1, help="How many processes of this machine encode, each with the weights in its memory."
        ),
    ] = 1
    on_existing: options.OnExisting = "only-missing"

    def run(
        self, context: typer.Context, systems: Sequence[str], datasets: Sequence[str], **conditions: Any
    ) -> "tuple[list[Outcome], list[Failure]]":
        """Evaluate systems on data sets as the options say and under further conditions, see :func:`run`.

        ``context`` is that of the command, whose options the workers get.
        """
        return run(
            systems,
            datasets,
            helpers=self._helpers(context) if self.workers > 1 else None,
            runs_dir=self.runs_dir,
            depth=self.depth,
            own_ids=self.own_ids,
            on_existing=self.on_existing,
            quiet=self.quiet,
            **self.conditions(),
            **conditions,
        )

    def _helpers(self, context: typer.Context) -> "Helpers":
        """Return what starts the other workers: they encode documents with the options of this command."""
        from llara_eval.cli import launch
        from llara_eval.evaluation.suite import dense_part

        say_once = cache(say)

        def start(retriever: "Retriever", system: str, dataset: str) -> AbstractContextManager[None]:
            if dense_part(retriever) is None:
                if not self.quiet:
                    say_once(f"{retriever.name} encodes nothing: --workers has no effect on it")
                return nullcontext()
            words = launch.arguments(context, "encode", model=system, dataset=dataset, workers=1)
            return launch.beside(words, self.workers)

        return start

    def report(
        self,
        outcomes: "Sequence[Outcome]",
        failures: "Sequence[Failure]",
        table: "Callable[[Sequence[Outcome]], Table]",
    ) -> None:
        """Print a line of JSON for each outcome, or a table of all outcomes.

        Raises:
            PartialResultsError: An evaluation failed.
        """
        if self.as_json:
            print_json(*map(_as_object, outcomes))
        else:
            show(table(outcomes))
            if not self.quiet:
                files = "result.json, per_query.tsv, run.trec.gz"
                say(f"results: {self.runs_dir}/<system>/<data set>/  ({files})")
        if failures:
            attempts = len(failures) + len(outcomes)
            raise PartialResultsError(
                f"{len(failures)} of {attempts} evaluations failed: {failures[0].error}"
            )


def run(
    systems: Sequence[str],
    datasets: Sequence[str],
    *,
    quiet: bool,
    helpers: "Helpers | None" = None,
    **conditions: Any,
) -> "tuple[list[Outcome], list[Failure]]":
    """Evaluate systems on data sets, and report each evaluation on stderr as soon as it has ended.

    Args:
        systems: As for :func:`llara_eval.evaluation.suite.evaluate_all`.
        datasets: As for ``evaluate_all``.
        quiet: Whether only failures are reported, and no progress is shown.
        helpers: As for ``evaluate_all``.
        conditions: Fields of :class:`llara_eval.evaluation.suite.Conditions`.

    Raises:
        LlaraEvalError: All evaluations failed; the first error is raised.
    """
    from llara_eval.datasets.known import expand
    from llara_eval.evaluation.suite import Conditions, evaluate_all
    from llara_eval.reports.markdown import MEASURES

    single = len(systems) * len({name for dataset in datasets for name in expand(dataset)}) == 1

    def announce(outcome: "Outcome") -> None:
        if quiet:
            return
        result = outcome.result
        kept = "" if outcome.fresh else " (kept from an earlier run)"
        measure, mean = next(iter(result.means.items()))
        say(f"{result.system} on {result.dataset}: {MEASURES.get(measure, measure)} {mean:.4f}{kept}")
        for note in filter(None, [result.prompts, *result.warnings]):
            say(f"  note: {note}")

    def announce_failure(failure: "Failure") -> None:
        if not single:  # a single failure ends the command, which prints the error itself
            say(str(failure), style="red")

    outcomes, failures = evaluate_all(
        systems,
        datasets,
        Conditions(progress=progress(quiet=quiet), **conditions),
        helpers=helpers,
        announce=announce,
        announce_failure=announce_failure,
    )
    if failures and not outcomes:
        raise failures[0].error
    return outcomes, failures


def _as_object(outcome: "Outcome") -> dict[str, Any]:
    """Return what ``--json`` prints for an evaluation."""
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
