"""The one loop over systems and data sets, for every command that evaluates or encodes and for Python."""

import importlib.util
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from llara_eval.core import paths
from llara_eval.core.errors import LlaraEvalError, MissingPartError, UsageError
from llara_eval.core.existing import OnExistingResult
from llara_eval.core.leases import EXPIRES
from llara_eval.core.protocols import SILENT, Adjustable, Progress, Retriever
from llara_eval.datasets.dataset import Dataset
from llara_eval.datasets.known import expand
from llara_eval.datasets.load import load
from llara_eval.datasets.own_ids import OwnIds
from llara_eval.evaluation.evaluate import Outcome, evaluate

FOREIGN_WAY_OUT = "pip uninstall adapters, then install llara-eval again"


@dataclass(frozen=True, slots=True)
class Failure:
    """An evaluation that failed.

    Attributes:
        system: The name or path that was given, or the name of a retriever.
        dataset: The name or path that was given, or the name of a data set that was loaded already.
        error: The error.
    """

    system: str
    dataset: str
    error: LlaraEvalError

    def __str__(self) -> str:
        return f"{self.system} on {self.dataset} failed: {self.error}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How systems are opened, data sets read and results kept.

    The fields are those of :func:`llara_eval.evaluation.face.evaluate`, with the same meaning, and:

    Attributes:
        home: The folder for caches; None: the usual folder.
        lease_seconds: How many seconds a worker may be silent before another takes over its shard.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    measures: Sequence[str] | None = None
    depth: int | None = None
    split: str | None = None
    own_ids: OwnIds | None = None
    limit: int | None = None
    runs_dir: Path = Path("runs")
    data_dir: Path | None = None
    home: Path | None = None
    store: str | None = None
    on_existing: OnExistingResult = "only-missing"
    offline: bool = False
    maxp: bool = False
    lease_seconds: float = EXPIRES
    progress: Progress = SILENT

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UsageError: ``depth`` or ``limit`` is below 1.
        """
        for name, number in (("depth", self.depth), ("limit", self.limit)):
            if number is not None and number < 1:
                raise UsageError(f"{name}={number} is below 1")

    def open(self, system: str | Retriever) -> Retriever:
        """Open a system; a retriever is returned as it is, or searches passages if ``maxp`` says so.

        Raises:
            UsageError: The system is unknown, or options are given to a retriever.
            LlaraEvalError: The system cannot be read.
        """
        from adapters import open_system
        from adapters.maxp import MaxP
        from adapters.options import Context

        if isinstance(system, str):
            context = Context(
                self.home or paths.home(),
                offline=self.offline,
                maxp=self.maxp,
                store=self.store or paths.store(),
                lease_seconds=self.lease_seconds,
            )
            return open_system(system, self.options, context)
        if self.options:
            raise UsageError(f"{system.name} is open already: it takes no options here")
        return MaxP(system) if self.maxp else system

    def load(self, dataset: str | Dataset) -> Dataset:
        """Load a data set by its name or folder; one that is loaded already is returned as it is.

        Raises:
            DataError: The data set cannot be read.
        """
        if isinstance(dataset, Dataset):
            return dataset
        return load(
            dataset,
            data_dir=self.data_dir or paths.data_dir(),
            split=self.split,
            own_ids=self.own_ids,
            limit=self.limit,
            offline=self.offline,
            progress=self.progress,
        )


Helpers = Callable[[Retriever, str, str], AbstractContextManager[object]]
"""Starts workers that help to index documents while a block runs; called with the open system, and with the
names of the system and of the data set as they were given."""


def _ignore(_: object) -> None:
    """Do nothing with an outcome or a failure."""


def evaluate_all(
    systems: Sequence[str | Retriever],
    datasets: Sequence[str | Dataset],
    conditions: Conditions,
    *,
    helpers: Helpers | None = None,
    announce: Callable[[Outcome], None] = _ignore,
    announce_failure: Callable[[Failure], None] = _ignore,
) -> tuple[list[Outcome], list[Failure]]:
    """Evaluate every system on every data set; an evaluation that fails does not stop the next ones.

    Only one system at a time is in memory. It is opened once for all data sets.

    Args:
        systems: Names, or retrievers.
        datasets: Names of data sets and groups, folders, or data sets that are loaded already.
        conditions: How systems are opened, data sets read and results kept.
        helpers: Workers that help to index the documents of a data set; None: nobody helps.
        announce: Called with each outcome.
        announce_failure: Called with each failure.

    Returns:
        The outcomes and the failures, each in order.

    Raises:
        MissingPartError: The package ``adapters`` that would be imported belongs to another project.
    """
    outcomes: list[Outcome] = []

    def work(retriever: Retriever, dataset: Dataset, system_name: str, dataset_name: str) -> None:
        outcome = evaluate(
            retriever,
            dataset,
            runs_dir=conditions.runs_dir,
            measures=conditions.measures,
            depth=conditions.depth,
            settings_passed=conditions.options,
            on_existing=conditions.on_existing,
            helpers=partial(helpers, retriever, system_name, dataset_name) if helpers else nullcontext,
            progress=conditions.progress,
        )
        outcomes.append(outcome)
        announce(outcome)

    failures = _each(systems, datasets, conditions, work, announce_failure)
    return outcomes, failures


def encode_all(system: str, datasets: Sequence[str], conditions: Conditions) -> list[dict[str, Any]]:
    """Tokenise and encode the documents and queries of data sets, as far as that has not been done.

    Args:
        system: The name of a dense retriever.
        datasets: Names of data sets and groups, or folders.
        conditions: How the system is opened and the data sets are read.

    Returns:
        For each data set and each side, the number of vectors, how many were encoded now, the tokens and
        seconds that all of them took, and their folder.

    Raises:
        UsageError: The system is not a dense retriever.
        LlaraEvalError: A data set or the system cannot be read, or encoding failed.
    """
    reports: list[dict[str, Any]] = []

    def work(retriever: Retriever, dataset: Dataset, *_: str) -> None:
        dense = dense_part(retriever)
        if dense is None:
            raise UsageError(f"{system} encodes nothing: it is not a dense retriever")
        retriever.index(dataset.corpus, conditions.progress)
        queries = dense.encode_queries(dataset.queries, conditions.progress)
        reports.append(
            {
                "system": retriever.name,
                "dataset": dataset.name,
                "documents": _cost(dense.phases["index"], dense.documents.folder),
                "queries": _cost(dense.phases["encode queries"], queries.folder),
            }
        )

    def fail(failure: Failure) -> None:
        raise failure.error

    _each([system], datasets, conditions, work, fail)
    return reports


def dense_part(retriever: Retriever) -> Any:
    """Return the dense retriever that a retriever is, or that searches its passages; None: there is none."""
    inner = getattr(retriever, "inner", retriever)
    return inner if hasattr(inner, "encode_queries") else None


def _each(
    systems: Sequence[str | Retriever],
    datasets: Sequence[str | Dataset],
    conditions: Conditions,
    work: Callable[[Retriever, Dataset, str, str], None],
    announce_failure: Callable[[Failure], None],
) -> list[Failure]:
    """Call ``work`` with every open system, every data set, and the names of both as they were given.

    Returns:
        The failures in opening, loading or ``work``, of which each has been announced.

    Raises:
        MissingPartError: The package ``adapters`` that would be imported belongs to another project.
    """
    require_own_adapters()
    failures: list[Failure] = []
    for system in systems:
        system_name = system if isinstance(system, str) else system.name
        retriever: Retriever | None = None
        for item in _expanded(datasets):
            name = item if isinstance(item, str) else item.name
            try:
                dataset = conditions.load(item)
                if retriever is None:
                    retriever = conditions.open(system)
                work(_adjusted(retriever, dataset), dataset, system_name, name)
            except LlaraEvalError as error:
                _release(error)
                failures.append(Failure(system_name, name, error))
                announce_failure(failures[-1])
    return failures


def _adjusted(retriever: Retriever, dataset: Dataset) -> Retriever:
    """Return a retriever as it reads a data set."""
    if isinstance(retriever, Adjustable):
        return retriever.on(dataset.name, dataset.text_length)
    return retriever


def _release(error: BaseException | None) -> None:
    """Clear the frames of an error that is kept: they refer to the system that failed and its weights."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _expanded(datasets: Sequence[str | Dataset]) -> list[str | Dataset]:
    """Return data sets with the members of groups in place of the groups, and each name once."""
    items: list[str | Dataset] = []
    for item in datasets:
        if isinstance(item, str):
            items += [member for member in expand(item) if member not in items]
        else:
            items.append(item)
    return items


def _cost(phase: Mapping[str, float], folder: object) -> dict[str, Any]:
    """Return the number of vectors, how many were encoded now, what all of them cost, and their folder."""
    return {
        "rows": phase["rows"],
        "made": phase["rows"] - phase["reused"],
        "tokens": phase["tokens"],
        "seconds": phase["seconds"],
        "vectors": str(folder),
    }


def adapters_folder() -> tuple[Path | None, bool]:
    """Return the folder of the package ``adapters`` that would be imported, and whether it is ours."""
    spec = importlib.util.find_spec("adapters")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    return folder, folder is not None and (folder / "bm25.py").is_file()


def require_own_adapters() -> None:
    """Refuse another project's package ``adapters``: one on PyPI has the same import name.

    Raises:
        MissingPartError: The package belongs to another project, or is missing.
    """
    folder, ours = adapters_folder()
    if not ours:
        problem = f"at {folder} belongs to another project" if folder else "is missing"
        raise MissingPartError(f"the package 'adapters' {problem}: {FOREIGN_WAY_OUT}")
