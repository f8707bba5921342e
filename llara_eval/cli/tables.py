"""Rich tables of results."""

from collections.abc import Sequence

from rich.table import Table

from llara_eval.cli.console import plain, width
from llara_eval.evaluation.evaluate import Outcome
from llara_eval.evaluation.record import Mean
from llara_eval.reports.leaderboard import MEASURES

ABSENT = "–"

_WIDE, _FEW = 110, 3
"""Columns of a terminal that hold all usual measures; and how many measures stand in a narrower one."""

BM25_IS = "BM25: Lucene, k1=0.9, b=0.4 unless it says otherwise"
"""Stands under a table with BM25: with another toolkit or other settings, nDCG@10 is up to 27 points off."""

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
