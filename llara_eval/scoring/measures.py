"""Measures of a run: values for each query, and their means, by our formulas or by ir_measures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import ir_measures
import numpy as np
from numpy.typing import NDArray

from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.frames import Tabular
from llara_eval.core.types import Ids, Qrels, Run, as_ids
from llara_eval.scoring.beir_measures import HOLE
from llara_eval.scoring.formulas import FORMULAS, Formula, Graded, exponential_ndcg, hole
from llara_eval.scoring.measure_names import standard_name
from llara_eval.scoring.other_measures import by_ir_measures, is_safe, require_gains

_MALFORMED = (
    *(NameError, ValueError, SyntaxError, AttributeError, KeyError, AssertionError),
    *(RecursionError, MemoryError),
)
"""Errors that ir_measures and Python's parser raise for a text that is not a measure."""

DEFAULT_MEASURES = ("nDCG@10", "RR@10", "RR@100", "R@100", "R@1000", "Judged@10")


@dataclass(frozen=True, slots=True, eq=False)
class Scores(Tabular):
    """Per-query values of one run; as a table it has a row for each query.

    Attributes:
        query_ids: (Q,) the judged queries, sorted.
        values: measure → (Q,) float64.
    """

    query_ids: Ids
    values: dict[str, NDArray[np.float64]]

    @property
    def means(self) -> dict[str, float]:
        """Arithmetic means over all judged queries; sums are exact, so the order of queries is irrelevant."""
        return {name: math.fsum(column) / len(column) for name, column in self.values.items()}

    def rows(self) -> list[dict[str, Any]]:
        """Return the identifier and the values of each query."""
        columns = [column.tolist() for column in self.values.values()]
        rows = zip(self.query_ids, *columns, strict=True)
        return [dict(zip(("query_id", *self.values), row, strict=True)) for row in rows]


def parse_measures(names: Sequence[str]) -> list[str]:
    """Return measure names in their standard form (``mrr@10`` → ``RR@10``), without repeats.

    Raises:
        UsageError: A name is not a measure, or there are no names.
    """
    if not names:
        raise UsageError("no measure is named")
    parsed = []
    for name in names:
        try:
            measure = ir_measures.parse_measure(standard_name(name))
            measure.validate_params()
            if not (_is_ours(measure) or ir_measures.DefaultPipeline.supports(measure)):
                raise ValueError("no installed tool computes it")
            if not is_safe(measure):
                raise ValueError("a cut-off, a relevant grade or a gain is out of range")
            parsed.append(str(measure))
        except _MALFORMED as error:
            raise UsageError(
                f"{name!r} is not a measure; examples: nDCG@10, RR@10 (MRR@10), R@100, AP, P@5"
            ) from error
    return list(dict.fromkeys(parsed))


def within_depth(names: Sequence[str], depth: int) -> list[str]:
    """Return the measures whose cut-off is within the depth of a run."""
    return [name for name in names if ir_measures.parse_measure(name).params.get("cutoff", 0) <= depth]


def score(qrels: Qrels, run: Run, measures: Sequence[str]) -> Scores:
    """Measure a canonical run.

    The mean is over all judged queries: a judged query that the run lacks counts with a value of 0
    (``trec_eval -c``), and queries without judgements are ignored. A document with a negative grade is judged
    and not relevant. nDCG has linear gains. :func:`parse_measures` reads the names of the measures.

    Raises:
        UsageError: A name is not a measure, or there are no names.
        DataError: There are no judgements, or the run has none of the judged queries.
    """
    if not qrels:
        raise DataError("there are no judgements to score against")
    names = parse_measures(measures)
    query_ids = as_ids(sorted(qrels))
    retrieved = _retrieved(qrels, run, query_ids)
    ideal = _ideal(qrels, retrieved.lengths, query_ids)
    if not retrieved.lengths.any() and len(run.doc_ids):
        raise DataError(
            f"no judged query is in the run: it has {run.query_ids[0]!r}, …; "
            f"the judgements have {next(iter(qrels))!r}, …"
        )
    values = {name: np.zeros(len(query_ids)) for name in names}
    others = []
    for name in names:
        measure = ir_measures.parse_measure(name)
        if not _is_ours(measure):
            others.append(measure)
            continue
        cutoff, rel = measure.params.get("cutoff", math.inf), measure.params.get("rel", 1)
        if measure.params.get("dcg") == "exp-log2":
            require_gains(qrels, name)
        if measure.NAME == HOLE:
            judged_anywhere = dict.fromkeys((doc_id for grades in qrels.values() for doc_id in grades), 0)
            annotated = _retrieved(dict.fromkeys(qrels, judged_anywhere), run, query_ids)
            values[name] = hole(annotated, ideal, cutoff, rel)
        else:
            values[name] = _formula(measure)(retrieved, ideal, cutoff, rel)
    if others and retrieved.lengths.any():
        index_of = {query_id: index for index, query_id in enumerate(query_ids)}
        for query_id, name, value in by_ir_measures(qrels, run, others):
            values[name][index_of[query_id]] = value
    return Scores(query_ids=query_ids, values=values)


def _is_ours(measure: Any) -> bool:
    """Return whether a measure is computed here, and not by ir_measures."""
    options = {"cutoff", "rel", "dcg"} if measure.NAME == "nDCG" else {"cutoff", "rel"}
    return measure.NAME in (*FORMULAS, HOLE) and measure.params.keys() <= options


def _formula(measure: Any) -> Formula:
    return exponential_ndcg if measure.params.get("dcg") == "exp-log2" else FORMULAS[measure.NAME]


def _retrieved(qrels: Qrels, run: Run, query_ids: Ids) -> Graded:
    """Return the judged documents of a run."""
    rankings = {query_id: doc_ids for query_id, doc_ids, _ in run}
    lengths, rows = [], list[tuple[int, int, int]]()
    for query, query_id in enumerate(query_ids):
        grades = qrels[query_id]
        docs = rankings[query_id].tolist() if query_id in rankings else []
        lengths.append(len(docs))
        judged = compress(range(len(docs)), map(grades.__contains__, docs))
        rows += [(query, position + 1, grades[docs[position]]) for position in judged]
    return _graded(np.array(lengths), rows)


def _ideal(qrels: Qrels, lengths: NDArray[np.int64], query_ids: Ids) -> Graded:
    """Return all judged documents, the best first; the lengths (Q,) are those of the rankings of a run."""
    rows = [
        (query, rank, grade)
        for query, query_id in enumerate(query_ids)
        for rank, grade in enumerate(sorted(qrels[query_id].values(), reverse=True), 1)
    ]
    return _graded(lengths, rows)


def _graded(lengths: NDArray[np.int64], rows: list[tuple[int, int, int]]) -> Graded:
    """Return documents, given the query, the rank and the grade of each."""
    return Graded(lengths, *np.array(rows, dtype=np.int64).reshape(-1, 3).T)
