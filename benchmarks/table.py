"""Tables in Markdown."""

from collections.abc import Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """A table.

    Attributes:
        title: Its heading.
        text: What stands before it.
        columns: Names of the columns.
        rows: Cells.
    """

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]

    def __str__(self) -> str:
        """Return it as Markdown."""
        rows = [self.columns, ["---"] * len(self.columns), *self.rows]
        table = "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)
        return "\n\n".join([f"### {self.title}", self.text, table])
