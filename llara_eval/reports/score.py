"""A run scored against judgements: means with intervals, the values of each query, the share of ties."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llara_eval.core.frames import Tabular
from llara_eval.core.paths import user_path
from llara_eval.core.types import Qrels, Run
from llara_eval.evaluation.evaluate import summarise
from llara_eval.evaluation.record import Mean
from llara_eval.scoring import measures as scoring
from llara_eval.scoring.inputs import QrelsLike, RunLike, as_qrels, as_run
from llara_eval.scoring.measures import DEFAULT_MEASURES, Scores
from llara_eval.scoring.trec import has_ranks_alone, rank_hits, read_hits
from llara_eval.scoring.written import has_gaps, reciprocal_ranks


@dataclass(frozen=True, slots=True)
class Scored(Tabular):
    """The scores of a run; as a table they have a row for each measure.

    Attributes:
        measures: Measure → its mean, and the ends of the 95 % confidence interval.
        per_query: The values of each judged query.
        ties_at_10: Share of judged queries whose documents at ranks 10 and 11 are tied.
        by_written_ranks: Measure → mean by the ranks as they are written, as MS MARCO's script counts; only
            of a run without scores whose ranks have gaps or repeats.
    """

    measures: dict[str, Mean]
    per_query: Scores
    ties_at_10: float
    by_written_ranks: dict[str, float] = field(default_factory=dict)

    @property
    def means(self) -> dict[str, float]:
        """Measure → mean over all judged queries."""
        return {name: value["mean"] for name, value in self.measures.items()}

    @property
    def n_queries(self) -> int:
        """The number of judged queries, over which means are taken."""
        return len(self.per_query.query_ids)

    def rows(self) -> list[dict[str, Any]]:
        """Return the name, the mean and the interval of each measure."""
        written = [
            {"measure": f"{name} by the written ranks", "mean": mean}
            for name, mean in self.by_written_ranks.items()
        ]
        return [*({"measure": name, **value} for name, value in self.measures.items()), *written]

    def caption(self) -> str:
        """Return the number of judged queries and the share of ties."""
        return f"{self.n_queries:,} judged queries, ties@10 {self.ties_at_10:.4f}"


def score(run: RunLike, qrels: QrelsLike, measures: Sequence[str] = DEFAULT_MEASURES) -> Scored:
    """Score a run against judgements: ties are broken canonically, and every judged query counts.

    Args:
        run: A run file, a dictionary query_id → doc_id → score, or a data frame; see
            :func:`llara_eval.scoring.inputs.as_run`.
        qrels: A file of judgements, a dictionary query_id → doc_id → grade, or a data frame; see
            :func:`llara_eval.scoring.inputs.as_qrels`.
        measures: Names of the measures, e.g. ``nDCG@10`` or ``MRR@10``.

    Raises:
        UsageError: A name is not that of a measure.
        DataError: The run or the judgements are malformed, or the run has none of the judged queries.
    """
    names = scoring.parse_measures(measures)
    judgements = as_qrels(qrels)
    ranking, written = _ranked(run, judgements, names)
    scores = scoring.score(judgements, ranking, names)
    return Scored(summarise(scores), scores, ranking.ties_at(10, judgements), written)


def _ranked(run: RunLike, qrels: Qrels, measures: Sequence[str]) -> tuple[Run, dict[str, float]]:
    """Return a run, and its means by the written ranks if they differ from the ranks here."""
    if not isinstance(run, str | Path) or not has_ranks_alone(path := user_path(run)):
        return as_run(run), {}
    hits = read_hits(path)
    return rank_hits(path, hits), reciprocal_ranks(hits, qrels, measures) if has_gaps(hits) else {}
