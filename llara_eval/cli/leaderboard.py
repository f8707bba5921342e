"""``llara-eval leaderboard``: ``runs/`` → ``leaderboard.md``, and the check that both hold."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llara_eval.cli import options
from llara_eval.cli.console import plain, say, show

if TYPE_CHECKING:
    from llara_eval.evaluation.record import Result


def leaderboard(
    data_dir: options.DataDir,
    runs_dir: options.RunsDir = Path("runs"),
    output: Annotated[Path, typer.Option("--output", help="The file that is rendered.")] = Path(
        "leaderboard.md"
    ),
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Write nothing: score stored runs again whose judgements are at hand, render again, exit 5 "
            "on drift.",
        ),
    ] = False,
    download: Annotated[
        bool, typer.Option("--download", help="With --check: download judgements that are not at hand.")
    ] = False,
) -> None:
    """Render the leaderboard from the stored results and the published scores."""
    from llara_eval.core.errors import DataError, DriftError
    from llara_eval.core.files import write_text
    from llara_eval.datasets import contamination
    from llara_eval.evaluation.record import walk
    from llara_eval.reports import published
    from llara_eval.reports.leaderboard import render

    if not runs_dir.is_dir():
        raise DataError(f"{runs_dir}: no such folder; `llara-eval evaluate` makes results")
    entries = list(walk(runs_dir))
    text = render(entries, published.load(), output, contamination.walk(runs_dir))
    if not check:
        write_text(output, text)
        say(f"{output}: {len(entries)} results of {len({result.system for _, result in entries})} systems")
        return
    if download:
        _download(list(dict.fromkeys(result.dataset for _, result in entries)), data_dir)
    scored, problems = _audit(entries, data_dir)
    try:
        current = output.read_text(encoding="utf-8")
    except OSError:
        current = ""
    if current != text:
        problems.append(f"{output} is stale: `llara-eval leaderboard` renders it again")
    if problems:
        raise DriftError("\n".join(problems))
    say(f"{output} is what {runs_dir} and the published scores say")
    if scored < len(entries):
        say(f"{scored} of {len(entries)} scored again; the judgements of the others are not at hand")


def _download(names: list[str], data_dir: Path) -> None:
    """Download data sets that are not at hand; say which cannot be."""
    from llara_eval.core.errors import DataError
    from llara_eval.datasets.load import locate

    for name in names:
        try:
            locate(name, data_dir=data_dir)
        except DataError as error:
            say(f"{name} is not downloaded: {error}")


def _audit(entries: "list[tuple[Path, Result]]", data_dir: Path) -> tuple[int, list[str]]:
    """Audit all results and show the verdicts.

    Returns:
        How many runs were scored again, and the problems.
    """
    from rich.table import Table

    from llara_eval.evaluation.audit import audit

    table = Table("data set", "system", "stored run", "problem")
    scored, problems = 0, []
    for folder, result in entries:
        verdict = audit(folder, result, data_dir)
        scored += verdict.scored
        state = "scored again" if verdict.scored else "judgements not at hand"
        if verdict.problems:
            state = "[bold red]differs[/]"
        problems += [f"{folder}: {problem}" for problem in verdict.problems]
        table.add_row(
            plain(verdict.dataset), plain(verdict.system), state, plain("; ".join(verdict.problems))
        )
    show(table)
    return scored, problems
