"""Rich tables of results, and of published values beside what was measured."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from llara_eval.cli.console import plain, width
from llara_eval.evaluation.evaluate import Outcome
from llara_eval.evaluation.record import Mean
from llara_eval.reports.leaderboard import MEASURES

if TYPE_CHECKING:
    from llara_eval.reports.reproduction import Cell, Expected, Finding

ABSENT = "–"

_WIDE, _FEW = 110, 3
"""Columns of a terminal that hold all usual measures; and how many measures stand in a narrower one."""

BM25_IS = "BM25: Lucene, k1=0.9, b=0.4 unless it says otherwise"
"""Stands under a table with BM25: with another toolkit or other settings, nDCG@10 is up to 27 points off."""

_STYLES = {"OK": "green", "close": "yellow", "FAIL": "bold red", None: "red"}
"""The colour of each verdict on a published value that was measured again."""

PUBLISHED_IS = "* published, not measured here (source: leaderboard.md)"


def baseline_cell(here: float | None, there: float | None = None, mark: str = "*") -> str:
    """Return a value: measured here where there is a run, else as published, with a mark, else a dash."""
    if here is not None:
        return f"{here:.4f}"
    return ABSENT if there is None else f"{there:.4f}{mark}"


def outcomes_table(outcomes: Sequence[Outcome]) -> Table:
    """Return a table with a row per data set and system, the best value of each data set bold."""
    shown = [name for name in MEASURES if any(name in outcome.result.measures for outcome in outcomes)]
    shown += [
        name
        for name in dict.fromkeys(name for outcome in outcomes for name in outcome.result.measures)
        if name not in MEASURES
    ]
    wide = width() >= _WIDE or len(shown) <= _FEW
    shown = shown if wide else shown[:_FEW]
    table = Table(
        title="Means over all judged queries, 95 % confidence interval of the first",
        caption=None if wide else "a wider terminal shows more, --json all",
    )
    for name in ("data set", "system"):
        table.add_column(name, overflow="fold")
    for name in (*(MEASURES.get(name, name) for name in shown), *(["ties@10"] if wide else []), "n"):
        table.add_column(name, justify="right", no_wrap=True)
    before = None
    for outcome in sorted(outcomes, key=lambda item: item.result.dataset):
        result = outcome.result
        if before not in (None, result.dataset):
            table.add_section()
        peers = [item.result.means for item in outcomes if item.result.dataset == result.dataset]
        cells = [
            _cell(
                result.measures.get(name), [means.get(name, -1.0) for means in peers], first=name == shown[0]
            )
            for name in shown
        ]
        name = plain(result.dataset) if before != result.dataset else ""
        ties = [f"{result.ties_at_10:.3f}"] if wide else []
        table.add_row(name, plain(result.system), *cells, *ties, f"{result.n_queries:,}")
        before = result.dataset
    return table


def _cell(value: Mean | None, peers: Sequence[float], *, first: bool) -> str:
    if value is None:
        return ABSENT
    text = f"{value['mean']:.4f}"
    if value["mean"] == max(peers) and len(peers) > 1:
        text = f"[bold]{text}[/]"
    return f"{text} ± {(value['high'] - value['low']) / 2:.3f}" if first else text


def findings_table(findings: "Sequence[Finding]") -> Table:
    """Return a row for each value, found beside published."""
    table = _table("Published values, measured again")
    table.add_column("found", justify="right")
    table.add_column("verdict")
    before = None
    for finding in findings:
        verdict = finding.verdict
        text = str(verdict or "not measured")
        if finding.found is not None and verdict != "OK":
            text += f" {finding.found - finding.expected.value:+.4f}"
        found = "–" if finding.found is None else f"{finding.found:.4f}"
        cells = _row(finding.cell, finding.expected, first=finding.cell is not before)
        table.add_row(*cells, found, f"[{_STYLES[verdict]}]{text}[/]")
        before = finding.cell
    return table


def list_table(cells: "Sequence[Cell]", states: Sequence[str]) -> Table:
    """Return a row for each value that could be measured, and what is missing for it."""
    table = _table("Published values that can be measured again")
    table.add_column("OK, close", justify="right")
    table.add_column("state")
    for cell, state in zip(cells, states, strict=True):
        for row, item in enumerate(cell.expected):
            within = "" if row else f"±{cell.tolerance.ok}, ±{cell.tolerance.close}"
            table.add_row(*_row(cell, item, first=not row), within, "" if row else state)
    return table


def _table(title: str) -> Table:
    table = Table(title=title)
    for name in ("system", "data set", "measure"):
        table.add_column(name, overflow="fold")
    table.add_column("published", justify="right")
    return table


def _row(cell: "Cell", expected: "Expected", *, first: bool) -> list[str]:
    """Return the first cells of a row; what the row above says of system and data set is not repeated."""
    dataset = f"{cell.dataset} ({cell.split})" if cell.split else cell.dataset
    names = [plain(cell.system), plain(dataset)] if first else ["", ""]
    return [*names, expected.measure, f"{expected.value:.4f}"]


def finding_objects(findings: "Sequence[Finding]") -> Iterator[dict[str, Any]]:
    """Yield what ``--json`` prints: one object for each value."""
    for finding in findings:
        yield {
            **_object(finding.cell, finding.expected),
            "found": finding.found,
            "verdict": finding.verdict,
            "problem": str(finding.error) if finding.error else None,
        }


def cell_objects(cells: "Sequence[Cell]", states: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield what ``--list --json`` prints: one object for each value."""
    for cell, state in zip(cells, states, strict=True):
        for item in cell.expected:
            yield {**_object(cell, item), "state": state}


def _object(cell: "Cell", expected: "Expected") -> dict[str, Any]:
    return {
        "system": cell.system,
        "dataset": cell.dataset,
        "split": cell.split,
        "measure": expected.measure,
        "published": expected.value,
        "tolerance": cell.tolerance._asdict(),
        "source": expected.source,
        "also_published": list(expected.disputed),
        "command": cell.command,
    }
