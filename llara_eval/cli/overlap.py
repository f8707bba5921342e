"""``llara-eval overlap``: training files × data sets → which test texts were trained on."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from llara_eval.cli import options
from llara_eval.cli.console import print_json, set_up, show, table
from llara_eval.core.errors import DriftError

if TYPE_CHECKING:
    from rich.table import Table

    from llara_eval.datasets.contamination import Finding
    from llara_eval.datasets.overlap import Report

_EXAMPLES = 3
"""The number of matches that are shown of each role; the file of --output holds all."""

ROLES = {
    "query": "queries",
    "relevant": "relevant documents",
    "judged": "other judged documents",
    "other": "other documents",
}
"""The roles of test texts, as the table names them."""

Train = Annotated[
    list[Path],
    typer.Option(
        metavar="FILE",
        help="A training file: rows of finetune or of adapt, or texts, as JSON Lines or Parquet; repeatable.",
        exists=True,
        dir_okay=False,
    ),
]
Documents = Annotated[
    Literal["judged", "all"], typer.Option(help="The documents that are looked for: the judged ones, or all.")
]
Output = Annotated[Path | None, typer.Option(metavar="FILE", help="Write every match to this .json file.")]
RunsDir = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Keep the counts in this folder of results: the leaderboard then marks systems that declare "
        "these training files.",
    ),
]
FailOver = Annotated[
    float | None,
    typer.Option(
        help="Exit with 5 if more than this share of queries or of relevant documents was trained on.",
        min=0,
        max=1,
    ),
]


def overlap(
    train: Train,
    dataset: options.Datasets,
    data_dir: options.DataDir,
    split: options.Split = None,
    documents: Documents = "judged",
    output: Output = None,
    runs_dir: RunsDir = None,
    fail_over: FailOver = None,
    offline: options.Offline = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find test queries and documents in training data.

    Found are exact copies, near-duplicates, and 13 words in a row.

    With --json, the counts of each data set and training file are one line on stdout.
    """
    progress = set_up(quiet=quiet)
    from llara_eval.core.decode import read_record
    from llara_eval.core.files import refuse_inputs, write_json
    from llara_eval.core.own_files import require_own
    from llara_eval.datasets import contamination
    from llara_eval.datasets.known import expand
    from llara_eval.datasets.load import load
    from llara_eval.datasets.overlap import Written, compare, items
    from llara_eval.datasets.same_text import Index

    if output is not None:
        refuse_inputs(output, train)
        require_own(output, lambda path: read_record(path, list[Written]), "overlap")
    reports = []
    for name in (member for group in dataset for member in expand(group)):
        loaded = load(name, data_dir=data_dir, split=split, offline=offline, progress=progress)
        index = Index(items(loaded, documents, progress))
        for path in train:
            report = compare(path, loaded, index, progress)
            reports.append(report)
            if runs_dir is not None:
                contamination.keep(runs_dir, report.finding)
            if as_json:
                print_json(asdict(report.finding))
            else:
                show(_counts_table(report.finding))
                if report.matches:
                    show(_examples_table(report))
    if output is not None:
        objects = [
            {**asdict(report.finding), "matches": [match._asdict() for match in report.matches]}
            for report in reports
        ]
        write_json(output, objects)
    if fail_over is not None:
        over = [
            f"{share:.1%} of {report.finding.dataset} in {report.finding.file}"
            for report in reports
            if (share := max(map(report.finding.share, ("query", "relevant")))) > fail_over
        ]
        if over:
            raise DriftError(f"more test texts were trained on than --fail-over allows: {', '.join(over)}")


def _counts_table(finding: "Finding") -> "Table":
    """Return a table with the number of test texts of each role that were trained on."""
    from llara_eval.datasets.contamination import ANY
    from llara_eval.datasets.same_text import STRENGTH, Kind

    kinds = sorted(Kind, key=STRENGTH.__getitem__, reverse=True)
    numbers = [*kinds, "seen", "share"]
    rows: list[list[str]] = []
    for role, title in ROLES.items():
        if role not in finding.tested:
            continue
        seen = finding.seen.get(role, {})
        for trained_as in (ANY, *finding.texts):
            counts = seen.get(trained_as, {})
            if counts or trained_as == ANY:
                total = sum(counts.values())
                cells = [f"{counts.get(kind, 0):,}" for kind in kinds]
                name = f"{finding.tested[role]:,} {title}" if trained_as == ANY else ""
                share = f"{total / finding.tested[role]:.1%}"
                rows.append([name, trained_as, *cells, f"{total:,}", share])
        rows.append([])
    texts = ", ".join(f"{count:,} {role}" for role, count in finding.texts.items())
    return table(
        ["test texts", "trained on as", *numbers],
        rows,
        numbers=numbers,
        title=f"{finding.dataset} in {finding.file} ({texts})",
        caption="strongest match of each text; near: Jaccard index ≥ 0.8 of word pairs",
    )


def _examples_table(report: "Report") -> "Table":
    """Return a table of the strongest matches of each role."""
    from llara_eval.datasets.overlap import strength

    rows = []
    for role in report.finding.seen:
        matches = [match for match in report.matches if match.role == role]
        for match in sorted(matches, key=strength, reverse=True)[:_EXAMPLES]:
            kind = f"{match.kind} {match.score:.2f}"
            rows.append([f"{role} {match.id}", kind, match.trained_as, match.line])
    headings = ["test text", "match", "trained as", "line"]
    return table(headings, rows, numbers=["line"], title="examples of the strongest")
