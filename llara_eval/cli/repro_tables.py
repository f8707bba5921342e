"""What ``llara-eval repro`` shows: published values, beside what was found or what is missing."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from llara_eval.cli.console import plain

if TYPE_CHECKING:
    from llara_eval.reports.reproduction import Cell, Expected, Finding

_STYLES = {"OK": "green", "close": "yellow", "FAIL": "bold red", None: "red"}


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
