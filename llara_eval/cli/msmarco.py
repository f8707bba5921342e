"""``llara-eval msmarco``: a checkpoint on MS MARCO and TREC Deep Learning, beside the usual baselines."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llara_eval.cli import options
from llara_eval.cli.console import plain
from llara_eval.cli.evaluation import Evaluation
from llara_eval.core.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from llara_eval.datasets.known import KnownDataset
    from llara_eval.evaluation.evaluate import Outcome


class Task(StrEnum):
    """What is searched, and for which queries."""

    PASSAGE = "passage"
    DOCUMENT = "document"
    TREC_2019 = "trec-dl-2019"
    TREC_2020 = "trec-dl-2020"
    TREC_2019_DOCUMENT = "trec-dl-2019-document"
    TREC_2020_DOCUMENT = "trec-dl-2020-document"


_DATASETS = {
    Task.PASSAGE: "msmarco-passage/dev",
    Task.DOCUMENT: "msmarco-document/dev",
    Task.TREC_2019: "msmarco-passage/trec-dl-2019",
    Task.TREC_2020: "msmarco-passage/trec-dl-2020",
    Task.TREC_2019_DOCUMENT: "msmarco-document/trec-dl-2019",
    Task.TREC_2020_DOCUMENT: "msmarco-document/trec-dl-2020",
}


class Reading(StrEnum):
    """How a document reaches the system."""

    FIRSTP = "firstp"
    MAXP = "maxp"


@options.grouped
def msmarco(
    model: Annotated[
        str, typer.Option("--model", "-m", help="A checkpoint folder, a system's name or a hub name.")
    ],
    task: Annotated[
        Task, typer.Option("--task", "-t", help="Dev queries on passages or documents, or those of TREC.")
    ],
    titled: Annotated[
        bool, typer.Option("--titled", help="Passages with titles: another data set than the official one.")
    ] = False,
    documents: Annotated[
        Reading,
        typer.Option("--documents", help="Read documents as one long text, or by their best passages."),
    ] = Reading.FIRSTP,
    *,
    evaluation: Evaluation,
) -> None:
    """Evaluate a checkpoint on MS MARCO or TREC Deep Learning and compare it with BM25, RepLLaMA and LLaRA.

    The official files are looked for in msmarco-passage/ and msmarco-document/ of the data folder.
    """
    maxp = documents is Reading.MAXP
    known = _chosen(task, titled=titled, maxp=maxp)
    outcomes, failures = evaluation.run([model], [known.name], maxp=maxp)
    evaluation.report(outcomes, failures, lambda rows: _comparison(rows[0], known, evaluation.runs_dir))


def _chosen(task: Task, *, titled: bool, maxp: bool) -> "KnownDataset":
    """Return the data set of a task.

    Raises:
        UsageError: Titles are asked of documents, or passages of passages.
    """
    from llara_eval.datasets.known import KNOWN

    known = KNOWN[_DATASETS[task]]
    if maxp and not known.is_documents:
        raise UsageError(f"--documents maxp is of documents; --task {task} searches passages")
    if not titled:
        return known
    if known.titled is None:
        raise UsageError(f"--titled is of passages; the documents of --task {task} have titles")
    return KNOWN[known.titled]


def _comparison(outcome: "Outcome", known: "KnownDataset", runs_dir: Path) -> "Table":
    """Return all measures of a system beside the baselines: measured where there is a run, else published."""
    from rich.table import Table

    from llara_eval.cli.tables import BM25_IS, PUBLISHED_IS, baseline_cell
    from llara_eval.evaluation.record import beside
    from llara_eval.reports import averages, published
    from llara_eval.reports.leaderboard import MEASURES

    result = outcome.result
    tuned, settings = (
        (published.BM25_TUNED_DOCUMENT, "k1=3.44,b=0.87")
        if known.is_documents
        else (published.BM25_TUNED_PASSAGE, "k1=0.82,b=0.68")
    )
    baselines = {
        "BM25 flat": ("bm25", published.BM25),
        f"BM25 flat {settings}": (f"bm25,{settings}", tuned),
        "RepLLaMA-7B": ("", published.REPLLAMA),
        "LLaRA-7B": ("", published.LLARA),
    }
    others = {title: names for title, names in baselines.items() if names[0] != result.system}
    stored = beside(runs_dir, [result])
    table = Table("measure", title=f"{plain(result.dataset)}, n = {result.n_queries:,}")
    for title in (plain(result.system), *others):
        table.add_column(title, justify="right", overflow="fold")
    legend = {"*": PUBLISHED_IS, "§": "§ on passages with titles"}
    shown = ""
    for measure, mean in result.means.items():
        cells, measured = [], averages.measured(stored, measure)
        for own, theirs in others.values():
            here = measured.get(own, {}).get(result.dataset)
            cells.append(baseline_cell(here, *_published(theirs, result.dataset, measure)))
        shown += "".join(cells)
        table.add_row(MEASURES.get(measure, measure), f"[bold]{mean:.4f}[/]", *cells)
    table.caption = "\n".join([BM25_IS, *(text for mark, text in legend.items() if mark in shown)])
    return table


def _published(system: str, dataset: str, measure: str) -> tuple[float | None, str]:
    """Return a published value and its marks; without titles there may be one with titles, marked as such."""
    from llara_eval.datasets.known import titled
    from llara_eval.reports import published

    for name, mark in ((dataset, "*"), (titled(dataset), "*§")):
        if row := published.find(system, name, measure):
            return row.value, mark
    return None, ""
