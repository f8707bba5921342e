"""Results compared query by query: how large the differences are, and which of them are significant."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from llara_eval.core import paths
from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.frames import Tabular
from llara_eval.core.paths import user_path
from llara_eval.core.types import Qrels
from llara_eval.datasets.load import naming
from llara_eval.evaluation import record
from llara_eval.evaluation.evaluate import Outcome
from llara_eval.scoring.inputs import QrelsLike, as_qrels
from llara_eval.scoring.measures import Scores, parse_measures, score
from llara_eval.scoring.statistics import holm, paired_difference
from llara_eval.scoring.trec import read_run

ALPHA = 0.05
"""A difference is significant if its adjusted p-value lies below this level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The difference between a system and the baseline, over the same queries.

    Attributes:
        mean: The mean difference, system minus baseline.
        low: Lower end of the 95 % confidence interval of ``mean``.
        high: Upper end of that interval.
        p_value: p-value of the two-sided paired randomisation test.
        p_holm: ``p_value``, adjusted by Holm's method for the number of comparisons.
        wins: Number of queries on which the system is better.
        losses: Number of queries on which the baseline is better.
        ties: Number of queries on which both are equal.
    """

    mean: float
    low: float
    high: float
    p_value: float
    p_holm: float
    wins: int
    losses: int
    ties: int

    @property
    def significant(self) -> bool:
        """Whether the adjusted p-value lies below :data:`ALPHA`."""
        return self.p_holm < ALPHA


@dataclass(frozen=True, slots=True)
class Compared:
    """One system of a comparison.

    Attributes:
        system: The system's name, or the result folder or run file that was named.
        mean: Its mean, 0 to 1.
        difference: Its difference from the baseline; None for the baseline itself.
    """

    system: str
    mean: float
    difference: Difference | None = None


@dataclass(frozen=True, slots=True)
class Comparison(Tabular):
    """Two or more systems on the same queries and judgements; as a table it has a row for each system.

    Attributes:
        measure: Name of the measure.
        n_queries: The number of judged queries.
        systems: The baseline, then the systems that are compared with it.
        left_out: A sentence for each further result that is missing or malformed.
    """

    measure: str
    n_queries: int
    systems: tuple[Compared, ...]
    left_out: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """Return the flat row of each system; that of the baseline has only a name and a mean."""
        rows: list[dict[str, Any]] = []
        for system in self.systems:
            values = {} if system.difference is None else asdict(system.difference)
            if values:
                values = {"difference": values.pop("mean"), **values}
            rows.append({"system": system.system, "mean": system.mean, **values})
        return rows

    def caption(self) -> str:
        """Return the measure, the number of queries, the baseline, and what is left out."""
        caption = f"{self.measure} over {self.n_queries:,} queries, differences from {self.systems[0].system}"
        return "; left out: ".join([caption, *self.left_out])


class _Scored(NamedTuple):
    """A result to compare: as it was named, as it is shown, its values, and the SHA-256 of its qrels."""

    item: str
    label: str
    scores: Scores
    qrels_fingerprint: str


def compare(
    *items: str | Path | Outcome,
    dataset: str | None = None,
    split: str | None = None,
    runs_dir: str | Path = "runs",
    data_dir: str | Path | None = None,
    qrels: QrelsLike | None = None,
    measure: str = "nDCG@10",
) -> Comparison:
    """Compare two or more results query by query.

    Args:
        items: The baseline, then the results to compare with it. Each is the name of a system with results
            in ``runs_dir``, a result folder, an outcome of an evaluation, or a run file (with ``qrels``).
        dataset: The data set of the systems that are named: as it was evaluated, or as its results are filed.
        split: The split of ``dataset``; None for the usual one.
        runs_dir: The folder of stored results.
        data_dir: The folder of data sets; None for the usual one.
        qrels: Judgements for the run files, in any form that :func:`llara_eval.scoring.inputs.as_qrels`
            takes.
        measure: Name of the measure.

    Raises:
        UsageError: There are fewer than two items, an argument belongs to none of them, or the items were
            not measured on the same queries and judgements.
        DataError: The baseline or all other results are missing or malformed; others are left out, with a
            sentence in the comparison.
    """
    if len(items) < 2:
        raise UsageError("name at least two results: a baseline, and one to compare with it")
    (measure,) = parse_measures([measure])
    names = [str(item.folder) if isinstance(item, Outcome) else str(item) for item in items]
    systems = [name for name in names if not _is_result_or_run(user_path(name))]
    if not systems and (dataset or split):
        raise UsageError("--dataset and --split are for systems, and no system is named")
    if qrels is not None and not any(user_path(name).is_file() for name in names):
        raise UsageError("--qrels is for run files, and no run file is named")
    data_folder = user_path(data_dir or paths.data_dir())
    folders = _folders(systems, dataset, split, user_path(runs_dir), data_folder) if systems else {}
    judgements = None if qrels is None else as_qrels(qrels)
    labels = [item.result.system if isinstance(item, Outcome) else str(item) for item in items]
    scored: list[_Scored] = []
    damaged: list[DataError] = []
    for name, label in zip(names, labels, strict=True):
        try:
            path = folders.get(name) or user_path(name)
            scored.append(_Scored(name, label, *_scores(path, measure, judgements)))
        except DataError as error:
            damaged.append(error)
    if len(scored) < 2 or scored[0].item != names[0]:
        raise damaged[0]
    _require_same_judgements(scored)
    n_queries = len(scored[0].scores.query_ids)
    return Comparison(measure, n_queries, _compared(measure, scored), tuple(map(str, damaged)))


def _require_same_judgements(results: Sequence[_Scored]) -> None:
    """Raise a UsageError if results were measured on other queries or judgements than the first."""
    baseline = results[0]
    for result in results:
        if list(result.scores.query_ids) != list(baseline.scores.query_ids):
            raise UsageError(f"{result.item} and {baseline.item} were not measured on the same queries")
        if result.qrels_fingerprint != baseline.qrels_fingerprint:
            raise UsageError(
                f"{result.item} and {baseline.item} were not measured against the same judgements"
            )


def _compared(measure: str, results: Sequence[_Scored]) -> tuple[Compared, ...]:
    """Return the baseline, and the difference of each other result from it."""
    baseline, *others = (result.scores.values[measure] for result in results)
    tests = [paired_difference(baseline, values) for values in others]
    adjusted = holm([test.p_value for test in tests])
    systems = [Compared(results[0].label, results[0].scores.means[measure])]
    for result, values, test, p_holm in zip(results[1:], others, tests, adjusted, strict=True):
        delta = values - baseline
        difference = Difference(
            **test._asdict(),
            p_holm=p_holm,
            wins=int((delta > 0).sum()),
            losses=int((delta < 0).sum()),
            ties=int((delta == 0).sum()),
        )
        systems.append(Compared(result.label, result.scores.means[measure], difference))
    return tuple(systems)


def _is_result_or_run(path: Path) -> bool:
    """Return whether a path is a run file or the folder of a result."""
    return path.is_file() or record.is_stored(path)


def _folders(
    systems: Sequence[str], dataset: str | None, split: str | None, runs_dir: Path, data_dir: Path
) -> dict[str, Path]:
    """Return system → folder of its result.

    Raises:
        UsageError: No data set is named, or its name may mean two data sets that both have results.
    """
    if dataset is None:
        raise UsageError(
            f"{systems[0]} is neither a run file nor a result folder; if it is a system, name --dataset too"
        )
    names_of = naming(dataset, data_dir=data_dir)
    folders = {
        name: {
            system: record.folder_of(runs_dir, system, name, split or names_of.split) for system in systems
        }
        for name in (dataset, *names_of.names)
    }
    with_results = [
        name for name, results in folders.items() if any(map(_is_result_or_run, results.values()))
    ]
    complete = [name for name in with_results if all(map(_is_result_or_run, folders[name].values()))]
    complete = complete or with_results
    is_full_name = names_of.known is not None and names_of.known.name == dataset  # it is never ambiguous
    if len(complete) > 1 and not is_full_name:
        raise UsageError(
            f"--dataset {dataset} may be {' or '.join(complete)}, and there are results of both: name their "
            f"folders instead, e.g. {folders[complete[0]][systems[0]]}"
        )
    return folders[complete[0] if complete else dataset]


def _scores(path: Path, measure: str, qrels: Qrels | None) -> tuple[Scores, str]:
    """Return the per-query values of a run file or of a stored result, and the judgements' fingerprint.

    Raises:
        UsageError: A run file is named without judgements, or a result lacks the measure.
        DataError: The folder has no result, or the result is malformed.
    """
    if path.is_file():
        if qrels is None:
            raise UsageError(f"{path} is a run file: name its judgements with --qrels")
        return score(qrels, read_run(path), [measure]), record.qrels_fingerprint(qrels)
    if not _is_result_or_run(path):
        raise DataError(f"{path}: the folder has no result; `llara-eval evaluate` makes one")
    stored = record.load_per_query(path / record.PER_QUERY)
    if measure not in stored.values:
        raise UsageError(
            f"{path} has no {measure}; it has {', '.join(stored.values)}. `llara-eval evaluate --measures "
            f"{measure}` adds it from the stored run"
        )
    return stored, record.load(path).qrels_fingerprint
