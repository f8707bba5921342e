"""The one loop over systems and data sets, for every command that evaluates or encodes and for Python."""

import importlib.util
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from llara_eval.core import paths
from llara_eval.core.errors import LlaraEvalError, MissingPartError, UsageError
from llara_eval.core.leases import EXPIRES
from llara_eval.core.protocols import SILENT, Progress, Retriever
from llara_eval.datasets.dataset import Dataset
from llara_eval.datasets.known import expand
from llara_eval.datasets.load import load
from llara_eval.datasets.own_ids import OwnIds
from llara_eval.evaluation.evaluate import OnExisting, Outcome, evaluate

if TYPE_CHECKING:
    from adapters.options import Context

_NONE: Mapping[str, Any] = MappingProxyType({})

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


def _ignore(_: object) -> None:
    """Do nothing with an outcome or a failure."""


def evaluate_all(
    systems: Sequence[str | Retriever],
    datasets: Sequence[str | Dataset],
    *,
    options: Mapping[str, Any] = _NONE,
    data_dir: Path | None = None,
    runs_dir: Path = Path("runs"),
    store: str | None = None,
    depth: int | None = None,
    measures: Sequence[str] | None = None,
    split: str | None = None,
    own_ids: OwnIds | None = None,
    limit: int | None = None,
    on_existing: OnExisting = "only-missing",
    offline: bool = False,
    maxp: bool = False,
    progress: Progress = SILENT,
    announce: Callable[[Outcome], None] = _ignore,
    announce_failure: Callable[[Failure], None] = _ignore,
) -> tuple[list[Outcome], list[Failure]]:
    """Evaluate every system on every data set; an evaluation that fails does not stop the next ones.

    Only one system at a time is in memory. It is opened once for all data sets that have one text length.

    The arguments are those of :func:`llara_eval.evaluation.face.evaluate`, but Python objects must be
    retrievers. ``announce`` is called with each outcome, and ``announce_failure`` with each failure.

    Returns:
        The outcomes and the failures, each in order.

    Raises:
        MissingPartError: The package ``adapters`` that would be imported belongs to another project.
    """
    require_own_adapters()
    from adapters.options import Context

    outcomes: list[Outcome] = []

    def work(retriever: Retriever, dataset: Dataset) -> None:
        outcome = evaluate(
            retriever,
            dataset,
            runs_dir=runs_dir,
            measures=measures,
            depth=depth,
            settings_passed=options,
            on_existing=on_existing,
            progress=progress,
        )
        outcomes.append(outcome)
        announce(outcome)

    context = Context(paths.home(), offline=offline, maxp=maxp, store=store or paths.store())
    read = partial(_load, data_dir, split, own_ids, limit, offline, progress)
    failures = _each(systems, datasets, work, announce_failure, options, context, read)
    return outcomes, failures


def encode_all(
    system: str,
    datasets: Sequence[str],
    *,
    options: Mapping[str, Any] = _NONE,
    data_dir: Path | None = None,
    home: Path | None = None,
    store: str | None = None,
    split: str | None = None,
    offline: bool = False,
    lease_seconds: float = EXPIRES,
    progress: Progress = SILENT,
) -> list[dict[str, Any]]:
    """Tokenise and encode the documents and queries of data sets, as far as that has not been done.

    The arguments are those of :func:`llara_eval.evaluation.face.evaluate`, of one dense retriever that is
    named. ``home`` is the folder for caches; ``lease_seconds`` says how many seconds a worker may be silent
    before another takes over its shard.

    Returns:
        For each data set and each side, the number of vectors, how many were encoded now, the tokens and
        seconds that all of them took, and their folder.

    Raises:
        UsageError: The system is not a dense retriever.
        LlaraEvalError: A data set or the system cannot be read, or encoding failed.
    """
    require_own_adapters()
    from adapters.options import Context

    reports: list[dict[str, Any]] = []

    def work(retriever: Any, dataset: Dataset) -> None:
        if not hasattr(retriever, "encode_queries"):
            raise UsageError(f"{system} encodes nothing: it is not a dense retriever")
        retriever.index(dataset.corpus, progress)
        queries = retriever.encode_queries(dataset.queries, progress)
        reports.append(
            {
                "system": retriever.name,
                "dataset": dataset.name,
                "documents": _cost(retriever.phases["index"], retriever.documents.folder),
                "queries": _cost(retriever.phases["encode queries"], queries.folder),
            }
        )

    def fail(failure: Failure) -> None:
        raise failure.error

    context = Context(
        home or paths.home(), offline=offline, store=store or paths.store(), lease_seconds=lease_seconds
    )
    read = partial(_load, data_dir, split, None, None, offline, progress)
    _each([system], datasets, work, fail, options, context, read)
    return reports


def _each(
    systems: Sequence[str | Retriever],
    datasets: Sequence[str | Dataset],
    work: Callable[[Retriever, Dataset], None],
    announce_failure: Callable[[Failure], None],
    options: Mapping[str, Any],
    context: "Context",
    read: Callable[[str], Dataset],
) -> list[Failure]:
    """Call ``work`` with every open system and every data set, which ``read`` loads by its name.

    Returns:
        The failures in opening, loading or ``work``, of which each has been announced.
    """
    failures: list[Failure] = []
    for system in systems:
        retriever: Retriever | None = None
        opened: Context | None = None  # the context of the open retriever, whose weights are large
        for item in _expanded(datasets):
            name = item if isinstance(item, str) else item.name
            try:
                dataset = read(item) if isinstance(item, str) else item
                needed = replace(context, text_length=None if context.maxp else dataset.text_length)
                if retriever is None or needed != opened:
                    retriever = None  # two retrievers might not fit into memory
                    retriever, opened = _open(system, options, needed), needed
                work(retriever, dataset)
            except LlaraEvalError as error:
                _release(error)
                failures.append(Failure(system if isinstance(system, str) else system.name, name, error))
                announce_failure(failures[-1])
    return failures


def _load(
    data_dir: Path | None,
    split: str | None,
    own_ids: OwnIds | None,
    limit: int | None,
    offline: bool,
    progress: Progress,
    name: str,
) -> Dataset:
    return load(
        name,
        data_dir=data_dir or paths.data_dir(),
        split=split,
        own_ids=own_ids,
        limit=limit,
        offline=offline,
        progress=progress,
    )


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


def _open(system: str | Retriever, options: Mapping[str, Any], context: "Context") -> Retriever:
    """Open a system; a retriever is returned as it is, or searches passages if the context says so."""
    from adapters import open_system
    from adapters.maxp import MaxP

    if isinstance(system, str):
        return open_system(system, options, context)
    if options:
        raise UsageError(f"{system.name} is open already: it takes no options here")
    return MaxP(system) if context.maxp else system


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
