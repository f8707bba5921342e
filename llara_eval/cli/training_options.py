"""What ``adapt`` and ``finetune`` have in common: their options, and how a plan is shown."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llara_eval.cli import options
from llara_eval.cli.console import show
from llara_eval.core.errors import UsageError

if TYPE_CHECKING:
    from llara_eval.datasets.dataset import Dataset
    from llara_eval.planning.training import Plan

Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="A checkpoint folder, a GGUF file, a hub name, or a dense system's name."
    ),
]
Data = Annotated[
    list[Path],
    typer.Option("--data", help="Training data, JSONL or JSONL.gz; repeatable.", exists=True, dir_okay=False),
]
Output = Annotated[
    Path, typer.Option("--output", help="The new checkpoint; its log and training states lie there too.")
]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Optimizer steps; default: the recipe's.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", min=1, help="Rows of an optimizer step.")]
LearningRate = Annotated[float | None, typer.Option("--learning-rate", help="The highest, after warm-up.")]
EvalDataset = Annotated[
    str | None, typer.Option("--eval-dataset", help="Measure nDCG@10 on this data set (small) now and then.")
]
EvalSplit = Annotated[
    str | None,
    typer.Option(
        "--eval-split", help="Its judgements, e.g. dev: those that are reported must choose nothing."
    ),
]
EvalEvery = Annotated[
    int, typer.Option("--eval-every", min=0, help="Updates between evaluations; 0: first and last.")
]
SaveMinutes = Annotated[
    float, typer.Option("--save-minutes", help="Minutes between two training states to go on from.")
]
Checkpointing = Annotated[
    bool, typer.Option("--gradient-checkpointing", help="Less memory, a third more computing.")
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile the layers: a minute or two, then faster in less memory.")
]
Merge = Annotated[
    bool, typer.Option("--merge", help="Merge the LoRA adapter into the base model in the end.")
]
OnExisting = Annotated[
    options.Existing,
    typer.Option(
        "--on-existing",
        help="Where the output holds a run: go on or keep what is finished; always start again; never go on.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what it will take, and stop.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", metavar="KEY=VALUE", help="Any other setting of the recipe; repeatable."),
]


def validation_set(name: str | None, split: str | None, *, offline: bool) -> "Dataset | None":
    """Load the data set of ``--eval-dataset``, if it is given.

    Raises:
        UsageError: ``--eval-split`` is given alone.
    """
    if name is None:
        if split is not None:
            raise UsageError(f"--eval-split {split} is of --eval-dataset, which is not given")
        return None
    from llara_eval.core.paths import data_dir
    from llara_eval.datasets.load import load

    return load(name, data_dir=data_dir(), split=split, offline=offline)


def show_plan(plan: "Plan") -> None:
    """Show what a run will take."""
    from rich.table import Table

    table = Table("quantity", "estimate", title="Plan")
    share = plan.trained / plan.parameters
    for name, value in {
        "parameters": f"{plan.parameters:,}",
        "trained": f"{plan.trained:,} ({share:.1%})",
        "rows": f"{plan.rows:,}",
        "optimizer steps": f"{plan.steps:,}",
        "tokens of a step": f"{plan.tokens_per_step:,.0f}",
        "tokens": f"{plan.tokens:,.0f}",
        "memory": f"{plan.memory_gib:.1f} GiB",
        "time on this machine": f"{plan.hours:.1f} h" if plan.hours >= 1 else f"{plan.hours * 60:.0f} min",
    }.items():
        table.add_row(name, value)
    show(table)
