"""Published values that can be measured again: their cells, and the verdict on a difference."""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from llara_eval.core.errors import LlaraEvalError, UsageError
from llara_eval.datasets.known import DEPTH, expand, find
from llara_eval.reports import published
from llara_eval.reports.published import PublishedScore
from llara_eval.scoring.measures import DEFAULT_MEASURES

Verdict = Literal["OK", "close", "FAIL"]


class Tolerance(NamedTuple):
    """How far a measured value may lie from the published one.

    Attributes:
        ok: The largest difference at which both are the same value.
        close: The largest difference that versions or arithmetic explain; beyond it, something is wrong.
    """

    ok: float
    close: float


LEXICAL = Tolerance(ok=0.0001, close=0.001)
"""The tolerance for BM25. ``ok`` is one unit of the four published decimals: half of it is for their
rounding, half for a tie (measured on SciFact and ArguAna: at most 0.00005). ``close`` is for another Lucene,
and for the regressions' habit of leaving out a query's own id in every data set, which we do only where
queries are documents."""

DENSE = Tolerance(ok=0.0005, close=0.005)
"""The tolerance for encoders. Papers print three decimals, and half a unit is their rounding (measured for
MiniLM in float32 on SciFact and ArguAna: at most 0.00003). ``close`` is for another dtype or batch size."""

_NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})


class System(NamedTuple):
    """A system whose published scores can be measured again.

    Attributes:
        name: Its name on the command line.
        published: Its names in the published scores, that of the latest version last.
        model: The system that is opened; None where the user must name a checkpoint.
        tolerance: The differences that are allowed.
        settings: Its settings; empty for the usual ones.
    """

    name: str
    published: tuple[str, ...]
    model: str | None
    tolerance: Tolerance
    settings: Mapping[str, Any] = _NO_SETTINGS


SYSTEMS = (
    System("bm25", (published.BM25,), "bm25", LEXICAL),
    System("bm25-multifield", (published.BM25_MULTIFIELD,), "bm25-multifield", LEXICAL),
    System("bm25-tuned", (published.BM25_TUNED_PASSAGE,), "bm25", LEXICAL, {"k1": 0.82, "b": 0.68}),
    System("bm25-tuned", (published.BM25_TUNED_DOCUMENT,), "bm25", LEXICAL, {"k1": 3.44, "b": 0.87}),
    System("all-minilm-l6-v2", ("all-MiniLM-L6-v2",), "all-minilm-l6-v2", DENSE),
    System("repllama", (published.REPLLAMA,), None, DENSE),
    System("llara", (published.LLARA, published.LLAMA2VEC), None, DENSE),
)
"""The systems. BM25 was tuned on passages and on documents, so that one name has two settings."""

NAMES = tuple(dict.fromkeys(system.name for system in SYSTEMS))


class Expected(NamedTuple):
    """A value to reproduce.

    Attributes:
        measure: Name of the measure.
        value: The mean, 0 to 1.
        source: The paper, page or file that has the value.
        disputed: Other values that were published for the same measure, each with its source.
    """

    measure: str
    value: float
    source: str
    disputed: tuple[str, ...] = ()


class Cell(NamedTuple):
    """A system on a data set, or on a group of data sets whose macro mean was published.

    Attributes:
        system: The system's name on the command line.
        model: The name or the checkpoint folder of the system; None if the user named no checkpoint.
        dataset: The data set, or ``mean/<group>``.
        expected: The values to reproduce.
        tolerance: The differences that are allowed.
        split: The split of the judgements; None for the usual one.
        settings: Settings of the system.
    """

    system: str
    model: str | None
    dataset: str
    expected: tuple[Expected, ...]
    tolerance: Tolerance
    split: str | None = None
    settings: Mapping[str, Any] = _NO_SETTINGS

    @property
    def members(self) -> tuple[str, ...]:
        """The data sets whose values are averaged; only one where no mean was published."""
        return expand(self.dataset.removeprefix("mean/"))

    def measures_of(self, member: str) -> tuple[str, ...]:
        """Return the usual measures of a member, as in any other result, and the expected ones."""
        return tuple(dict.fromkeys([*_usual(member), *(item.measure for item in self.expected)]))

    @property
    def command(self) -> str:
        """The command that measures the cell."""
        words = ["llara-eval", "evaluate", "-m", self.model or "CHECKPOINT"]
        for key, value in self.settings.items():
            words += ["-o", f"{key}={value}"]
        for member in self.members:
            words += ["-d", member]
        if self.split:
            words += ["--split", self.split]
        measures = {member: self.measures_of(member) for member in self.members}
        if any(names != _usual(member) for member, names in measures.items()):
            words += ["--measures", ",".join(dict.fromkeys(chain(*measures.values())))]
        known = find(self.dataset)
        if known and known.depth != DEPTH:
            words += ["--depth", str(DEPTH)]
        return shlex.join(words)


def _usual(dataset: str) -> tuple[str, ...]:
    """Return the usual measures of a data set."""
    known = find(dataset)
    return known.measures if known else DEFAULT_MEASURES


def cells(scores: Iterable[PublishedScore]) -> tuple[Cell, ...]:
    """Group published scores into cells, in the order of :data:`SYSTEMS`.

    Args:
        scores: Scores of any systems, later versions after earlier ones. Where several scores are of one
            measure of one cell, the latest of those nearest to their primary source is expected, and the
            others are kept as disputed if they differ.
    """
    rows = list(scores)
    return tuple(cell for system in SYSTEMS for cell in _cells_of(system, rows))


def _cells_of(system: System, scores: Iterable[PublishedScore]) -> Iterator[Cell]:
    grouped: dict[tuple[str, str | None], dict[str, list[PublishedScore]]] = {}
    for score in scores:
        if score.system in system.published:
            measures = grouped.setdefault((score.dataset, score.split), {})
            measures.setdefault(score.measure, []).append(score)
    for (dataset, split), measures in grouped.items():
        yield Cell(
            system.name,
            system.model,
            dataset,
            tuple(_expected(measure, same) for measure, same in measures.items()),
            system.tolerance,
            split,
            system.settings,
        )


def _expected(measure: str, scores: Iterable[PublishedScore]) -> Expected:
    *others, last = sorted(scores, key=lambda score: score.confidence, reverse=True)
    disputed = tuple(f"{other.value:.4f} ({other.source})" for other in others if other.value != last.value)
    return Expected(measure, last.value, last.source, disputed)


def choose(
    every: Sequence[Cell],
    *,
    systems: Sequence[str] = (),
    datasets: Sequence[str] = (),
    models: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Cell, ...]:
    """Return the cells of some systems and data sets.

    Args:
        every: All cells.
        systems: Names of systems; empty for all.
        datasets: Names of data sets, with or without ``beir/``; ``cqadupstack`` includes its forums.
            Empty for all.
        models: System → checkpoint, for the systems that need one.

    Raises:
        UsageError: A name matches no cell, or a checkpoint is named for a system that needs none.
    """
    for name in systems:
        if name not in NAMES:
            raise UsageError(f"--system {name}: choose one of {', '.join(NAMES)}")
    without_model = {cell.system for cell in every if cell.model is None}
    for name in models:
        if name not in without_model:
            raise UsageError(f"--model {name}=…: only {', '.join(sorted(without_model))} need a checkpoint")
    aliases = {name: {name, f"beir/{name}", *expand(name)} for name in datasets}
    for name in datasets:
        if not any(cell.dataset in aliases[name] for cell in every):
            raise UsageError(f"--datasets {name}: no values were published for it; --list shows the others")
    names = set().union(*aliases.values())
    chosen = tuple(
        cell._replace(model=cell.model or models.get(cell.system))
        for cell in every
        if (not systems or cell.system in systems) and (not datasets or cell.dataset in names)
    )
    if not chosen:
        raise UsageError(f"nothing was published for {', '.join(systems)} on {', '.join(datasets)}")
    return chosen


def compare(expected: float, measured: float, tolerance: Tolerance) -> Verdict:
    """Judge a measured value by the published one; a difference of exactly the tolerance is within it."""
    difference = round(abs(measured - expected), 9)  # 0.6790 - 0.6789 is a little more than 0.0001
    if difference <= tolerance.ok:
        return "OK"
    return "close" if difference <= tolerance.close else "FAIL"


class Finding(NamedTuple):
    """A published value, measured again.

    Attributes:
        cell: The cell of the value.
        expected: The published value.
        measured: The measured value; None if the measurement failed.
        error: The error of a measurement that failed, else None.
    """

    cell: Cell
    expected: Expected
    measured: float | None = None
    error: LlaraEvalError | None = None

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the measured value; None if there is none."""
        if self.measured is None:
            return None
        return compare(self.expected.value, self.measured, self.cell.tolerance)
