"""Competitors side by side: outputs compared first, then a round of each in turn, ratios round by round.

A machine's own speed moves by tens of per cent within minutes; what runs one after the other sees the same.
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
from worker import Output

WORKER = Path(__file__).with_name("worker.py")


class Competitor(NamedTuple):
    """Who runs.

    Attributes:
        name: As the table shows it.
        target: ``module:function`` that makes a round, see :mod:`worker`.
        arguments: Its arguments.
        compared: Whether its output must be that of the others; not if it measures the machine.
    """

    name: str
    target: str
    arguments: Mapping[str, Any]
    compared: bool = True


@dataclass
class Outcome:
    """What came of a competitor.

    Attributes:
        name: Its name.
        refused: Why its times do not count; empty if they do.
        rounds: What it answered each round; ``seconds`` and ``grown`` always.
    """

    name: str
    refused: str = ""
    rounds: list[dict[str, Any]] = field(default_factory=list)

    def median(self, of: str = "seconds") -> float:
        """Return the median over the rounds."""
        return float(median(answer[of] for answer in self.rounds))


class Ratio(NamedTuple):
    """A ratio in the middle round, and in those where it was lowest and highest."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        """Show two decimals, or three digits."""
        middle, low, high = (f"{value:.2f}" if value < 100 else f"{value:,.0f}" for value in self)
        return f"{middle} ({low}–{high})"

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return it for values of each round."""
        return cls(median(values), min(values), max(values))


def ratio(above: Outcome, below: Outcome, of: str = "seconds") -> Ratio:
    """Return the ratio of two competitors, formed within each round."""
    return Ratio.of([a[of] / b[of] for a, b in zip(above.rounds, below.rounds, strict=True)])


class Worker:
    """A competitor's process.

    Raises:
        ChildProcessError: It has ended; the message is the last line it wrote.
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
        """Nothing to do: the process is getting ready."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def answer(self) -> dict[str, Any]:
        """Wait for an answer."""
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()
            raise ChildProcessError(said[-1] if said else "ended without a word")
        return dict(json.loads(line))

    def round(self, keep: Path | None = None) -> dict[str, Any]:
        """Run a round and wait for its end."""
        if self._process.stdin:
            with suppress(BrokenPipeError):  # the answer says why
                print(keep or "", file=self._process.stdin, flush=True)
        return self.answer()


Objection = Callable[[Output, Output], str]
"""(reference, output) → what is wrong with the output; empty if nothing is."""


def compete(
    competitors: Sequence[Competitor],
    rounds: int,
    objection: Objection,
    *,
    reference: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Get all ready, compare what they return, and run rounds of those that agree, each in turn.

    Args:
        competitors: Who runs.
        rounds: How many rounds count; the one whose output is compared does not.
        objection: Compares an output with that of the reference.
        reference: Which competitor's output the others are compared with.
        say: Told what is going on.

    Returns:
        An outcome for each competitor.

    Raises:
        ChildProcessError: The reference has failed.
    """
    outcomes = [Outcome(competitor.name) for competitor in competitors]
    running: list[tuple[Outcome, Worker]] = []
    order = sorted(range(len(competitors)), key=lambda i: i != reference)  # the reference first
    with ExitStack() as stack, tempfile.TemporaryDirectory() as kept:
        expected: Output | None = None
        for i in order:
            say(f"{competitors[i].name}: getting ready")
            # One at a time: getting ready takes all cores.
            worker = stack.enter_context(Worker(competitors[i]))
            try:
                worker.answer()
                worker.round(Path(kept) / f"{i}.npz")
            except ChildProcessError as error:
                if expected is None:
                    raise
                outcomes[i].refused = f"failed: {error}"
                continue
            output = dict(np.load(Path(kept) / f"{i}.npz"))
            expected = output if expected is None else expected
            if competitors[i].compared:
                outcomes[i].refused = objection(expected, output)
            (Path(kept) / f"{i}.npz").unlink()
            if not outcomes[i].refused:
                running.append((outcomes[i], worker))
        for number in range(rounds):
            for outcome, worker in running:
                say(f"{outcome.name}: round {number + 1} of {rounds}")
                outcome.rounds.append(worker.round())
    return outcomes
