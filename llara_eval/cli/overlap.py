"""``llara-eval overlap``: training files × data sets → which test texts were trained on."""

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llara_eval.cli import options
from llara_eval.cli.console import plain, progress, set_up_logging, show
from llara_eval.core.errors import DriftError

if TYPE_CHECKING:
    from llara_eval.datasets.contamination import Finding
    from llara_eval.datasets.overlap import Report

_EXAMPLES = 3
"""Matches shown of each role; --output has all."""

ROLES = {
    "query": "queries",
    "relevant": "relevant documents",
    "judged": "other judged documents",
    "other": "other documents",
}
"""Roles of test texts, as people are told of them."""


class Documents(StrEnum):
    """Which documents are looked for."""

    JUDGED = "judged"
    ALL = "all"


Train = Annotated[
    list[Path],
    typer.Option(
        "--train",
        help="JSONL of query, pos and neg, of adaptation rows or of text; .gz or not; repeatable.",
        exists=True,
        dir_okay=False,
    ),
]
Wanted = Annotated[Documents, typer.Option("--documents", help="Look for judged documents, or for all.")]
Output = Annotated[Path | None, typer.Option("--output", help="Write every match to this .json file.")]
Keep = Annotated[
    Path | None,
    typer.Option(
        "--runs-dir",
        help="Keep the counts there: the leaderboard marks systems that declare these training files.",
    ),
]
FailOver = Annotated[
    float | None,
    typer.Option(
        "--fail-over",
        help="Exit 5 if more than this share of queries or relevant documents was seen.",
        min=0,
        max=1,
    ),
]


def overlap(
    train: Train,
    dataset: options.Datasets,
    data_dir: options.DataDir,
    split: options.Split = None,
    documents: Wanted = Documents.JUDGED,
    output: Output = None,
    runs_dir: Keep = None,
    fail_over: FailOver = None,
    offline: options.Offline = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find test queries and documents in training data: exact copies, near-duplicates, 13 words in a row.

    With --json, one object per data set and training file is printed on stdout, a line each.
    """
    set_up_logging(quiet=quiet, verbose=False)
    from llara_eval.core.files import refuse_inputs, write_json
    from llara_eval.datasets import contamination
    from llara_eval.datasets.known import expand
    from llara_eval.datasets.load import load
    from llara_eval.datasets.overlap import compare, items
    from llara_eval.datasets.same_text import Index

    if output is not None:
        refuse_inputs(output, train)
    watch = progress(quiet=quiet)
    reports = []
    for name in (part for given in dataset for part in expand(given)):
        loaded = load(name, data_dir=data_dir, split=split, offline=offline, progress=watch)
        index = Index(items(loaded, documents.value, watch))
        for path in train:
            report = compare(path, loaded, index, watch)
            reports.append(report)
            if runs_dir is not None:
                contamination.keep(runs_dir, report.finding)
            if as_json:
                typer.echo(json.dumps(asdict(report.finding), ensure_ascii=False))
            else:
                _show(report)
    if output is not None:
        write_json(output, [_as_object(report) for report in reports])
    over = [
        report.finding for report in reports if fail_over is not None and _seen(report.finding) > fail_over
    ]
    if over:
        named = ", ".join(f"{_seen(item):.1%} of {item.dataset} in {item.file}" for item in over)
        raise DriftError(f"more test texts were trained on than --fail-over allows: {named}")


def _seen(finding: "Finding") -> float:
    return max(finding.share("query"), finding.share("relevant"))


def _as_object(report: "Report") -> dict[str, Any]:
    return {**asdict(report.finding), "matches": [match._asdict() for match in report.matches]}


def _show(report: "Report") -> None:
    """Show a table of counts, and a few matches of each role."""
    from rich.table import Table

    from llara_eval.datasets.contamination import ANY
    from llara_eval.datasets.same_text import STRENGTH, Kind

    finding = report.finding
    texts = ", ".join(f"{count:,} {role}" for role, count in finding.texts.items())
    table = Table(
        *("test texts", "trained on as"),
        title=f"{plain(finding.dataset)} in {plain(finding.file)} ({texts})",
        caption="strongest match of each text; near: Jaccard index ≥ 0.8 of word pairs",
    )
    kinds = sorted(Kind, key=STRENGTH.__getitem__, reverse=True)
    for title in (*kinds, "seen", "share"):
        table.add_column(title, justify="right")
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
                table.add_row(name, trained_as, *cells, f"{total:,}", f"{total / finding.tested[role]:.1%}")
        table.add_section()
    show(table)
    if report.matches:
        _show_examples(report)


def _show_examples(report: "Report") -> None:
    """Show the strongest matches of each role."""
    from rich.table import Table

    from llara_eval.datasets.overlap import strength

    table = Table("test text", "match", "trained as", title="the strongest, for example")
    table.add_column("line", justify="right")
    for role in report.finding.seen:
        matches = [match for match in report.matches if match.role == role]
        for match in sorted(matches, key=strength, reverse=True)[:_EXAMPLES]:
            how = f"{match.kind} {match.score:.2f}"
            table.add_row(plain(f"{role} {match.id}"), how, match.trained_as, f"{match.line:,}")
    show(table)
