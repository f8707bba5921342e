"""The table of checkpoints that are read as their authors mean, in ``docs/checkpoints.md``.

``python tests/support/checkpoint_page.py`` writes the table into the page again after a kind was added.
"""

from pathlib import Path

from checkpoint_kinds import all_kinds

PAGE = Path(__file__).parents[2] / "docs" / "checkpoints.md"

HEADING = "| checkpoint | how it is known | cosine |\n|---|---|---|\n"


def table() -> str:
    """Return the table: one row a kind."""
    return HEADING + "".join(f"| {kind.name} | {kind.known} | {kind.outcome} |\n" for kind in all_kinds())


def page() -> str:
    """Return the page with the table as it should be."""
    before, _, after = PAGE.read_text(encoding="utf-8").partition(HEADING)
    return before + table() + after[after.index("\n\n") + 1 :]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
