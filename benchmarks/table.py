"""Tables in Markdown."""

from collections.abc import Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """A table.

    Attributes:
        title: The heading.
        text: The text between the heading and the table.
        columns: Names of the columns.
        rows: The cells of each row.
    """

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]

    def __str__(self) -> str:
        """Return the table as Markdown."""
        rows = [self.columns, ["---"] * len(self.columns), *self.rows]
        table = "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)
        return "\n\n".join([f"### {self.title}", self.text, table])
