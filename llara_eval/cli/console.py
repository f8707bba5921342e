"""What a command prints: results on stdout, messages and progress on stderr."""

import json
import logging
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import typer

from llara_eval.core.protocols import SILENT, Advance, Progress
from llara_eval.core.shown import shown

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def say(text: str, *, style: str | None = None) -> None:
    """Print a message on stderr; markup and control characters in it have no effect."""
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print(shown(text), style=style, markup=False)


def print_json(*values: Any) -> None:
    """Print each value on stdout as one line of JSON.

    Only ASCII characters are written: a path whose name is not UTF-8 could not be printed otherwise.
    """
    for value in values:
        typer.echo(json.dumps(value))


def show(table: "Table") -> None:
    """Print a table on stdout."""
    from rich.console import Console

    Console(highlight=False, width=width()).print(table)


def width() -> int:
    """Return how many columns a table may take: those of the terminal, or 160 if stdout is no terminal."""
    from rich.console import Console

    return Console().width if sys.stdout.isatty() else 160


def table(
    headings: Iterable[str],
    rows: Iterable[Sequence[Any]],
    *,
    numbers: Container[str] = (),
    unbroken: Container[str] = (),
    title: str = "",
    caption: str = "",
    **options: Any,
) -> "Table":
    """Return a table of plain text: markup and control characters in a name of data have no effect.

    Args:
        headings: The heading of each column.
        rows: The cells of each row, as :func:`styled` takes them. An empty row begins a new section.
        numbers: The headings of the columns that are aligned on the right.
        unbroken: The headings of the columns whose cells are never broken into lines.
        title: The line above the table.
        caption: The lines below the table.
        options: Further options of :class:`rich.table.Table`.
    """
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(title=escape(shown(title)), caption=escape(shown(caption)), **options)
    for heading in headings:
        whole = heading in unbroken
        justify: Literal["left", "right"] = "right" if heading in numbers else "left"
        overflow: Literal["fold", "ellipsis"] = "ellipsis" if whole else "fold"
        drawn.add_column(escape(shown(heading)), justify=justify, no_wrap=whole, overflow=overflow)
    for row in rows:
        if row:
            drawn.add_row(*map(styled, row))
        else:
            drawn.add_section()
    return drawn


def styled(cell: object, style: str = "") -> "Text":
    """Return the text of a cell, in a style of rich; a thousands separator stands in an integer."""
    from rich.text import Text

    if isinstance(cell, Text):
        return cell
    return Text.assemble((f"{cell:,}" if isinstance(cell, int) else shown(str(cell)), style))


class RichProgress:
    """Progress bars with the rate and the time left, on a terminal."""

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Advance]:
        """Show one bar while the block runs."""
        from rich import progress as rich
        from rich.console import Console

        columns = (
            rich.SpinnerColumn(),
            rich.TextColumn("{task.description}", markup=False),
            rich.BarColumn(),
            rich.MofNCompleteColumn(),
            rich.TextColumn("{task.fields[rate]}", markup=False),
            rich.TimeRemainingColumn(),
            rich.TextColumn("{task.fields[left]}"),
            rich.TextColumn("{task.fields[note]}", markup=False),
        )
        with rich.Progress(*columns, console=Console(stderr=True)) as bars:
            left = "" if total is None else "left"
            task = bars.add_task(shown(description), total=total, note="", rate="", left=left)
            bar = bars.tasks[0]
            tokens_done = 0

            def advance(n: int = 1, note: str = "", tokens: int = 0) -> None:
                nonlocal tokens_done
                tokens_done += tokens
                rate = _rate(bar.completed + n, tokens_done, bar.elapsed or 0.0)
                bars.update(task, advance=n, note=shown(note), rate=rate)

            yield advance


def _rate(units: float, tokens: int, seconds: float) -> str:
    """Return how many units, and tokens if there are any, were done in a second."""
    if seconds < 1:
        return ""
    rates = [f"{units / seconds:,.1f}/s"] + ([f"{tokens / seconds:,.0f} tokens/s"] if tokens else [])
    return ", ".join(rates)


def progress(*, quiet: bool) -> Progress:
    """Return progress bars if stderr is a terminal, and otherwise, or when quiet, silence."""
    return SILENT if quiet or not sys.stderr.isatty() else RichProgress()


class _Shown(logging.Formatter):
    """The lines of a log, in which control characters have no effect."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return shown(super().format(record))


def set_up(*, quiet: bool, verbose: bool = False) -> Progress:
    """Send the log lines of this program, and of no library, to stderr; return the progress bars."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Shown("%(message)s"))
    for name in ("llara_eval", "adapters"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    return progress(quiet=quiet)
