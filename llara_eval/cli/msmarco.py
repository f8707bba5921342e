"""``llara-eval msmarco``: a system on MS MARCO and TREC Deep Learning, beside the usual baselines."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from llara_eval.cli import options
from llara_eval.cli.console import styled, table
from llara_eval.cli.evaluation import Evaluation
from llara_eval.core.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from llara_eval.datasets.known import KnownDataset
    from llara_eval.evaluation.evaluate import Outcome

Task = Literal[
    "passage", "document", "trec-dl-2019", "trec-dl-2020", "trec-dl-2019-document", "trec-dl-2020-document"
]


def msmarco(
    context: typer.Context,
    model: options.System,
    task: Annotated[
        Task,
        typer.Option(
            "--task",
            "-t",
            metavar="TASK",
            help="The queries and what they search: passage or document (the dev queries), trec-dl-2019 or "
            "trec-dl-2020 (passages), trec-dl-2019-document or trec-dl-2020-document.",
        ),
    ],
    titled: Annotated[
        bool,
        typer.Option(
            "--titled", help="Search passages with titles, which are another data set than the official one."
        ),
    ] = False,
    documents: options.DocumentReading = "firstp",
    *,
    evaluation: Evaluation,
) -> None:
    """Evaluate a system on MS MARCO or TREC DL, beside baselines.

    The baselines are BM25, RepLLaMA and LLaRA: measured where there is a run of them, else published.

    The official files are looked for in msmarco-passage/ and msmarco-document/ in the folder of --data-dir.
    """
    maxp = documents == "maxp"
    dataset = _chosen(task, titled=titled, maxp=maxp)
    outcomes, failures = evaluation.run(context, [model], [dataset.name], maxp=maxp)
    evaluation.report(
        outcomes, failures, lambda outcomes: _comparison(outcomes[0], dataset, evaluation.runs_dir)
    )


def _chosen(task: Task, *, titled: bool, maxp: bool) -> "KnownDataset":
    """Return the data set of a task.

    Raises:
        UsageError: Titles are wanted for documents, or passages of passages.
    """
    from llara_eval.datasets.known import KNOWN

    searched = "document" if task.endswith("document") else "passage"
    split = task.removesuffix("-document") if task.startswith("trec") else "dev"
    dataset = KNOWN[f"msmarco-{searched}/{split}"]
    if maxp and not dataset.is_documents:
        raise UsageError(f"--documents maxp is for documents; --task {task} searches passages")
    if not titled:
        return dataset
    if dataset.titled is None:
        raise UsageError(f"--titled is for passages; the documents of --task {task} have titles")
    return KNOWN[dataset.titled]


def _comparison(outcome: "Outcome", dataset: "KnownDataset", runs_dir: Path) -> "Table":
    """Return all measures of a system beside the baselines: measured where there is a run, else published."""
    from llara_eval.cli.tables import BM25_IS, PUBLISHED_IS, baseline_cell, notes
    from llara_eval.evaluation.record import on_same_data
    from llara_eval.reports import averages, published
    from llara_eval.reports.markdown import MEASURES

    result = outcome.result
    tuned, settings = (
        (published.BM25_TUNED_DOCUMENT, "k1=3.44,b=0.87")
        if dataset.is_documents
        else (published.BM25_TUNED_PASSAGE, "k1=0.82,b=0.68")
    )
    baselines = [
        ("BM25 flat", "bm25", published.BM25),
        (f"BM25 flat {settings}", f"bm25,{settings}", tuned),
        ("RepLLaMA-7B", "", published.REPLLAMA),
        ("LLaRA-7B (v1)", "", published.LLARA),
    ]
    baselines = [baseline for baseline in baselines if baseline[1] != result.system]
    stored = on_same_data(runs_dir, [result])
    rows, shown = [], ""
    for measure, mean in result.means.items():
        measured = averages.measured(stored, measure)
        cells = [
            baseline_cell(
                measured.get(ours, {}).get(result.dataset), *_published(theirs, result.dataset, measure)
            )
            for _, ours, theirs in baselines
        ]
        shown += "".join(cells)
        rows.append([MEASURES.get(measure, measure), styled(f"{mean:.4f}", "bold"), *cells])
    legend = {"*": PUBLISHED_IS, "§": "§ on passages with titles"}
    systems = [result.system, *(title for title, _, _ in baselines)]
    return table(
        ["measure", *systems],
        rows,
        numbers=systems,
        title=f"{result.dataset}, n = {result.n_queries:,}",
        caption="\n".join(
            [BM25_IS, *(text for mark, text in legend.items() if mark in shown), *notes([outcome])]
        ),
    )


def _published(system: str, dataset: str, measure: str) -> tuple[float | None, str]:
    """Return a published value and its marks; without titles there may be one with titles, marked as such."""
    from llara_eval.datasets.known import titled
    from llara_eval.reports import published

    for name, mark in ((dataset, "*"), (titled(dataset), "*§")):
        if score := published.find(system, name, measure):
            return score.value, mark
    return None, ""
