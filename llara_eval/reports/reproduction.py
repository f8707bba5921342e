"""Published values that check us: which cells there are, and what a difference means."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from llara_eval.core.errors import LlaraEvalError, UsageError
from llara_eval.datasets.known import DEPTH, expand, find
from llara_eval.reports import published
from llara_eval.reports.published import PublishedScore
from llara_eval.scoring.measures import DEFAULT_MEASURES

Verdict = Literal["OK", "close", "FAIL"]


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


class Expected(NamedTuple):
    """A value to reproduce.

    Attributes:
        measure: Name of the measure.
        value: The mean, 0 to 1.
        source: Where it was read.
        disputed: Other values that were published for the same, each with its source.
    """

    measure: str
    value: float
    source: str
    disputed: tuple[str, ...] = ()


class Cell(NamedTuple):
    """A system on a data set, or on several of which the macro mean was published.

    Attributes:
        system: The system's name on the command line.
        model: What is opened: a system's name or a checkpoint folder; None if nobody named one.
        dataset: The data set, or the name of the mean.
        expected: The values to reproduce.
        tolerance: How exactly.
        split: The judgements; None for the usual ones.
        settings: Settings of the system.
    """

    system: str
    model: str | None
    dataset: str
    expected: tuple[Expected, ...]
    tolerance: Tolerance
    split: str | None = None
    settings: Mapping[str, Any] = NO_SETTINGS

    @property
    def members(self) -> tuple[str, ...]:
        """The data sets whose values are averaged; mostly one."""
        return expand(self.dataset.removeprefix("mean/"))

    @property
    def measures(self) -> tuple[str, ...]:
        """What is measured: the usual, so that the result is an ordinary one, and what is expected."""
        return tuple(dict.fromkeys([*self._usual, *(item.measure for item in self.expected)]))

    @property
    def _usual(self) -> tuple[str, ...]:
        """What is reported on the data set."""
        known = find(self.dataset)
        return known.measures if known else DEFAULT_MEASURES

    @property
    def command(self) -> str:
        """The command that measures it."""
        words = ["llara-eval", "evaluate", "-m", self.model or "CHECKPOINT"]
        for key, value in self.settings.items():
            words += ["-o", f"{key}={value}"]
        for member in self.members:
            words += ["-d", member]
        if self.split:
            words += ["--split", self.split]
        if self.measures != self._usual:
            words += ["--measures", ",".join(self.measures)]
        known = find(self.dataset)
        if known and known.depth != DEPTH:
            words += ["--depth", str(DEPTH)]
        return shlex.join(words)


def cells(scores: Iterable[PublishedScore]) -> tuple[Cell, ...]:
    """Bring published scores into cells, in the order of :data:`SYSTEMS`.

    Args:
        scores: Of any systems; where two are of the same, the later one counts and the other is
            reported if it differs.
    """
    said: dict[tuple[str, str, str | None], dict[str, list[PublishedScore]]] = {}
    for score in scores:
        measures = said.setdefault((score.system, score.dataset, score.split), {})
        measures.setdefault(score.measure, []).append(score)
    return tuple(
        Cell(
            system.name,
            system.model,
            dataset,
            tuple(_expected(measure, found) for measure, found in measures.items()),
            system.tolerance,
            split,
            system.settings,
        )
        for system in SYSTEMS
        for (name, dataset, split), measures in said.items()
        if name == system.published
    )


def _expected(measure: str, scores: Sequence[PublishedScore]) -> Expected:
    *others, last = scores
    disputed = tuple(f"{other.value:.4f} ({other.source})" for other in others if other.value != last.value)
    return Expected(measure, last.value, last.source, disputed)


def choose(
    every: Sequence[Cell],
    *,
    systems: Sequence[str] = (),
    datasets: Sequence[str] = (),
    models: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Cell, ...]:
    """Return the cells that were asked for; without names, all of them.

    Args:
        every: All cells.
        systems: Names of systems.
        datasets: Names of data sets, with or without ``beir/``; ``cqadupstack`` stands for its forums too.
        models: System → checkpoint, for systems that do not come with one.

    Raises:
        UsageError: A name stands for no cell, or a checkpoint is named for a system that has its own.
    """
    for name in systems:
        if name not in NAMES:
            raise UsageError(f"--system {name}: it is one of {', '.join(NAMES)}")
    need = {cell.system for cell in every if cell.model is None}
    for name in models:
        if name not in need:
            raise UsageError(f"--model {name}=…: only {', '.join(sorted(need))} need a checkpoint")
    wanted = {alias for name in datasets for alias in _aliases(name)}
    for name in datasets:
        if not any(cell.dataset in _aliases(name) for cell in every):
            raise UsageError(f"--datasets {name}: nothing was published for it; --list shows what was")
    chosen = tuple(
        cell._replace(model=cell.model or models.get(cell.system))
        for cell in every
        if (not systems or cell.system in systems) and (not datasets or cell.dataset in wanted)
    )
    if not chosen:
        raise UsageError(f"nothing was published for {', '.join(systems)} on {', '.join(datasets)}")
    return chosen


def _aliases(name: str) -> set[str]:
    return {name, f"beir/{name}", *expand(name)}


def compare(expected: float, found: float, tolerance: Tolerance) -> Verdict:
    """Compare a value with the one published; a difference of exactly a tolerance is within it."""
    difference = round(abs(found - expected), 9)  # 0.6790 - 0.6789 is a little more than 0.0001
    if difference <= tolerance.ok:
        return "OK"
    return "close" if difference <= tolerance.close else "FAIL"


class Finding(NamedTuple):
    """What came of one published value.

    Attributes:
        cell: Where it stands.
        expected: The value.
        found: What was found, or None.
        error: Why nothing was found, or None.
    """

    cell: Cell
    expected: Expected
    found: float | None = None
    error: LlaraEvalError | None = None

    @property
    def verdict(self) -> Verdict | None:
        """How the two compare; None if nothing was found."""
        return None if self.found is None else compare(self.expected.value, self.found, self.cell.tolerance)
