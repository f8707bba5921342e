"""Exact search: seconds and memory of ours, faiss, beir's heaps and mteb's, from the same vectors on disk."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import ours
from numpy.typing import NDArray
from rounds import Competitor, Outcome, compete, ratio
from table import Table
from worker import Output

QUERIES, DEPTH = 1_000, 1_000
PART = 10
"""beir and mteb get a tenth of many documents and their time is multiplied: heaps take as long for each."""

MANY = 100_000

TOLERANCE = 1e-5
"""Difference of scores (unit vectors) that rounding in float32 explains."""

MIB = 1 << 20


class Size(NamedTuple):
    """How much is searched."""

    documents: int
    width: int


SIZES = (Size(1_000_000, 576), Size(100_000, 4_096))
QUICK = (Size(50_000, 576), Size(10_000, 4_096))


def vectors(count: int, width: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """Yield unit vectors in blocks of :data:`ours.SHARD`; equal seeds give equal vectors."""
    for first in range(0, count, ours.SHARD):
        drawn = np.random.default_rng((seed, first)).standard_normal(
            (min(ours.SHARD, count - first), width), dtype=np.float32
        )
        yield drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def write(folder: Path, size: Size) -> None:
    """Write queries and documents twice: as our stores, and as one array of float16 each for the others."""
    for seed, (name, count) in enumerate({"queries": QUERIES, "documents": size.documents}.items()):
        ours.write_store(folder, name, vectors(count, size.width, seed))
        flat = np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=np.float16, shape=(count, size.width)
        )
        for number, block in enumerate(vectors(count, size.width, seed)):
            flat[number * ours.SHARD : number * ours.SHARD + len(block)] = block
        flat.flush()


def objection(expected: Output, found: Output) -> str:
    """Say what is wrong with hits: the reference's must be there, as far as searched, with their scores."""
    if found["rows"].shape != expected["rows"].shape:
        return f"other hits: {found['rows'].shape[1]} a query"
    missing = differing = 0
    for there, its, here, mine in zip(
        *(part[name] for part in (expected, found) for name in ("rows", "scores")), strict=True
    ):
        inside = there < found["searched"]
        there, its = there[inside], its[inside]
        order = np.argsort(here)
        place = order[np.searchsorted(here[order], there).clip(max=len(here) - 1)]
        known = here[place] == there
        missing += int((~known & (its > mine.min() + TOLERANCE)).sum())
        differing += int((np.abs(mine[place] - its)[known] > TOLERANCE).sum())
    return f"other hits: {missing:,} missing, {differing:,} other scores" if missing or differing else ""


def measure(size: Size, rounds: int, say: Callable[[str], None]) -> list[Outcome]:
    """Measure all on vectors written for the occasion."""
    part = size.documents // PART if size.documents >= MANY else size.documents
    with tempfile.TemporaryDirectory() as folder:
        say(f"{size.documents:,} vectors {size.width} wide: writing")
        write(Path(folder), size)
        given = {"folder": folder, "depth": DEPTH}
        outcomes = compete(
            [
                Competitor("llara-eval", "ours:search", given),
                Competitor("faiss, flat", "searchers:faiss", {**given, "built": False}),
                Competitor("faiss, its index built before", "searchers:faiss", {**given, "built": True}),
                Competitor("beir, heaps", "searchers:beir", {**given, "documents": part}),
                Competitor("mteb", "searchers:mteb", {**given, "documents": part}),
            ],
            rounds,
            objection,
            reference=1,
            say=say,
        )
    for answer in outcomes[2].rounds:
        del answer["grown"]  # it does not hold the index
    if part < size.documents:
        for outcome in outcomes[3:]:
            outcome.name += f", {PART} times a tenth"
            for answer in outcome.rounds:
                answer["seconds"] *= size.documents / part
    return outcomes


def table(size: Size, outcomes: list[Outcome]) -> Table:
    """Return seconds, memory and ratios."""
    own = outcomes[0]
    return Table(
        f"Search {size.documents:,} × {size.width}",
        f"Top {DEPTH:,} of {QUERIES:,} queries, float16 on disk; hits compared with those of faiss. Memory: "
        "anonymous, the peak above that of the program when ready.",
        ["", "seconds", "ours is faster, times", "MiB", "ours of its memory"],
        [row(peer, own) for peer in outcomes],
    )


def row(peer: Outcome, own: Outcome) -> list[object]:
    """Return the cells of one competitor."""
    if peer.refused:
        return [peer.name, peer.refused, "", "", ""]
    memory = f"{peer.median('grown') / MIB:,.0f}" if "grown" in peer.rounds[0] else ""
    ratios: list[object] = ["", ""]
    if own.rounds and peer is not own:
        ratios = [ratio(peer, own), ratio(own, peer, "grown") if memory else ""]
    return [peer.name, f"{peer.median():.2f}", ratios[0], memory, ratios[1]]
