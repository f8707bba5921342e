"""Competitors side by side: their outputs are compared first, then each runs a round in turn.

The speed of a machine varies by tens of per cent within minutes, so ratios are formed within a round.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Self

import numpy as np
from table import Table
from worker import Output

WORKER = Path(__file__).with_name("worker.py")


class Competitor(NamedTuple):
    """A competitor.

    Attributes:
        name: The name in tables.
        target: ``module:function`` that makes a round, see :mod:`worker`.
        arguments: The arguments of the function, as JSON values.
        compared: Whether the output must be that of the reference; false for a measurement of the machine.
    """

    name: str
    target: str
    arguments: Mapping[str, Any]
    compared: bool = True


@dataclass
class Outcome:
    """The measurements of a competitor.

    Attributes:
        name: The name in tables.
        refused: Why the times do not count; empty if they do.
        rounds: The answer of each round, always with ``seconds`` and ``grown``.
    """

    name: str
    refused: str = ""
    rounds: list[dict[str, Any]] = field(default_factory=list)

    def median(self, of: str = "seconds") -> float:
        """Return the median of a value over the rounds."""
        return float(median(answer[of] for answer in self.rounds))


class Ratio(NamedTuple):
    """The median of a ratio over the rounds, its lowest and its highest value."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return the values with two decimals, or from 100 on with none."""
        middle, low, high = (f"{value:.2f}" if value < 100 else f"{value:,.0f}" for value in self)
        return f"{middle} ({low}–{high})"

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return the ratio of the values of each round."""
        return cls(median(values), min(values), max(values))


def ratio(above: Outcome, below: Outcome, of: str = "seconds") -> Ratio:
    """Return the ratio of two competitors, formed within each round."""
    return Ratio.of([a[of] / b[of] for a, b in zip(above.rounds, below.rounds, strict=True)])


class Worker:
    """The process of a competitor.

    Raises:
        ChildProcessError: The process has ended; the message is the last line of its standard error.
    """

    def __init__(self, competitor: Competitor) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe that nobody reads would block it
        self._process = subprocess.Popen(
            [sys.executable, WORKER, competitor.target, json.dumps(competitor.arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __enter__(self) -> Self:
        """Return the worker: its process is getting ready already."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def answer(self) -> dict[str, Any]:
        """Wait for an answer, and return it."""
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            raise ChildProcessError(lines[-1] if lines else "ended without a message")
        return dict(json.loads(line))

    def round(self, keep: Path | None = None) -> dict[str, Any]:
        """Run a round, keep its output in a file if one is named, and return its answer."""
        if self._process.stdin:
            with suppress(BrokenPipeError):  # the answer is then the reason
                print(keep or "", file=self._process.stdin, flush=True)
        return self.answer()


Objection = Callable[[Output, Output], str]
"""(output of the reference, output) → the difference that matters; empty if there is none."""


def compete(
    competitors: Sequence[Competitor],
    rounds: int,
    objection: Objection,
    *,
    reference: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Start all competitors, compare their outputs, and run rounds of those that agree, each in turn.

    Args:
        competitors: The competitors.
        rounds: The number of rounds that count; a first one, whose output is compared, does not.
        objection: The comparison of an output with that of the reference.
        reference: The index of the competitor with whose output the others are compared.
        say: Called with messages on the progress.

    Returns:
        The outcome of each competitor.

    Raises:
        ChildProcessError: The reference has failed.
    """
    outcomes = [Outcome(competitor.name) for competitor in competitors]
    running: list[tuple[Outcome, Worker]] = []
    order = sorted(range(len(competitors)), key=lambda i: i != reference)  # the reference first
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        expected: Output | None = None
        for i in order:
            say(f"{competitors[i].name}: getting ready")
            # One at a time: getting ready takes all cores.
            worker = stack.enter_context(Worker(competitors[i]))
            try:
                worker.answer()
                worker.round(Path(folder) / f"{i}.npz")
            except ChildProcessError as error:
                if expected is None:
                    raise
                outcomes[i].refused = f"failed: {error}"
                continue
            output = dict(np.load(Path(folder) / f"{i}.npz"))
            expected = output if expected is None else expected
            if competitors[i].compared:
                outcomes[i].refused = objection(expected, output)
            (Path(folder) / f"{i}.npz").unlink()
            if not outcomes[i].refused:
                running.append((outcomes[i], worker))
        for number in range(rounds):
            for outcome, worker in running:
                say(f"{outcome.name}: round {number + 1} of {rounds}")
                outcome.rounds.append(worker.round())
    return outcomes


def comparison(
    title: str,
    text: str,
    columns: Sequence[str],
    outcomes: Sequence[Outcome],
    cells: Callable[[Outcome], Sequence[object]],
) -> Table:
    """Return a table with a row for each competitor; in that of a refused one stands only the reason.

    Args:
        title: The heading of the table.
        text: The text before the table.
        columns: Names of the columns after the first one, which holds the name of the competitor.
        outcomes: The competitors.
        cells: Returns the cells of a competitor in these columns.
    """
    rows = [
        [
            outcome.name,
            *([outcome.refused, *[""] * (len(columns) - 1)] if outcome.refused else cells(outcome)),
        ]
        for outcome in outcomes
    ]
    return Table(title, text, ["", *columns], rows)
