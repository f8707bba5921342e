"""Records as tables: a pandas data frame, or escaped HTML for a notebook."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from llara_eval.core.errors import DataError
from llara_eval.core.shown import shown

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 60
"""The most rows that a notebook shows; a data frame has all rows."""


class Tabular:
    """A record that is also a table; a subclass defines the rows, and perhaps a caption."""

    __slots__ = ()

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """Return the rows; each maps names of columns to values."""
        raise NotImplementedError

    def caption(self) -> str:
        """Return the line above the table in a notebook; it may be empty."""
        return ""

    def to_frame(self) -> "pd.DataFrame":
        """Return the rows as a pandas data frame."""
        import pandas as pd

        rows = self.rows()
        return pd.DataFrame(list(rows), columns=column_names(rows))

    def _repr_html_(self) -> str:
        """Return the table as HTML, in which every text from data is escaped."""
        import pandas as pd

        rows = self.rows()
        frame = pd.DataFrame(list(rows[:SHOWN]), columns=column_names(rows), dtype=object)
        frame = frame.map(lambda cell: shown(cell) if isinstance(cell, str) else cell)
        with pd.option_context("display.max_colwidth", None):
            table = frame.where(frame.notna(), "–").to_html(index=False, float_format="{:.4f}".format)
        hidden = len(rows) - SHOWN
        more = f"<p>… {hidden:,} more rows; to_frame() has all of them</p>" if hidden > 0 else ""
        return f"<p>{escape(shown(self.caption()))}</p>{table}{more}"


def column_names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the columns that occur in any row, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def is_frame(value: Any) -> bool:
    """Return whether a value is a data frame of pandas or polars, without an import of either library."""
    return hasattr(value, "columns") and hasattr(value, "__getitem__") and not isinstance(value, Mapping)


def frame_column(origin: str, frame: Any, names: Sequence[str]) -> str:
    """Return the first of several column names that a pandas or polars data frame has.

    Raises:
        DataError: The frame has none of these columns; the message begins with ``origin``.
    """
    for name in names:
        if name in frame.columns:
            return name
    columns = ", ".join(map(str, frame.columns)) or "none"
    raise DataError(f"{origin}: expected a column {' or '.join(names)}; its columns: {columns}")
