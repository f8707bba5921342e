"""Records as tables: a pandas data frame, or escaped HTML for a notebook."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from llara_eval.core.errors import DataError

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
        rows, caption = self.rows(), self.caption()
        names = column_names(rows)
        body = "".join(_html_row("td", [row.get(name) for name in names]) for row in rows[:SHOWN])
        hidden = len(rows) - SHOWN
        more = f"<p>… {hidden:,} more rows; to_frame() has all of them</p>" if hidden > 0 else ""
        head = f"<caption>{escape(caption)}</caption>" if caption else ""
        head += f"<thead>{_html_row('th', names)}</thead>"
        return f"<table>{head}<tbody>{body}</tbody></table>{more}"


def column_names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the columns that occur in any row, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _html_row(tag: str, values: Iterable[Any]) -> str:
    return f"<tr>{''.join(_html_cell(tag, value) for value in values)}</tr>"


def _html_cell(tag: str, value: Any) -> str:
    align = "left" if isinstance(value, str) else "right"
    text = "–" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
    return f'<{tag} style="text-align:{align};padding:2px 10px">{escape(text)}</{tag}>'


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
