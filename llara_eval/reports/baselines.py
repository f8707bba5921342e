"""The systems whose published values can be measured again, and how exactly."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from llara_eval.reports import published


class Tolerance(NamedTuple):
    """How far what we find may lie from what was published.

    Attributes:
        ok: Up to here it is the same value.
        close: Up to here it is explained by versions or arithmetic; beyond, something is wrong.
    """

    ok: float
    close: float


LEXICAL = Tolerance(ok=0.0001, close=0.001)
"""BM25. One unit of the four decimals that are published: half of it is their rounding, half is room
for a tie (found on SciFact and ArguAna: at most 0.00005). Close is for another Lucene, and for the
regressions' habit of leaving out a query's own id in every data set, which we do only where queries
are documents."""

DENSE = Tolerance(ok=0.0005, close=0.005)
"""Encoders. Papers print three decimals, and half a unit is their rounding (found for MiniLM in float32
on SciFact and ArguAna: at most 0.00003). Close is for another type or other batches."""

NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})
"""The system as it is."""


class System(NamedTuple):
    """A system that can be checked.

    Attributes:
        name: What the command line calls it.
        published: What the published scores call it.
        model: What is opened; None where the user must name a checkpoint.
        tolerance: How exactly it can be reproduced.
        settings: Its settings.
    """

    name: str
    published: str
    model: str | None
    tolerance: Tolerance
    settings: Mapping[str, Any] = NO_SETTINGS


SYSTEMS = (
    System("bm25", published.BM25, "bm25", LEXICAL),
    System("bm25-multifield", published.BM25_MULTIFIELD, "bm25-multifield", LEXICAL),
    System("bm25-tuned", published.BM25_TUNED_PASSAGE, "bm25", LEXICAL, {"k1": 0.82, "b": 0.68}),
    System("bm25-tuned", published.BM25_TUNED_DOCUMENT, "bm25", LEXICAL, {"k1": 3.44, "b": 0.87}),
    System("all-minilm-l6-v2", "all-MiniLM-L6-v2", "all-minilm-l6-v2", DENSE),
    System("repllama", published.REPLLAMA, None, DENSE),
    System("llara", published.LLARA, None, DENSE),
)
"""BM25 was tuned on passages and on documents: one name, two settings."""

NAMES = tuple(dict.fromkeys(system.name for system in SYSTEMS))
