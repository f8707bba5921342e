"""Markdown: text without markup, tables, and cells that both measured and published tables have."""

import re
from collections.abc import Sequence

from llara_eval.core.shown import shown
from llara_eval.reports.averages import Mean

MEASURES = {
    "nDCG@10": "nDCG@10",
    "RR@10": "MRR@10",
    "RR@100": "MRR@100",
    "R@2": "R@2",
    "R@100": "R@100",
    "R_cap@100": "R_cap@100",
    "R@1000": "R@1000",
}
"""Measures of the leaderboard in their order → the names that the field uses."""

ABSENT = "–"
"""The cell of a value that does not exist."""


def mean_cell(average: Mean | None) -> str:
    """Return a mean over all members of a group, or a published mean (†): never a mean over a part."""
    if average is None:
        return ABSENT
    return f"{average.value:.3f} †" if average.bare else f"{average.value:.4f}"


def escaped(text: str) -> str:
    """Return a text from data as it is shown: nothing in it is markup, a link, or a control character.

    GitHub makes links of ``http://…`` and ``www.…`` too, and formulas of what is between dollar signs.
    """
    text = re.sub(r"[\\|<>*_\[\]`~$&]|:(?=//)|(?<=www)\.", r"\\\g<0>", shown(text), flags=re.IGNORECASE)
    return " ".join(text.split())


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return a Markdown table whose first ``left`` columns are left-aligned."""
    rule = ["---" if column < left else "---:" for column in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])
