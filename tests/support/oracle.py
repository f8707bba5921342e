"""Measures computed from their definitions in a few lines, to compare other implementations with."""

from collections.abc import Mapping, Sequence
from math import log2

import numpy as np


def oracle(
    qrels: Mapping[str, Mapping[str, int]],
    results: Mapping[str, Mapping[str, float]],
    measures: Sequence[str],
    depth: int = 1000,
) -> dict[str, dict[str, float]]:
    """Return query → measure → value; scores count in float32, and ties go to the larger id in bytes."""
    values: dict[str, dict[str, float]] = {}
    for query_id, judged in qrels.items():
        docs = results.get(query_id, {})

        def key(doc_id: str, docs: Mapping[str, float] = docs) -> tuple[np.float32, bytes]:
            return np.float32(docs[doc_id]), doc_id.encode()

        ranking = sorted(docs, key=key, reverse=True)[:depth]
        relevant = {doc_id for doc_id, grade in judged.items() if grade > 0}
        values[query_id] = {name: _value(name, ranking, judged, relevant) for name in measures}
    return values


def _value(name: str, ranking: Sequence[str], judged: Mapping[str, int], relevant: set[str]) -> float:
    measure, _, cut = name.partition("@")
    top = ranking[: int(cut or 1000)]
    found = [rank for rank, doc_id in enumerate(top, 1) if doc_id in relevant]
    if measure == "nDCG":
        best = sorted((max(grade, 0) for grade in judged.values()), reverse=True)[: int(cut or 1000)]
        ideal = sum(grade / log2(rank + 1) for rank, grade in enumerate(best, 1))
        gain = sum(max(judged.get(doc_id, 0), 0) / log2(rank + 1) for rank, doc_id in enumerate(top, 1))
        return gain / ideal if ideal else 0.0
    if measure == "RR":
        return 1 / found[0] if found else 0.0
    if measure == "R":
        return len(found) / len(relevant) if relevant else 0.0
    if measure == "P":
        return len(found) / int(cut)
    if measure == "AP":
        return sum(n / rank for n, rank in enumerate(found, 1)) / len(relevant) if relevant else 0.0
    if measure == "Judged":
        return sum(doc_id in judged for doc_id in top) / len(top) if top else 0.0
    raise ValueError(f"the oracle does not know {name}")
