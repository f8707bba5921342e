"""What the commands that evaluate have in common: one call of the loop, its announcements, its JSON."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from llara_eval.cli.console import progress, say
from llara_eval.core.errors import PartialResultsError

if TYPE_CHECKING:
    from llara_eval.evaluation.evaluate import Outcome
    from llara_eval.evaluation.suite import Failure


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


def conclude(outcomes: "Sequence[Outcome]", failures: "Sequence[Failure]") -> None:
    """Raise if some evaluations failed, after the others have been shown.

    Raises:
        PartialResultsError: There are failures.
    """
    if failures:
        every = len(failures) + len(outcomes)
        raise PartialResultsError(f"{len(failures)} of {every} evaluations failed: {failures[0].error}")


def print_objects(outcomes: "Sequence[Outcome]") -> None:
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
