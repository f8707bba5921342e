"""Several outcomes as one collection: a table with a row for each system and data set."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from llara_eval.core.errors import DataError
from llara_eval.core.frames import Tabular
from llara_eval.core.paths import user_path
from llara_eval.evaluation.evaluate import Outcome
from llara_eval.evaluation.record import read_all
from llara_eval.evaluation.suite import Failure

logger = logging.getLogger(__name__)


class Outcomes(Tabular, Sequence[Outcome]):
    """A sequence of outcomes; as a table it has a row for each outcome and a column for each measure.

    Args:
        outcomes: The evaluations that succeeded.
        failures: The evaluations that failed.
    """

    def __init__(self, outcomes: Iterable[Outcome], failures: Iterable[Failure] = ()) -> None:
        self._outcomes = tuple(outcomes)
        self.failures = tuple(failures)

    @overload
    def __getitem__(self, index: int) -> Outcome: ...
    @overload
    def __getitem__(self, index: slice) -> "Outcomes": ...
    def __getitem__(self, index: int | slice) -> "Outcome | Outcomes":
        """Return one outcome, or several as a collection."""
        return self._outcomes[index] if isinstance(index, int) else Outcomes(self._outcomes[index])

    def __len__(self) -> int:
        return len(self._outcomes)

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self._outcomes)

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"<{len(self)} results{failed}>"

    def of(self, *, system: str | None = None, dataset: str | None = None) -> "Outcomes":
        """Return the outcomes of one system, of one data set, or of one system on one data set."""
        return Outcomes(
            outcome
            for outcome in self
            if system in (None, outcome.result.system) and dataset in (None, outcome.result.dataset)
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return system, data set, split, means, ties and the number of queries of each outcome."""
        return [
            {
                "system": outcome.result.system,
                "dataset": outcome.result.dataset,
                "split": outcome.result.split,
                **outcome.result.means,
                "ties@10": outcome.result.ties_at_10,
                "n_queries": outcome.result.n_queries,
            }
            for outcome in self
        ]

    def caption(self) -> str:
        """Return a sentence for each failure."""
        return "; ".join(map(str, self.failures))


def results(runs_dir: str | Path = "runs") -> Outcomes:
    """Return all results in a folder of results, in the order of their paths.

    A result that cannot be read is a failure of the outcomes, with a warning.

    Raises:
        DataError: The folder does not exist.
    """
    folder = user_path(runs_dir)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; llara_eval.evaluate makes results")
    stored, damaged = read_all(folder)
    for error in damaged.values():
        logger.warning("left out: %s", error)
    failures = [Failure(path.parent.name, path.name, error) for path, error in damaged.items()]
    return Outcomes((Outcome(result, path, fresh=False) for path, result in stored.items()), failures)
