"""Measures that ir_measures computes, most of them by trec_eval's C code, which trusts its input.

trec_eval (``form_res_rels.c``) knows three kinds of judged documents: those of at least the relevant grade,
those below it, and those of any negative grade, which were pooled and not judged. It reserves memory for as
many grades as the largest grade of a query says, so a largest grade below -1 or of some billions damages its
memory. Therefore it is given nothing but the grades -1, 0 and 1, or grades up to 127 for measures with gains.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from subprocess import SubprocessError
from typing import Any

import ir_measures

from llara_eval.core.errors import DataError
from llara_eval.core.types import Qrels, Run

LARGEST_GAIN = 127
"""The largest grade that counts as a gain: the largest one that trec_eval's ``get_qrels.c`` allows."""

LARGEST_CUTOFF = 2**31 - 1
"""The largest cut-off and the largest relevant grade that the C code takes."""

_COUNTS = ("NumQ", "NumRet")
"""Measures to which grades do not matter, if they have no relevant grade."""

_NOT_RETRIEVED = "not retrieved"
"""A document with grade 0 that no run has, for queries whose grades are all negative."""


def require_gains(qrels: Qrels, name: str) -> None:
    """Check that all grades can be gains.

    Raises:
        DataError: A grade is too large; the message names the query and the document.
    """
    for query_id, grades in qrels.items():
        for doc_id, grade in grades.items():
            if grade > LARGEST_GAIN:
                pair = f"document {doc_id!r} of query {query_id!r}"
                raise DataError(f"{name} takes grades up to {LARGEST_GAIN}; {pair} has {grade:,}")


def is_safe(measure: Any) -> bool:
    """Return whether the numbers in a measure's name are within the ranges of the C code."""
    numbers = [measure.params.get("cutoff", 1), measure.params.get("rel", 1)]
    gains = measure.params.get("gains", {}).values()
    return (
        all(1 <= number <= LARGEST_CUTOFF for number in numbers)
        and all(isinstance(gain, int) and 0 <= gain <= LARGEST_GAIN for gain in gains)
        and 0 <= measure.params.get("recall", 0) <= 1
    )


def by_ir_measures(qrels: Qrels, run: Run, measures: Sequence[Any]) -> Iterator[tuple[str, str, float]]:
    """Yield (query_id, name of the measure, value), from dictionaries of all documents.

    Identifiers become numbers, since gdeval, which computes ERR, reads query ids as numbers and document ids
    up to a space. A quotient with a denominator of 0, which trec_eval gives as NaN, is 0.

    Raises:
        DataError: A grade is too large for a measure with gains, or a ranking has no value.
    """
    query_ids = list(qrels)
    query_number = {query_id: str(number) for number, query_id in enumerate(query_ids, 1)}
    doc_number: dict[str, str] = defaultdict(lambda: f"d{len(doc_number)}")
    numbered = {
        query_number[query_id]: {doc_number[doc_id]: grade for doc_id, grade in docs.items()}
        for query_id, docs in qrels.items()
    }
    scores = {
        query_number[query_id]: dict(zip(map(doc_number.__getitem__, doc_ids), values.tolist(), strict=True))
        for query_id, doc_ids, values in run
        if query_id in query_number and len(doc_ids)
    }
    for rel, names in _by_relevant_grade(measures).items():
        if rel is None:
            require_gains(qrels, " and ".join(names.values()))
        grades = {number: _safe(docs, rel) for number, docs in numbered.items()}
        try:
            for metric in ir_measures.iter_calc(list(names), grades, scores):
                value = metric.value if math.isfinite(metric.value) else 0.0
                yield query_ids[int(metric.query_id) - 1], names[metric.measure], value
        except (ArithmeticError, SubprocessError) as error:
            raise DataError(
                f"{' or '.join(names.values())} is not defined for one of these rankings ({error})"
            ) from error


def _by_relevant_grade(measures: Sequence[Any]) -> dict[int | None, dict[Any, str]]:
    """Group measures by their smallest relevant grade, or by None where grades are gains.

    Returns:
        Smallest relevant grade → the measure with ``rel=1`` instead of that grade → the measure's name.
    """
    groups: dict[int | None, dict[Any, str]] = defaultdict(dict)
    for measure in measures:
        rel = measure["rel"] if "rel" in measure.SUPPORTED_PARAMS else None
        if isinstance(rel, int):
            groups[rel][measure(rel=1)] = str(measure)
        elif measure.NAME in _COUNTS:
            groups[1][measure] = str(measure)
        else:
            groups[None][measure] = str(measure)
    return groups


def _safe(grades: Mapping[str, int], rel: int | None) -> dict[str, int]:
    """Return grades with -1 for all negative ones and, if ``rel`` is given, 1 for all that are as large."""
    safe = {
        doc_id: max(grade, -1) if grade < 0 or rel is None else int(grade >= rel)
        for doc_id, grade in grades.items()
    }
    return safe if max(safe.values()) >= 0 else {**safe, _NOT_RETRIEVED: 0}
