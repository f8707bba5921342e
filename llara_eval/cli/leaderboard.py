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
    from llara_eval.core.errors import DataError, DriftError, PartialResultsError
    from llara_eval.core.files import write_text
    from llara_eval.core.own_files import require_own
    from llara_eval.datasets import contamination
    from llara_eval.evaluation.audit import audit
    from llara_eval.evaluation.record import read_all
    from llara_eval.reports import published
    from llara_eval.reports.leaderboard import consistent, is_leaderboard, render

    if not runs_dir.is_dir():
        raise DataError(f"{runs_dir}: no such folder; `llara-eval evaluate` makes results")
    if not check:
        require_own(output, is_leaderboard, "leaderboard")
    stored, damaged = read_all(runs_dir)
    findings, damaged_findings = contamination.read_all(runs_dir)
    results, mixtures = consistent(stored)
    left_out = [*map(str, damaged.values()), *map(str, damaged_findings), *mixtures]
    text = render(results.items(), published.load(), output, findings)
    if not check:
        write_text(output, text)
        systems = {result.system for result in results.values()}
        say(f"{output}: {len(results)} results of {len(systems)} systems")
        if left_out:
            raise PartialResultsError(_left_out(left_out))
        return
    if download:
        _download(list(dict.fromkeys(result.dataset for result in stored.values())), data_dir)
    verdicts = [audit(folder, result, data_dir) for folder, result in stored.items()]
    _show(verdicts)
    problems = [
        f"{folder}: {problem}"
        for folder, verdict in zip(stored, verdicts, strict=True)
        for problem in verdict.problems
    ]
    try:
        current = output.read_bytes()
    except OSError:
        current = b""
    if current != text.encode():
        problems.append(f"{output} is stale: `llara-eval leaderboard` renders it again")
    if problems:
        raise DriftError("\n".join([*problems, *([_left_out(left_out)] if left_out else [])]))
    if left_out:
        raise PartialResultsError(_left_out(left_out))
    say(f"{output} agrees with {runs_dir} and the published scores")
    scored = sum(verdict.scored for verdict in verdicts)
    if scored < len(stored):
        say(f"{scored} of {len(stored)} scored again; the judgements of the others are not at hand")


def _left_out(problems: list[str]) -> str:
    """Return the message about results and findings that are not part of the leaderboard."""
    return "\n".join(["left out, since it cannot be used:", *problems])


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
