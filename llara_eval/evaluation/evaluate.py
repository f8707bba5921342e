"""One evaluation: retriever × data set × measures → a stored run and its result."""

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llara_eval.core.differences import differences
from llara_eval.core.errors import DataError, LlaraEvalError, UsageError
from llara_eval.core.existing import OnExistingResult
from llara_eval.core.files import remove_drafts
from llara_eval.core.folders import require_writable, staging
from llara_eval.core.frames import Tabular
from llara_eval.core.protocols import SILENT, Progress, Retriever, Warned
from llara_eval.core.provenance import describe
from llara_eval.core.types import Run
from llara_eval.datasets.dataset import Dataset
from llara_eval.evaluation import record
from llara_eval.evaluation.record import Mean, Result
from llara_eval.scoring.columns import fits_a_column
from llara_eval.scoring.measures import Scores, parse_measures, score, within_depth
from llara_eval.scoring.ranking import rank
from llara_eval.scoring.statistics import mean_interval

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome(Tabular):
    """An evaluation that has succeeded; as a table it has a row for each measure.

    Attributes:
        result: The record.
        folder: The folder of the record, the run and the per-query values.
        fresh: Whether the run was made now; False if an earlier result was kept.
    """

    result: Result
    folder: Path
    fresh: bool

    @property
    def means(self) -> dict[str, float]:
        """Measure → mean."""
        return self.result.means

    def rows(self) -> list[dict[str, Any]]:
        """Return the mean of each measure with its interval."""
        result = self.result
        common = {"system": result.system, "dataset": result.dataset, "split": result.split}
        return [{**common, "measure": name, **value} for name, value in result.measures.items()]

    def caption(self) -> str:
        """Return how many queries the means are over, and the share of ties."""
        result = self.result
        return f"{result.n_queries:,} judged queries, ties@10 {result.ties_at_10:.4f}"


def evaluate(
    retriever: Retriever,
    dataset: Dataset,
    *,
    runs_dir: Path,
    measures: Sequence[str] | None = None,
    depth: int | None = None,
    settings_passed: Mapping[str, Any] | None = None,
    on_existing: OnExistingResult = "only-missing",
    helpers: Callable[[], AbstractContextManager[object]] = nullcontext,
    progress: Progress = SILENT,
) -> Outcome:
    """Evaluate a system on a data set and store the result.

    Args:
        retriever: The system.
        dataset: The data set.
        runs_dir: Results are kept in ``<runs_dir>/<system>/<dataset>``.
        measures: The measures, by default those usual for the data set. A measure with a cut-off beyond
            ``depth`` is left out.
        depth: How many documents are kept for a query, by default the number usual for the data set.
        settings_passed: The settings that the user gave, for the record.
        on_existing: What is done if a result exists: ``only-missing`` keeps it if its settings and data are
            the same, and scores its run by the measures that it lacks; ``always`` measures again; ``never``
            keeps any result.
        helpers: Called if the documents have to be indexed; workers help with that while the block runs.
        progress: The display of progress.

    Raises:
        UsageError: A measure is unknown, no measure has a cut-off within the depth, or, with
            ``only-missing``, a result with other settings or data exists.
        DataError: The system found a document whose identifier no data set can have.
        LlaraEvalError: The folder of the result is not writable, or the system found no document for any
            query.
    """
    folder = record.folder_of(runs_dir, retriever.name, dataset.name, dataset.split)
    depth = depth or dataset.depth
    parsed = parse_measures(dataset.measures if measures is None else measures)
    names = within_depth(parsed, depth)
    if measures is not None and (too_deep := [name for name in parsed if name not in names]):
        logger.warning("not measured, as the depth is %d: %s", depth, ", ".join(too_deep))
    if not names:
        raise UsageError(f"no measure has a cut-off within depth {depth}")
    remove_drafts(folder)
    if on_existing != "always" and record.is_stored(folder):
        stored = record.load(folder)
        if on_existing == "only-missing":
            _refuse_other(stored, folder, retriever, dataset, depth)
            stored = _with_measures(stored, folder, dataset, names)
        return Outcome(stored, folder, fresh=False)

    require_writable(folder)
    with helpers():
        retriever.index(dataset.corpus, progress)
    # One more document than the depth shows ties at the cut; another replaces the query's own id.
    hits = retriever.search(dataset.queries, depth + 2, progress)
    run = rank(hits, depth=depth, drop_own_ids=dataset.drop_own_ids)
    if not len(run.doc_ids):
        raise LlaraEvalError(f"{retriever.name} found no document for any query of {dataset.name}")
    unusable = next((doc_id for doc_id in run.doc_ids if not fits_a_column(doc_id)), None)
    if unusable is not None:
        raise DataError(f"{retriever.name} found {unusable!r}, which is not the identifier of any document")
    result = _store(folder, retriever, dataset, run, names, depth, settings_passed or {})
    return Outcome(result, folder, fresh=True)


def _store(
    folder: Path,
    retriever: Retriever,
    dataset: Dataset,
    run: Run,
    measures: Sequence[str],
    depth: int,
    settings_passed: Mapping[str, Any],
) -> Result:
    """Score a run; replace the stored run and per-query values, and the record last."""
    started = time.perf_counter()
    scores = score(dataset.qrels, run, measures)
    phases = {**retriever.phases, "score": {"seconds": round(time.perf_counter() - started, 3)}}
    with staging(folder) as temporary:
        run_sha256 = record.save_run(temporary, run, retriever.name)
        record.save_per_query(temporary / record.PER_QUERY, scores)
        result = Result(
            system=retriever.name,
            dataset=dataset.name,
            split=dataset.split,
            n_queries=len(scores.query_ids),
            n_documents=len(dataset.corpus),
            depth=depth,
            measures=summarise(scores),
            ties_at_10=run.ties_at(10),
            settings_passed=dict(settings_passed),
            settings={**retriever.settings, "titles": dataset.corpus.titled},
            drop_own_ids=dataset.drop_own_ids,
            dataset_fingerprint=dataset.fingerprint,
            dataset_source=dataset.source,
            qrels_fingerprint=record.qrels_fingerprint(dataset.qrels),
            run_sha256=run_sha256,
            warnings=[*dataset.warnings, *(retriever.warnings if isinstance(retriever, Warned) else ())],
            phases=phases,
            provenance=describe(),
        )
        record.save(temporary, result)
        record.replace(temporary, folder)
    return result


def summarise(scores: Scores) -> dict[str, Mean]:
    """Return measure → mean and confidence interval."""
    summary: dict[str, Mean] = {}
    for name, mean in scores.means.items():
        low, high = mean_interval(scores.values[name])
        summary[name] = {"mean": mean, "low": low, "high": high}
    return summary


def _with_measures(stored: Result, folder: Path, dataset: Dataset, names: Sequence[str]) -> Result:
    """Return a stored result with some measures; those that it lacks are computed from its run and stored."""
    if set(names) <= set(stored.measures):
        return stored
    scores = score(dataset.qrels, record.load_run(folder), [*stored.measures, *names])
    result = replace(stored, measures=summarise(scores))
    with staging(folder) as temporary:
        shutil.copyfile(folder / record.RUN, temporary / record.RUN)
        record.save_per_query(temporary / record.PER_QUERY, scores)
        record.save(temporary, result)
        record.replace(temporary, folder)
    return result


_NO_CONDITIONS = ("runtime", "titles")
"""Settings that do not decide a result, or that the data set decides."""


def _refuse_other(stored: Result, folder: Path, retriever: Retriever, dataset: Dataset, depth: int) -> None:
    """Refuse a stored result of other conditions.

    Raises:
        UsageError: The data, the depth or a setting differs, or the stored run was changed.
    """
    try:
        run_sha256 = record.run_sha256(folder)[:12]
    except DataError:
        run_sha256 = "damaged"
    before = {
        **_conditions(stored.settings),
        "depth": stored.depth,
        "data set": stored.dataset_fingerprint[:12],
        "own ids dropped": stored.drop_own_ids,
        "run file": run_sha256,
    }
    now = {
        **_conditions(retriever.settings),
        "depth": depth,
        "data set": dataset.fingerprint[:12],
        "own ids dropped": dataset.drop_own_ids,
        "run file": stored.run_sha256[:12],
    }
    differing = differences(before, now)
    if differing:
        raise UsageError(
            f"{folder} holds a result of other conditions: {'; '.join(differing)}. Use "
            "on_existing='always' to replace it, on_existing='never' to keep it, or another folder of results"
        )


def _conditions(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide a result."""
    return {name: value for name, value in settings.items() if name not in _NO_CONDITIONS}
