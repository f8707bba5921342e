"""Retriever × data set × measures → a stored run and its result."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llara_eval.core.errors import DataError, LlaraEvalError, UsageError
from llara_eval.core.files import remove_drafts
from llara_eval.core.folders import staging
from llara_eval.core.frames import Tabular
from llara_eval.core.protocols import SILENT, Progress, Retriever
from llara_eval.core.provenance import describe
from llara_eval.core.types import Run
from llara_eval.datasets.dataset import Dataset
from llara_eval.evaluation import record
from llara_eval.evaluation.record import Result
from llara_eval.scoring.measures import Scores, parse_measures, score, within_depth
from llara_eval.scoring.ranking import rank
from llara_eval.scoring.statistics import mean_interval

logger = logging.getLogger(__name__)

OnExisting = Literal["only-missing", "always", "never"]


@dataclass(frozen=True, slots=True)
class Outcome(Tabular):
    """An evaluation that is done; as a table it has a row for each measure.

    Attributes:
        result: The record.
        folder: Where it, the run and the per-query values are.
        fresh: False if an earlier result was kept.
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
        of = {"system": self.result.system, "dataset": self.result.dataset, "split": self.result.split}
        return [{**of, "measure": name, **value} for name, value in self.result.measures.items()]

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
    on_existing: OnExisting = "only-missing",
    progress: Progress = SILENT,
) -> Outcome:
    """Evaluate a system on a data set and store what came out.

    Args:
        retriever: The system.
        dataset: The data set.
        runs_dir: Results are kept in ``<runs_dir>/<system>/<dataset>``.
        measures: What to measure, by default what is reported on the data set; those with a cut-off beyond
            ``depth`` are left out.
        depth: Documents kept for a query; by default as many as on the data set is usual.
        settings_passed: The settings the user gave, for the record.
        on_existing: ``only-missing`` keeps a result of the same settings and data, ``always``
            measures again, ``never`` keeps whatever is there.
        progress: Where to show progress.

    Raises:
        UsageError: With ``only-missing``, a result of other settings or data is in the way.
        LlaraEvalError: The system found nothing for any query.
    """
    folder = record.folder_of(runs_dir, retriever.name, dataset.name, dataset.split)
    depth = depth or dataset.depth
    parsed = parse_measures(dataset.measures if measures is None else measures)
    names = within_depth(parsed, depth)
    if measures is not None and (beyond := [name for name in parsed if name not in names]):
        logger.warning("not measured, as the depth is %d: %s", depth, ", ".join(beyond))
    if not names:
        raise UsageError(f"no measure has a cut-off within depth {depth}")
    remove_drafts(folder)
    if on_existing != "always" and (folder / record.RESULT).is_file():
        kept = record.load(folder)
        if on_existing == "only-missing":
            _refuse_other(kept, folder, retriever, dataset, depth, names)
        return Outcome(kept, folder, fresh=False)

    retriever.index(dataset.corpus, progress)
    # One more than wanted shows ties at the cut; one more again makes up for the query's own id.
    hits = retriever.search(dataset.queries, depth + 2, progress)
    run = rank(hits, depth=depth, drop_own_ids=dataset.drop_own_ids)
    if not len(run.doc_ids):
        raise LlaraEvalError(f"{retriever.name} found no document for any query of {dataset.name}")
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
    """Score a run and put run, per-query values and, last, the record in place of those that are there."""
    started = time.perf_counter()
    scores = score(dataset.qrels, run, measures)
    phases = {**retriever.phases, "score": {"seconds": round(time.perf_counter() - started, 3)}}
    with staging(folder) as place:
        run_sha256 = record.save_run(place, run, retriever.name)
        record.save_per_query(place / record.PER_QUERY, scores)
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
            settings=dict(retriever.settings),
            drop_own_ids=dataset.drop_own_ids,
            dataset_fingerprint=dataset.fingerprint,
            qrels_fingerprint=record.qrels_fingerprint(dataset.qrels),
            run_sha256=run_sha256,
            warnings=list(dataset.warnings),
            phases=phases,
            provenance=describe(),
        )
        record.save(place, result)
        record.put(place, folder)
    return result


def summarise(scores: Scores) -> dict[str, dict[str, float]]:
    """Return measure → mean and the ends of its 95 % confidence interval."""
    out = {}
    for name, mean in scores.means.items():
        low, high = mean_interval(scores.values[name])
        out[name] = {"mean": mean, "low": low, "high": high}
    return out


def _refuse_other(
    kept: Result, folder: Path, retriever: Retriever, dataset: Dataset, depth: int, names: Sequence[str]
) -> None:
    """Raise if a stored result answers another question than the one asked."""
    pairs = {
        "data set": (kept.dataset_fingerprint[:12], dataset.fingerprint[:12]),
        "depth": (kept.depth, depth),
        "run file": (_run_sha256(folder), kept.run_sha256[:12]),
        "measures": (", ".join(sorted(kept.measures)), ", ".join(sorted(names))),
        **{
            name: (kept.settings.get(name), _plain(retriever.settings.get(name)))
            for name in sorted({*kept.settings, *retriever.settings} - {"runtime"})
        },
    }
    differing = [
        f"{name} ({there} there, {asked} now)" for name, (there, asked) in pairs.items() if there != asked
    ]
    if differing:
        raise UsageError(
            f"{folder} holds a result of other conditions: {'; '.join(differing)}. "
            "Use --on-existing always to replace it, never to keep it, or another --runs-dir"
        )


def _run_sha256(folder: Path) -> str:
    try:
        return record.run_sha256(folder)[:12]
    except DataError:
        return "damaged"


def _plain(value: Any) -> Any:
    """Return a value as it reads back from JSON."""
    return json.loads(json.dumps(value))
