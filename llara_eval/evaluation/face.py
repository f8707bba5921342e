"""The functions that Python users call; they use the same folders as the command line."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

from llara_eval.core.errors import UsageError
from llara_eval.core.existing import OnExistingResult
from llara_eval.core.paths import user_path
from llara_eval.core.protocols import SILENT, Progress, Retriever
from llara_eval.datasets.dataset import Dataset
from llara_eval.datasets.known import expand
from llara_eval.datasets.own_ids import OwnIds
from llara_eval.evaluation.evaluate import Outcome
from llara_eval.evaluation.outcomes import Outcomes
from llara_eval.evaluation.suite import Conditions, Failure, evaluate_all, require_own_adapters

if TYPE_CHECKING:
    from adapters.objects import PythonSystem, Similarity

_NONE: Mapping[str, Any] = MappingProxyType({})


class Keywords(TypedDict, total=False):
    """The keyword arguments of :func:`evaluate`, for type checkers."""

    options: Mapping[str, Any]
    measures: Sequence[str] | None
    depth: int | None
    split: str | None
    own_ids: OwnIds | None
    limit: int | None
    runs_dir: str | Path
    data_dir: str | Path | None
    store: str | None
    on_existing: OnExistingResult | None
    offline: bool
    maxp: bool
    progress: Progress


@overload
def evaluate(
    systems: "str | Path | PythonSystem", datasets: str | Path | Dataset, **conditions: Unpack[Keywords]
) -> Outcome: ...
@overload
def evaluate(
    systems: "list[Any] | tuple[Any, ...]",
    datasets: str | Path | Dataset | list[Any] | tuple[Any, ...],
    **conditions: Unpack[Keywords],
) -> Outcomes: ...
@overload
def evaluate(
    systems: "str | Path | PythonSystem",
    datasets: list[Any] | tuple[Any, ...],
    **conditions: Unpack[Keywords],
) -> Outcomes: ...
def evaluate(
    systems: "str | Path | PythonSystem | list[Any] | tuple[Any, ...]",
    datasets: str | Path | Dataset | list[Any] | tuple[Any, ...],
    *,
    options: Mapping[str, Any] = _NONE,
    measures: Sequence[str] | None = None,
    depth: int | None = None,
    split: str | None = None,
    own_ids: OwnIds | None = None,
    limit: int | None = None,
    runs_dir: str | Path = "runs",
    data_dir: str | Path | None = None,
    store: str | None = None,
    on_existing: OnExistingResult | None = None,
    offline: bool = False,
    maxp: bool = False,
    progress: Progress = SILENT,
) -> Outcome | Outcomes:
    """Evaluate one or several systems on one or several data sets, and keep the results.

    Args:
        systems: A name (``bm25``), a checkpoint folder, a GGUF file, a hub name, or a Python object (see
            :func:`adapters.objects.as_retriever`); or a list of these.
        datasets: A name (``scifact``), a folder in BEIR layout, or a data set that is loaded already; or a
            list of these and of groups (``beir-13``).
        options: Settings of the systems that are named, e.g. ``{"k1": 0.82}``.
        measures: The measures, e.g. ``["nDCG@10", "RR@10"]``; None: those usual for the data set.
        depth: How many documents are kept for a query; None: the number usual for the data set.
        split: The judgements that are used of named data sets; None: the usual ones.
        own_ids: ``drop`` or ``keep`` documents with the id of their query; None: as the data set says.
        limit: The number of queries of a part, see :func:`llara_eval.datasets.limited.limited`.
        runs_dir: Results are kept in ``<runs_dir>/<system>/<dataset>``.
        data_dir: The folder of named data sets, also for downloads; None: the usual folder.
        store: The folder or URL of token ids and vectors; None: the usual folder.
        on_existing: If a result exists, ``only-missing`` keeps it if its settings and data are the same,
            ``always`` measures again, ``never`` keeps any result. None: ``always`` for Python objects without
            ``settings``, since another model may have the same name; else ``only-missing``.
        offline: Whether the network must not be used.
        maxp: Whether a document is scored by its best passage.
        progress: The display of progress.

    Returns:
        The outcome of one system on one data set; for lists, all outcomes, system by system. Errors of some
        evaluations are in ``failures`` of the outcomes, and each is also a warning.

    Raises:
        UsageError: A group is named outside a list, or a Python object cannot be evaluated.
        LlaraEvalError: All evaluations failed; the first error is raised.
    """
    single = not isinstance(systems, list | tuple) and not isinstance(datasets, list | tuple)
    items = _listed(datasets)
    if single:
        _refuse_group(items[0])
    conditions = Conditions(
        options=options,
        measures=measures,
        depth=depth,
        split=split,
        own_ids=own_ids,
        limit=limit,
        runs_dir=user_path(runs_dir),
        data_dir=None if data_dir is None else user_path(data_dir),
        store=store,
        offline=offline,
        maxp=maxp,
        progress=progress,
    )
    outcomes = _evaluate_each(_listed(systems), items, conditions, on_existing)
    return outcomes[0] if single else outcomes


def _refuse_group(dataset: str | Dataset) -> None:
    """Raise a UsageError if a data set that gives one outcome is a group of several."""
    members = expand(dataset) if isinstance(dataset, str) else ()
    if len(members) > 1:
        raise UsageError(
            f"{dataset} is a group of {len(members)} data sets: put it into a list, [{dataset!r}], to get "
            "all their outcomes"
        )


def _evaluate_each(
    systems: Sequence[Any],
    datasets: Sequence[str | Dataset],
    conditions: Conditions,
    on_existing: OnExistingResult | None,
) -> Outcomes:
    """Evaluate systems on data sets one by one, and warn of each failure."""
    if conditions.options and not any(isinstance(system, str) for system in systems):
        raise UsageError(f"options {', '.join(conditions.options)}: only systems that are named take options")
    outcomes: list[Outcome] = []
    failures: list[Failure] = []
    retrievers = [system if isinstance(system, str) else wrap(system) for system in systems]
    for system, retriever in zip(systems, retrievers, strict=True):
        named = isinstance(system, str)
        usual: OnExistingResult = "only-missing" if named or hasattr(system, "settings") else "always"
        options = conditions.options if named else _NONE
        adjusted = replace(conditions, options=options, on_existing=on_existing or usual)
        done, failed = evaluate_all([retriever], datasets, adjusted)
        outcomes += done
        failures += failed
    if failures and not outcomes:
        raise failures[0].error
    for failure in failures:
        warnings.warn(str(failure), stacklevel=3)
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


def wrap(
    model: "PythonSystem", *, name: str | None = None, similarity: "Similarity | None" = None
) -> Retriever:
    """Return a Python object as a system with a name, see :func:`adapters.objects.as_retriever`."""
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
        model: The name, folder or file.
        options: The settings of the system, e.g. ``{"k1": 0.82}`` or ``{"dtype": "float32"}``.
        store: The folder or URL of token ids and vectors; None: the usual folder.
        offline: Whether the network must not be used.
        maxp: Whether a document is scored by its best passage.

    Raises:
        UsageError: The name or an option is unknown.
        DataError: The checkpoint cannot be read.
        MissingPartError: An optional part is not installed.
    """
    require_own_adapters()
    return Conditions(options=options, store=store, offline=offline, maxp=maxp).open(str(model))


def load_dataset(
    name_or_folder: str | Path,
    *,
    split: str | None = None,
    data_dir: str | Path | None = None,
    own_ids: OwnIds | None = None,
    limit: int | None = None,
    offline: bool = False,
    progress: Progress = SILENT,
) -> Dataset:
    """Load a data set by its name or folder; all of it is read once.

    Args:
        name_or_folder: A name (``scifact``, ``hf:org/name``) or a folder, see
            :func:`llara_eval.datasets.load.load`.
        split: The judgements that are used; None: the usual ones.
        data_dir: The folder of named data sets, also for downloads; None: the usual folder.
        own_ids: As for :func:`evaluate`.
        limit: As for :func:`evaluate`.
        offline: Whether downloads are forbidden.
        progress: The display of progress.

    Raises:
        DataError: The data set is neither at hand nor can be downloaded, or a part of it is malformed.
    """
    conditions = Conditions(
        data_dir=None if data_dir is None else user_path(data_dir),
        split=split,
        own_ids=own_ids,
        limit=limit,
        offline=offline,
        progress=progress,
    )
    return conditions.load(str(name_or_folder))
