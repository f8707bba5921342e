"""Systems × data sets: the one loop behind every command that evaluates or encodes, and behind Python."""

import atexit
import importlib.util
import shutil
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from llara_eval.evaluation.evaluate import OnExisting, Outcome, evaluate

if TYPE_CHECKING:
    from adapters.options import Context

_NONE: Mapping[str, Any] = MappingProxyType({})

FOREIGN_WAY_OUT = "pip uninstall adapters, then install llara-eval again"


@dataclass(frozen=True, slots=True)
class Failure:
    """An evaluation that did not come to its end.

    Attributes:
        system: The system as it was asked for, or its name if it was a retriever already.
        dataset: The data set as it was asked for, or its name if it was loaded already.
        error: Why.
    """

    system: str
    dataset: str
    error: LlaraEvalError


def _ignore(_: object) -> None:
    """Take no notice."""


def evaluate_all(
    systems: Sequence[str | Retriever],
    datasets: Sequence[str | Dataset],
    *,
    options: Mapping[str, Any] = _NONE,
    data_dir: Path | None = None,
    runs_dir: Path | None = Path("runs"),
    store: str | None = None,
    depth: int | None = None,
    measures: Sequence[str] | None = None,
    split: str | None = None,
    on_existing: OnExisting = "only-missing",
    offline: bool = False,
    maxp: bool = False,
    progress: Progress = SILENT,
    announce: Callable[[Outcome], None] = _ignore,
    announce_failure: Callable[[Failure], None] = _ignore,
) -> tuple[list[Outcome], list[Failure]]:
    """Evaluate every system on every data set; one that fails does not stop those after it.

    One system at a time is in memory. It is opened once for all data sets whose documents are read alike.

    Args:
        systems: Names, checkpoint folders, GGUF files, hub names, or objects that are retrievers already.
        datasets: Names, folders, groups (``beir-13``), or data sets that are loaded already.
        options: Settings of the systems that are opened here.
        data_dir: Where named data sets are looked for and downloaded to; None: ``LLARA_EVAL_DATA``, or a
            folder in the cache folder.
        runs_dir: Where results are kept; None: in a temporary folder that goes when the process ends.
        store: Where token ids and vectors live; None: ``LLARA_EVAL_STORE``, or the cache folder.
        depth: Documents kept for a query; None: as is usual for the data set.
        measures: What is measured; None: as is usual for the data set.
        split: The judgements to use of named data sets; None: the usual ones.
        on_existing: What to do where a result is already there, see :func:`evaluate`.
        offline: Never use the network.
        maxp: Search documents by their passages.
        progress: Where to show progress.
        announce: Called with each outcome as soon as it is there.
        announce_failure: Called with each failure as soon as it is there.

    Returns:
        Outcomes and failures, in the order in which they came.

    Raises:
        MissingPartError: The package ``adapters`` is another project's.
    """
    require_own_adapters()
    from adapters.options import Context

    kept_in = _temporary_folder() if runs_dir is None else runs_dir
    outcomes: list[Outcome] = []

    def work(retriever: Retriever, dataset: Dataset) -> None:
        outcome = evaluate(
            retriever,
            dataset,
            runs_dir=kept_in,
            measures=measures,
            depth=depth,
            settings_passed=options,
            on_existing=on_existing,
            progress=progress,
        )
        outcomes.append(outcome)
        announce(outcome)

    context = Context(paths.home(), offline=offline, maxp=maxp, store=store or paths.store())
    failures = _each(systems, datasets, work, announce_failure, options, context, data_dir, split, progress)
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

    Args:
        system: A checkpoint folder, a GGUF file, a hub name, or a dense system's name.
        datasets: As for :func:`evaluate_all`.
        options: Settings of the system.
        data_dir: As for :func:`evaluate_all`.
        home: The folder for caches; None: as usual.
        store: As for :func:`evaluate_all`.
        split: As for :func:`evaluate_all`.
        offline: Never use the network.
        lease_seconds: How long a worker may be silent before another takes over what it works on.
        progress: Where to show progress.

    Returns:
        For each data set, how many vectors there are, how many were made now, what they cost, and where they
        are.

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
    _each([system], datasets, work, fail, options, context, data_dir, split, progress)
    return reports


def _each(
    systems: Sequence[str | Retriever],
    datasets: Sequence[str | Dataset],
    work: Callable[[Retriever, Dataset], None],
    announce_failure: Callable[[Failure], None],
    options: Mapping[str, Any],
    context: "Context",
    data_dir: Path | None,
    split: str | None,
    progress: Progress,
) -> list[Failure]:
    """Call ``work`` with every open system and every data set.

    Returns:
        The errors of ours that opening, loading or ``work`` raised; each went to ``announce_failure``, too.
    """
    failures: list[Failure] = []
    for system in systems:
        retriever: Retriever | None = None
        opened: Context | None = None  # for all data sets that are read alike: weights are large
        for item in _expanded(datasets):
            name = item if isinstance(item, str) else item.name
            try:
                dataset = (
                    load(
                        item,
                        data_dir=data_dir or paths.data_dir(),
                        split=split,
                        offline=context.offline,
                        progress=progress,
                    )
                    if isinstance(item, str)
                    else item
                )
                needed = replace(context, text_length=None if context.maxp else dataset.text_length)
                if retriever is None or needed != opened:
                    retriever = None  # two at a time might not fit into memory
                    retriever, opened = _open(system, options, needed), needed
                work(retriever, dataset)
            except LlaraEvalError as error:
                _release(error)
                failures.append(Failure(system if isinstance(system, str) else system.name, name, error))
                announce_failure(failures[-1])
    return failures


def _release(error: BaseException | None) -> None:
    """Empty the frames of an error that is kept: they hold the system that failed, with its weights."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _expanded(datasets: Sequence[str | Dataset]) -> list[str | Dataset]:
    """Return data sets with groups taken apart; a name that comes again is left out."""
    items: list[str | Dataset] = []
    for item in datasets:
        members: tuple[str | Dataset, ...] = expand(item) if isinstance(item, str) else (item,)
        items += [member for member in members if not (isinstance(member, str) and member in items)]
    return items


def _open(system: str | Retriever, options: Mapping[str, Any], context: "Context") -> Retriever:
    """Open a system; one that is open already may still have to search passages."""
    from adapters import open_system
    from adapters.maxp import MaxP, Windows

    if isinstance(system, str):
        return open_system(system, options, context)
    if options:
        raise UsageError(f"{system.name} is open already: it takes no options here")
    return MaxP(system, Windows()) if context.maxp else system


def _cost(phase: Mapping[str, float], place: object) -> dict[str, Any]:
    """Return what vectors cost when they were made, how many were made now, and where they are."""
    return {
        "rows": phase["rows"],
        "made": phase["rows"] - phase["reused"],
        "tokens": phase["tokens"],
        "seconds": phase["seconds"],
        "vectors": str(place),
    }


def _temporary_folder() -> Path:
    """Return a folder that is removed when the process ends."""
    folder = tempfile.mkdtemp(prefix="llara-eval-runs-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def adapters_folder() -> tuple[Path | None, bool]:
    """Return where the package ``adapters`` is that would be imported, and whether it is ours."""
    spec = importlib.util.find_spec("adapters")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    return folder, folder is not None and (folder / "bm25.py").is_file()


def require_own_adapters() -> None:
    """Make sure that ``adapters`` is ours: another package on PyPI has the same import name.

    Raises:
        MissingPartError: It is another project's, or there is none.
    """
    folder, ours = adapters_folder()
    if not ours:
        raise MissingPartError(f"the package 'adapters' at {folder} is not ours: {FOREIGN_WAY_OUT}")
