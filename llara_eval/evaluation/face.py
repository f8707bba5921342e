"""What Python calls: systems, data sets and their evaluation, with the folders that the command line uses."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

from llara_eval.core import paths
from llara_eval.core.errors import UsageError
from llara_eval.core.protocols import SILENT, Progress, Retriever
from llara_eval.datasets.dataset import Dataset
from llara_eval.datasets.known import expand
from llara_eval.datasets.load import load
from llara_eval.evaluation.evaluate import OnExisting, Outcome
from llara_eval.evaluation.outcomes import Outcomes
from llara_eval.evaluation.suite import Failure, evaluate_all, require_own_adapters

if TYPE_CHECKING:
    from adapters.objects import PythonSystem, Similarity

_NONE: Mapping[str, Any] = MappingProxyType({})


class Conditions(TypedDict, total=False):
    """The keyword arguments of :func:`evaluate`, for type checkers."""

    options: Mapping[str, Any]
    measures: Sequence[str] | None
    depth: int | None
    split: str | None
    runs_dir: str | Path
    data_dir: str | Path | None
    store: str | None
    on_existing: OnExisting | None
    offline: bool
    maxp: bool
    progress: Progress


@overload
def evaluate(
    systems: "str | Path | PythonSystem", datasets: str | Path | Dataset, **conditions: Unpack[Conditions]
) -> Outcome: ...
@overload
def evaluate(
    systems: "list[Any] | tuple[Any, ...]",
    datasets: str | Path | Dataset | list[Any] | tuple[Any, ...],
    **conditions: Unpack[Conditions],
) -> Outcomes: ...
@overload
def evaluate(
    systems: "str | Path | PythonSystem",
    datasets: list[Any] | tuple[Any, ...],
    **conditions: Unpack[Conditions],
) -> Outcomes: ...
def evaluate(
    systems: "str | Path | PythonSystem | list[Any] | tuple[Any, ...]",
    datasets: str | Path | Dataset | list[Any] | tuple[Any, ...],
    *,
    options: Mapping[str, Any] = _NONE,
    measures: Sequence[str] | None = None,
    depth: int | None = None,
    split: str | None = None,
    runs_dir: str | Path = "runs",
    data_dir: str | Path | None = None,
    store: str | None = None,
    on_existing: OnExisting | None = None,
    offline: bool = False,
    maxp: bool = False,
    progress: Progress = SILENT,
) -> Outcome | Outcomes:
    """Evaluate one or several systems on one or several data sets, and keep the results.

    Args:
        systems: A name (``bm25``), a checkpoint folder, a GGUF file, a hub name, or a Python object (see
            :func:`adapters.objects.as_retriever`); or a list of them.
        datasets: A name (``scifact``), a folder in BEIR layout, or a data set that is loaded already; or a
            list of them, in which groups (``beir-13``) may stand too.
        options: Settings of the systems that are named, e.g. ``{"k1": 0.82}``.
        measures: What is measured; None: as is usual for the data set.
        depth: Documents kept for a query; None: as is usual for the data set.
        split: The judgements to use of named data sets; None: the usual ones.
        runs_dir: Results are kept in ``<runs_dir>/<system>/<dataset>``.
        data_dir: Where named data sets are looked for and downloaded to; None: the usual folder.
        store: Where token ids and vectors live; None: the usual folder.
        on_existing: Where a result is already there: ``only-missing`` keeps it if it is of the same settings
            and data, ``always`` measures again, ``never`` keeps whatever is there. None: ``always`` for
            Python objects that say nothing of their ``settings``, since another model may bear the same
            name; ``only-missing`` for all others.
        offline: Never use the network.
        maxp: Search documents by their passages.
        progress: Where to show progress.

    Returns:
        The outcome of one system on one data set; for lists, all outcomes, system by system. If some of them
        failed, ``failures`` of the outcomes holds why, and a warning is given for each.

    Raises:
        UsageError: A group is named outside a list, or a Python object cannot be evaluated.
        LlaraEvalError: Nothing could be evaluated: the first error, as it is.
    """
    single = not isinstance(systems, list | tuple) and not isinstance(datasets, list | tuple)
    items = _listed(datasets)
    members = expand(items[0]) if single and isinstance(items[0], str) else ()
    if len(members) > 1:
        raise UsageError(
            f"{items[0]} is a group of {len(members)} data sets: put it into a list, [{items[0]!r}], to get "
            "all their outcomes"
        )
    common: dict[str, Any] = {
        "data_dir": None if data_dir is None else Path(data_dir),
        "runs_dir": Path(runs_dir),
        "store": store,
        "depth": depth,
        "measures": measures,
        "split": split,
        "offline": offline,
        "maxp": maxp,
        "progress": progress,
    }
    outcomes = _evaluate_all(_listed(systems), items, options, on_existing, common)
    return outcomes[0] if single else outcomes


def _evaluate_all(
    systems: Sequence[Any],
    datasets: Sequence[Any],
    options: Mapping[str, Any],
    on_existing: OnExisting | None,
    conditions: Mapping[str, Any],
) -> Outcomes:
    """Evaluate systems on data sets, and warn of those that failed.

    Raises:
        LlaraEvalError: Nothing could be evaluated: the first error, as it is.
    """
    outcomes: list[Outcome] = []
    failures: list[Failure] = []
    for usual, some in _by_usual(systems):
        named = any(isinstance(system, str) for system in some)
        done, failed = evaluate_all(
            some,
            datasets,
            options=options if named else _NONE,
            on_existing=on_existing or usual,
            **conditions,
        )
        outcomes += done
        failures += failed
    if failures and not outcomes:
        raise failures[0].error
    for failure in failures:
        warnings.warn(f"{failure.system} on {failure.dataset} failed: {failure.error}", stacklevel=3)
    return Outcomes(outcomes, failures)


def _listed(items: Any) -> list[Any]:
    """Return one or several items as a list, paths as text.

    Raises:
        UsageError: The list is empty.
    """
    listed = list(items) if isinstance(items, list | tuple) else [items]
    if not listed:
        raise UsageError("nothing to evaluate: a list of systems or data sets is empty")
    return [str(item) if isinstance(item, Path) else item for item in listed]


def _by_usual(systems: Sequence[Any]) -> Iterator[tuple[OnExisting, list[str | Retriever]]]:
    """Yield stretches of systems, each with what is usually done where a result is already there."""
    opened = [system if isinstance(system, str) else wrap(system) for system in systems]
    usual: list[OnExisting] = [
        "only-missing" if isinstance(system, str) or hasattr(system, "settings") else "always"
        for system in systems
    ]
    for key, stretch in groupby(zip(usual, opened, strict=True), key=lambda pair: pair[0]):
        yield key, [system for _, system in stretch]


def wrap(
    model: "PythonSystem", *, name: str | None = None, similarity: "Similarity | None" = None
) -> Retriever:
    """Return a Python object as a system with a name; arguments and errors are those of ``as_retriever``.

    See :func:`adapters.objects.as_retriever`.
    """
    require_own_adapters()
    from adapters.objects import as_retriever

    return as_retriever(model, name=name, similarity=similarity)


def open_system(
    model: str | Path,
    *,
    options: Mapping[str, Any] = _NONE,
    store: str | None = None,
    offline: bool = False,
    maxp: bool = False,
) -> Retriever:
    """Open a system: a name, a checkpoint folder, a GGUF file or a hub name.

    Args:
        model: What is opened.
        options: Its settings, e.g. ``{"k1": 0.82}`` or ``{"dtype": "float32"}``.
        store: Where token ids and vectors live; None: the usual folder.
        offline: Never use the network.
        maxp: Search documents by their passages.

    Raises:
        UsageError: The name or an option is unknown.
        DataError: The checkpoint cannot be read.
        MissingPartError: An optional part is not installed.
    """
    require_own_adapters()
    from adapters import open_system as open_by_name
    from adapters.options import Context

    context = Context(paths.home(), offline=offline, maxp=maxp, store=store or paths.store())
    return open_by_name(str(model), options, context)


def load_dataset(
    name_or_folder: str | Path,
    *,
    split: str | None = None,
    data_dir: str | Path | None = None,
    offline: bool = False,
    progress: Progress = SILENT,
) -> Dataset:
    """Find a data set by its name or folder, and read all of it once.

    Args:
        name_or_folder: A name (``scifact``, ``demo``) or a folder in BEIR layout.
        split: The judgements to use; None: the usual ones.
        data_dir: Where named data sets are looked for and downloaded to; None: the usual folder.
        offline: Never download.
        progress: Where to show progress.

    Raises:
        DataError: The data set is not to be had, or anything in it is malformed.
    """
    folder = paths.data_dir() if data_dir is None else Path(data_dir)
    return load(str(name_or_folder), data_dir=folder, split=split, offline=offline, progress=progress)
