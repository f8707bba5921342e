"""``llara-eval leaderboard``: ``runs/`` → ``leaderboard.md``, and the check that both agree."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llara_eval.cli import options
from llara_eval.cli.console import say, show, styled, table

if TYPE_CHECKING:
    from llara_eval.evaluation.audit import Verdict


def leaderboard(
    data_dir: options.DataDir,
    runs_dir: options.RunsDir = Path("runs"),
    output: Annotated[Path, typer.Option(metavar="FILE", help="The file that is rendered.")] = Path(
        "leaderboard.md"
    ),
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Write nothing. Score the stored runs again whose judgements are at hand, render the file "
            "again, and exit with 5 if anything differs.",
        ),
    ] = False,
    download: Annotated[
        bool, typer.Option("--download", help="With --check: download judgements that are not at hand.")
    ] = False,
) -> None:
    """Render the leaderboard of stored results and published scores."""
    from llara_eval.core.errors import DataError, DriftError
    from llara_eval.core.files import write_text
    from llara_eval.datasets import contamination
    from llara_eval.evaluation.audit import audit
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
    verdicts = [audit(folder, result, data_dir) for folder, result in entries]
    _show(verdicts)
    problems = [
        f"{folder}: {problem}"
        for (folder, _), verdict in zip(entries, verdicts, strict=True)
        for problem in verdict.problems
    ]
    try:
        current = output.read_text(encoding="utf-8")
    except OSError:
        current = ""
    if current != text:
        problems.append(f"{output} is stale: `llara-eval leaderboard` renders it again")
    if problems:
        raise DriftError("\n".join(problems))
    say(f"{output} agrees with {runs_dir} and the published scores")
    scored = sum(verdict.scored for verdict in verdicts)
    if scored < len(entries):
        say(f"{scored} of {len(entries)} scored again; the judgements of the others are not at hand")


def _download(names: list[str], data_dir: Path) -> None:
    """Download data sets that are not at hand, and name those that cannot be downloaded."""
    from llara_eval.core.errors import DataError
    from llara_eval.datasets.load import locate

    for name in names:
        try:
            locate(name, data_dir=data_dir)
        except DataError as error:
            say(f"{name} is not downloaded: {error}")


def _show(verdicts: "list[Verdict]") -> None:
    rows = []
    for verdict in verdicts:
        state = styled("scored again" if verdict.scored else "judgements not at hand")
        if verdict.problems:
            state = styled("differs", "bold red")
        rows.append([verdict.dataset, verdict.system, state, "; ".join(verdict.problems)])
    show(table(["data set", "system", "stored run", "problem"], rows))
