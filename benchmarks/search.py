"""Exact search: time and memory of ours, faiss, beir and mteb, from the same vectors on disk."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import ours
from numpy.typing import NDArray
from rounds import Competitor, Outcome, comparison, compete, ratio
from table import Table
from worker import Output

QUERIES, DEPTH = 1_000, 1_000
PART = 10
"""Of ``MANY`` documents or more, beir and mteb search a tenth, and their time is multiplied by ten: it grows
in proportion to the documents."""

MANY = 100_000

TOLERANCE = 1e-5
"""Difference of two scores of unit vectors that rounding in float32 explains."""

MIB = 1 << 20


class Size(NamedTuple):
    """The number of documents and the width of their vectors."""

    documents: int
    width: int


SIZES = (Size(1_000_000, 576), Size(100_000, 4_096))
QUICK = (Size(50_000, 576), Size(10_000, 4_096))


def vectors(count: int, width: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """Yield random unit vectors in blocks of :data:`ours.SHARD`; equal seeds give equal vectors."""
    for first in range(0, count, ours.SHARD):
        drawn = np.random.default_rng((seed, first)).standard_normal(
            (min(ours.SHARD, count - first), width), dtype=np.float32
        )
        yield drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def write(folder: Path, size: Size) -> None:
    """Write queries and documents as our stores, and as arrays of float16 for the other competitors."""
    for seed, (name, count) in enumerate({"queries": QUERIES, "documents": size.documents}.items()):
        ours.write_store(folder, name, vectors(count, size.width, seed))
        flat = np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=np.float16, shape=(count, size.width)
        )
        for number, block in enumerate(vectors(count, size.width, seed)):
            flat[number * ours.SHARD : number * ours.SHARD + len(block)] = block
        flat.flush()


def objection(expected: Output, output: Output) -> str:
    """Return the number of hits of the reference that are missing or have other scores; empty if none.

    Only hits among the documents that were searched count, and none that may be left out for a tie.
    """
    if output["rows"].shape != expected["rows"].shape:
        return f"other hits: {output['rows'].shape[1]} a query"
    missing = differing = 0
    for expected_rows, expected_scores, rows, scores in zip(
        *(part[name] for part in (expected, output) for name in ("rows", "scores")), strict=True
    ):
        searched = expected_rows < output["searched"]
        expected_rows, expected_scores = expected_rows[searched], expected_scores[searched]
        order = np.argsort(rows)
        position = order[np.searchsorted(rows[order], expected_rows).clip(max=len(rows) - 1)]
        present = rows[position] == expected_rows
        missing += int((~present & (expected_scores > scores.min() + TOLERANCE)).sum())
        differing += int((np.abs(scores[position] - expected_scores)[present] > TOLERANCE).sum())
    return f"other hits: {missing:,} missing, {differing:,} other scores" if missing or differing else ""


def measure(size: Size, rounds: int, say: Callable[[str], None]) -> list[Outcome]:
    """Measure all competitors on random vectors."""
    part = size.documents // PART if size.documents >= MANY else size.documents
    with tempfile.TemporaryDirectory() as folder:
        say(f"{size.documents:,} vectors {size.width} wide: writing")
        write(Path(folder), size)
        common = {"folder": folder, "depth": DEPTH}
        outcomes = compete(
            [
                Competitor("llara-eval", "ours:search", common),
                Competitor("faiss, flat", "searchers:faiss", {**common, "built": False}),
                Competitor("faiss, its index built before", "searchers:faiss", {**common, "built": True}),
                Competitor("beir, heaps", "searchers:beir", {**common, "documents": part}),
                Competitor("mteb", "searchers:mteb", {**common, "documents": part}),
            ],
            rounds,
            objection,
            reference=1,
            say=say,
        )
    for answer in outcomes[2].rounds:
        del answer["grown"]  # which lacks the memory of the index
    if part < size.documents:
        for outcome in outcomes[3:]:
            outcome.name += f", {PART} times a tenth"
            for answer in outcome.rounds:
                answer["seconds"] *= size.documents / part
    return outcomes


def table(size: Size, outcomes: list[Outcome]) -> Table:
    """Return the table of seconds, memory and ratios."""
    ours_outcome = outcomes[0]

    def cells(peer: Outcome) -> list[object]:
        memory = f"{peer.median('grown') / MIB:,.0f}" if "grown" in peer.rounds[0] else ""
        ratios: list[object] = ["", ""]
        if ours_outcome.rounds and peer is not ours_outcome:
            ratios = [ratio(peer, ours_outcome), ratio(ours_outcome, peer, "grown") if memory else ""]
        return [f"{peer.median():.2f}", ratios[0], memory, ratios[1]]

    return comparison(
        f"Search {size.documents:,} × {size.width}",
        f"Top {DEPTH:,} of {QUERIES:,} queries, float16 on disk; hits compared with those of faiss. Memory: "
        "anonymous, the peak above that of the program when ready.",
        ["seconds", "ours is faster, times", "MiB", "ours of its memory"],
        outcomes,
        cells,
    )
