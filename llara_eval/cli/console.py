"""Talking to people: messages and progress on stderr, results on stdout."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llara_eval.core.protocols import SILENT, Advance, Progress


def say(text: str, *, style: str | None = None) -> None:
    """Print a line for the person, on stderr; nothing in it is read as markup."""
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print(text, style=style, markup=False)


def show(renderable: Any) -> None:
    """Print a result for the person, on stdout; strings in tables are markup: see :func:`plain`."""
    from rich.console import Console

    Console(highlight=False, width=width()).print(renderable)


def width() -> int:
    """Return how many columns a result may take: those of the terminal, 160 elsewhere."""
    from rich.console import Console

    return Console().width if sys.stdout.isatty() else 160


def plain(text: str) -> str:
    """Return text from data as it must stand in a table to be shown as it is."""
    from rich.markup import escape

    return escape(text)


class RichProgress:
    """Progress bars with rate and time left, on a terminal."""

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Advance]:
        """Show one bar while the block runs."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bars

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Bars(*columns, console=Console(stderr=True)) as bars:
            task = bars.add_task(description, total=total, note="")

            def advance(n: int = 1, note: str = "") -> None:
                bars.update(task, advance=n, note=note)

            yield advance


def progress(*, quiet: bool) -> Progress:
    """Return bars on a terminal, nothing elsewhere or when quiet."""
    return SILENT if quiet or not sys.stderr.isatty() else RichProgress()


def set_up_logging(*, quiet: bool, verbose: bool) -> None:
    """Let our own log lines through to stderr, and keep the libraries' chatter away."""
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    for name in ("llara_eval", "adapters"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
