"""Results side by side, query by query: how large the differences are, and which of them are real."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llara_eval.core import paths
from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.frames import Tabular
from llara_eval.datasets.load import naming
from llara_eval.evaluation import record
from llara_eval.evaluation.evaluate import Outcome
from llara_eval.scoring.inputs import QrelsLike, as_qrels
from llara_eval.scoring.measures import Scores, parse_measures, score
from llara_eval.scoring.statistics import holm, paired_difference
from llara_eval.scoring.trec import read_run

ALPHA = 0.05
"""A difference is called significant if its adjusted p-value lies below this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How a system differs from the baseline, over the same queries.

    Attributes:
        mean: The mean difference, system minus baseline.
        low: Lower end of its 95 % confidence interval.
        high: Upper end of its 95 % confidence interval.
        p_value: Of the two-sided paired randomisation test.
        p_holm: The same, adjusted by Holm for the number of comparisons.
        wins: Queries on which the system is better.
        losses: Queries on which the baseline is better.
        ties: Queries on which both are equal.
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
        system: What was compared: a system's name, as given or of an outcome; a folder; or a run file.
        mean: Its mean.
        difference: How it differs from the baseline; None for the baseline itself.
    """

    system: str
    mean: float
    difference: Difference | None = None

    def row(self) -> dict[str, Any]:
        """Return the values as one flat row; the baseline has a name and a mean alone."""
        row: dict[str, Any] = {"system": self.system, "mean": self.mean}
        if self.difference is not None:
            values = asdict(self.difference)
            row |= {"difference": values.pop("mean"), **values}
        return row


@dataclass(frozen=True, slots=True)
class Comparison(Tabular):
    """Two or more systems on the same queries and judgements; as a table it has a row for each system.

    Attributes:
        measure: The measure compared.
        n_queries: The judged queries.
        systems: The baseline, then the systems compared with it.
    """

    measure: str
    n_queries: int
    systems: tuple[Compared, ...]

    @property
    def baseline(self) -> Compared:
        """The system that the others are compared with."""
        return self.systems[0]

    def rows(self) -> list[dict[str, Any]]:
        """Return the row of each system."""
        return [system.row() for system in self.systems]

    def caption(self) -> str:
        """Return the measure, the number of queries, and the baseline."""
        return f"{self.measure} over {self.n_queries:,} queries, differences from {self.baseline.system}"


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
        items: The baseline, then what is compared with it: systems of ``runs_dir``, result folders, outcomes
            of an evaluation, or run files (with ``qrels``).
        dataset: The one data set, where systems are named: as it was evaluated, or as its results are filed.
        split: Its judgements; None for the usual ones.
        runs_dir: Where the results of systems are kept.
        data_dir: Where named data sets are; None for the usual folder.
        qrels: Judgements that run files are scored against, in any form that
            :func:`llara_eval.scoring.inputs.as_qrels` takes.
        measure: The measure compared.

    Raises:
        UsageError: There are fewer than two items, an argument belongs to none of them, or they were not
            measured on the same queries and judgements.
        DataError: A result or a run file is missing or malformed.
    """
    if len(items) < 2:
        raise UsageError("name at least two: a baseline and what is compared with it")
    (name,) = parse_measures([measure])
    names = [str(item.folder) if isinstance(item, Outcome) else str(item) for item in items]
    systems = [item for item in names if not _is_result_or_run(Path(item))]
    if not systems and (dataset or split):
        raise UsageError("--dataset and --split are of systems by name, and none is named")
    if qrels is not None and not any(Path(item).is_file() for item in names):
        raise UsageError("--qrels is what run files are scored against, and none is named")
    folders = {}
    if systems:
        folders = _folders(systems, dataset, split, Path(runs_dir), Path(data_dir or paths.data_dir()))
    judgements = None if qrels is None else as_qrels(qrels)
    columns = [_scores(folders.get(item, Path(item)), name, judgements) for item in names]
    _refuse_other_questions(names, columns)
    labels = [item.result.system if isinstance(item, Outcome) else str(item) for item in items]
    return _compared(name, labels, [scores for scores, _ in columns])


def _refuse_other_questions(names: Sequence[str], columns: Sequence[tuple[Scores, str]]) -> None:
    """Raise if some results are not of the same queries and judgements as the first."""
    baseline, baseline_qrels = columns[0]
    for name, (scores, qrels) in zip(names, columns, strict=True):
        if list(scores.query_ids) != list(baseline.query_ids):
            raise UsageError(f"{name} and {names[0]} were not measured on the same queries")
        if qrels != baseline_qrels:
            raise UsageError(f"{name} and {names[0]} were not measured against the same judgements")


def _compared(measure: str, names: Sequence[str], columns: Sequence[Scores]) -> Comparison:
    """Test the difference of each system from the first."""
    baseline, *others = columns
    tests = [paired_difference(baseline.values[measure], scores.values[measure]) for scores in others]
    adjusted = holm([test.p_value for test in tests])
    systems = [Compared(names[0], baseline.means[measure])]
    for name, scores, test, p_holm in zip(names[1:], others, tests, adjusted, strict=True):
        delta = scores.values[measure] - baseline.values[measure]
        difference = Difference(
            **test._asdict(),
            p_holm=p_holm,
            wins=int((delta > 0).sum()),
            losses=int((delta < 0).sum()),
            ties=int((delta == 0).sum()),
        )
        systems.append(Compared(name, scores.means[measure], difference))
    return Comparison(measure, len(baseline.query_ids), tuple(systems))


def _is_result_or_run(path: Path) -> bool:
    """Return whether a path is a run file or the folder of a result."""
    return path.is_file() or (path / record.RESULT).is_file()


def _folders(
    systems: Sequence[str], dataset: str | None, split: str | None, runs_dir: Path, data_dir: Path
) -> dict[str, Path]:
    """Return the folders of systems' results: under the one name of the data set that has results.

    Raises:
        UsageError: No data set is named, or there are results of two that the name may mean.
    """
    if dataset is None:
        raise UsageError(
            f"{systems[0]} is neither a run file nor a result folder; name a system together with --dataset"
        )
    called = naming(dataset, data_dir=data_dir)
    folders = {
        name: {system: record.folder_of(runs_dir, system, name, split or called.split) for system in systems}
        for name in (dataset, *called.names)
    }
    some = [name for name, results in folders.items() if any(map(_is_result_or_run, results.values()))]
    complete = [name for name in some if all(map(_is_result_or_run, folders[name].values()))] or some
    is_full_name = called.known is not None and called.known.name == dataset  # nothing else is called so
    if len(complete) > 1 and not is_full_name:
        raise UsageError(
            f"--dataset {dataset} may be {' or '.join(complete)}, and there are results of both: name their "
            f"folders instead, e.g. {folders[complete[0]][systems[0]]}"
        )
    return folders[complete[0] if complete else dataset]


def _scores(path: Path, measure: str, qrels: Any) -> tuple[Scores, str]:
    """Return per-query values of a run file or of a stored result, and the fingerprint of the judgements.

    Raises:
        UsageError: A run file has no judgements to be scored against, or a result lacks the measure.
        DataError: There is no result, or it is malformed.
    """
    if path.is_file():
        if qrels is None:
            raise UsageError(f"{path} is a run file: --qrels says what to score it against")
        return score(qrels, read_run(path), [measure]), record.qrels_fingerprint(qrels)
    if not _is_result_or_run(path):
        raise DataError(f"{path}: no result there; `llara-eval evaluate` makes one")
    stored = record.load_per_query(path / record.PER_QUERY)
    if measure not in stored.values:
        raise UsageError(f"{path} has no {measure}; it has {', '.join(stored.values)}")
    return stored, record.load(path).qrels_fingerprint
