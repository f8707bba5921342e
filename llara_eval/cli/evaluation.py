"""What the commands that evaluate or encode have in common: their options, one call, one report."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import typer

from llara_eval.cli import options
from llara_eval.cli.console import progress, say, set_up_logging, show
from llara_eval.core.errors import PartialResultsError

if TYPE_CHECKING:
    from rich.table import Table

    from llara_eval.evaluation.evaluate import Outcome
    from llara_eval.evaluation.suite import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """The options of every command that opens a system on data sets; each is explained where its type is."""

    NAMED: ClassVar[tuple[str, ...]] = ("dtype", "max_length", "batch_tokens", "backend")
    """Settings of a system that have an option of their own."""

    data_dir: options.DataDir
    store: options.Store
    option: options.Settings = None
    dtype: options.Dtype = None
    max_length: options.MaxLength = None
    batch_tokens: options.BatchTokens = None
    backend: options.Backend = None
    offline: options.Offline = False
    as_json: options.Json = False
    quiet: options.Quiet = False
    verbose: options.Verbose = False

    def shared(self) -> dict[str, Any]:
        """Set up the log, and return what the loops over data sets take alike.

        Raises:
            UsageError: A setting is malformed, or given twice.
        """
        set_up_logging(quiet=self.quiet, verbose=self.verbose)
        named = {name: getattr(self, name) for name in self.NAMED}
        return {
            "options": options.settings(self.option, **named),
            "data_dir": self.data_dir,
            "store": self.store,
            "offline": self.offline,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation(Encoding):
    """The options of every command that evaluates systems."""

    NAMED: ClassVar[tuple[str, ...]] = (*Encoding.NAMED, "vectors", "dims")

    vectors: options.Vectors = None
    dims: options.Dims = None
    runs_dir: options.RunsDir = Path("runs")
    depth: options.Depth = None
    on_existing: options.OnExisting = options.Existing.ONLY_MISSING

    def run(
        self, systems: Sequence[str], datasets: Sequence[str], **more: Any
    ) -> "tuple[list[Outcome], list[Failure]]":
        """Evaluate systems on data sets as the options say, see :func:`run`; ``more`` goes there, too."""
        return run(
            systems,
            datasets,
            runs_dir=self.runs_dir,
            depth=self.depth,
            on_existing=self.on_existing.value,
            quiet=self.quiet,
            **self.shared(),
            **more,
        )

    def report(
        self,
        outcomes: "Sequence[Outcome]",
        failures: "Sequence[Failure]",
        table: "Callable[[Sequence[Outcome]], Table]",
    ) -> None:
        """Print a line of JSON for each outcome, or a table of all.

        Raises:
            PartialResultsError: There are failures.
        """
        if self.as_json:
            for outcome in outcomes:
                typer.echo(json.dumps(as_object(outcome), ensure_ascii=False))
        else:
            show(table(outcomes))
            if not self.quiet:
                files = "result.json, per_query.tsv, run.trec.gz"
                say(f"results: {self.runs_dir}/<system>/<data set>/  ({files})")
        if failures:
            every = len(failures) + len(outcomes)
            raise PartialResultsError(f"{len(failures)} of {every} evaluations failed: {failures[0].error}")


def run(
    systems: Sequence[str], datasets: Sequence[str], *, quiet: bool, **given: Any
) -> "tuple[list[Outcome], list[Failure]]":
    """Evaluate systems on data sets, and say on stderr what comes out as it comes.

    Args:
        systems: As for :func:`llara_eval.evaluation.suite.evaluate_all`.
        datasets: As there.
        quiet: Whether to show no progress and to announce failures only.
        given: What else goes there.

    Raises:
        LlaraEvalError: Nothing succeeded: the first error, as it is.
    """
    from llara_eval.datasets.known import expand
    from llara_eval.evaluation.suite import evaluate_all

    several = len(systems) * len({name for dataset in datasets for name in expand(dataset)}) > 1
    outcomes, failures = evaluate_all(
        systems,
        datasets,
        progress=progress(quiet=quiet),
        announce=_ignore if quiet else _announce,
        announce_failure=_announce_failure if several else _ignore,
        **given,
    )
    if failures and not outcomes:
        raise failures[0].error
    return outcomes, failures


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


def _announce(outcome: "Outcome") -> None:
    result = outcome.result
    kept = "" if outcome.fresh else " (kept from an earlier run)"
    measure, mean = next(iter(result.means.items()))
    say(f"{result.system} on {result.dataset}: {measure} {mean:.4f}{kept}")
    for warning in result.warnings:
        say(f"  note: {warning}")


def _announce_failure(failure: "Failure") -> None:
    say(f"{failure.system} on {failure.dataset} failed: {failure.error}", style="red")


def _ignore(_: object) -> None:
    """Say nothing: of the only failure, the program itself says its error."""
