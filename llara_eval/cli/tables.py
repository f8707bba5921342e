"""Tables of results, and of published values beside what was measured."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from llara_eval.cli.console import styled, table, width
from llara_eval.evaluation.evaluate import Outcome
from llara_eval.reports.markdown import MEASURES

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from llara_eval.evaluation.record import Mean
    from llara_eval.reports.reproduction import Cell, Expected, Finding

ABSENT = "–"

_WIDE = 110
"""The columns of a terminal that hold all usual measures."""

_FEW = 3
"""The number of measures that a narrower terminal shows."""

BM25_IS = "BM25: Lucene with k1=0.9, b=0.4 unless the heading names others"
"""Stands under a table with BM25: with another toolkit or other settings, nDCG@10 is up to 27 points off."""

PUBLISHED_IS = "* published, not measured here (source: leaderboard.md)"

_STYLES = {"OK": "green", "close": "yellow", "FAIL": "bold red", None: "red"}
"""The colour of each verdict on a published value that was measured again."""


def baseline_cell(measured: float | None, published: float | None = None, mark: str = "*") -> str:
    """Return a measured value, or a published one with a mark, or a dash."""
    if measured is not None:
        return f"{measured:.4f}"
    return ABSENT if published is None else f"{published:.4f}{mark}"


def outcomes_table(outcomes: Sequence[Outcome]) -> "Table":
    """Return a table with a row for each data set and system, the best value of each data set in bold."""
    present = dict.fromkeys(name for outcome in outcomes for name in outcome.result.measures)
    shown = [
        *(name for name in MEASURES if name in present),
        *(name for name in present if name not in MEASURES),
    ]
    wide = width() >= _WIDE or len(shown) <= _FEW
    shown = shown if wide else shown[:_FEW]
    rows: list[list[Any]] = []
    previous = None
    for result in sorted((outcome.result for outcome in outcomes), key=lambda result: result.dataset):
        begins = result.dataset != previous
        if begins and rows:
            rows.append([])
        previous = result.dataset
        peers = [item.result.means for item in outcomes if item.result.dataset == result.dataset]
        cells = [
            _cell(result.measures.get(name), [means.get(name, -1.0) for means in peers]) for name in shown
        ]
        first = result.measures.get(shown[0])
        if first is not None:
            cells[0].append(f" ± {(first['high'] - first['low']) / 2:.3f}")
        ties = [f"{result.ties_at_10:.3f}"] if wide else []
        rows.append([result.dataset if begins else "", result.system, *cells, *ties, result.n_queries])
    numbers = [*(MEASURES.get(name, name) for name in shown), *(["ties@10"] if wide else []), "n"]
    return table(
        ["data set", "system", *numbers],
        rows,
        numbers=numbers,
        unbroken=numbers,
        title="Means over all judged queries, 95 % confidence interval of the first",
        caption="\n".join([*([] if wide else ["a wider terminal shows more, --json all"]), *notes(outcomes)]),
    )


def notes(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the warnings of results, each once, for the caption of a table."""
    return list(dict.fromkeys(warning for outcome in outcomes for warning in outcome.result.warnings))


def _cell(value: "Mean | None", peers: Sequence[float]) -> "Text":
    if value is None:
        return styled(ABSENT)
    best = len(peers) > 1 and value["mean"] == max(peers)
    return styled(f"{value['mean']:.4f}", "bold" if best else "")


_COLUMNS = ("system", "data set", "measure", "published")


def findings_table(findings: "Sequence[Finding]") -> "Table":
    """Return a table with a row for each value, the measured one beside the published one."""
    rows = []
    previous = None
    for finding in findings:
        text = str(finding.verdict or "not measured")
        if finding.measured is not None and finding.verdict != "OK":
            text += f" {finding.measured - finding.expected.value:+.4f}"
        cells = _cells(finding.cell, finding.expected, first=finding.cell is not previous)
        rows.append([*cells, baseline_cell(finding.measured), styled(text, _STYLES[finding.verdict])])
        previous = finding.cell
    title = "Published values, measured again"
    return table([*_COLUMNS, "measured", "verdict"], rows, numbers=("published", "measured"), title=title)


def list_table(cells: "Sequence[Cell]", states: Sequence[str]) -> "Table":
    """Return a table with a row for each value that could be measured, and with what is missing for it."""
    rows = []
    for cell, state in zip(cells, states, strict=True):
        within = f"±{cell.tolerance.ok}, ±{cell.tolerance.close}"
        for number, expected in enumerate(cell.expected):
            last = ["", ""] if number else [within, state]
            rows.append([*_cells(cell, expected, first=not number), *last])
    title = "Published values that can be measured again"
    return table([*_COLUMNS, "OK, close", "state"], rows, numbers=("published", "OK, close"), title=title)


def _cells(cell: "Cell", expected: "Expected", *, first: bool) -> list[str]:
    """Return the first cells of a row; a system and a data set are named in their first row only."""
    dataset = f"{cell.dataset} ({cell.split})" if cell.split else cell.dataset
    names = [cell.system, dataset] if first else ["", ""]
    return [*names, expected.measure, f"{expected.value:.4f}"]


def finding_objects(findings: "Sequence[Finding]") -> Iterator[dict[str, Any]]:
    """Yield what ``--json`` prints: one object for each value."""
    for finding in findings:
        yield {
            **_object(finding.cell, finding.expected),
            "measured": finding.measured,
            "verdict": finding.verdict,
            "problem": str(finding.error) if finding.error else None,
        }


def cell_objects(cells: "Sequence[Cell]", states: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield what ``--list --json`` prints: one object for each value."""
    for cell, state in zip(cells, states, strict=True):
        for expected in cell.expected:
            yield {**_object(cell, expected), "state": state}


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
