"""What ``adapt`` and ``finetune`` have in common: their options, and how settings are put together."""

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from llara_eval.cli import options
from llara_eval.cli.console import show
from llara_eval.core.errors import UsageError

if TYPE_CHECKING:
    from llara_eval.planning.training import Plan
    from llara_eval.training.config import Schedule
    from llara_eval.training.validation import Validate

Task = TypeVar("Task")
Recipe = TypeVar("Recipe")

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


def chosen(recipes: Mapping[str, Recipe], name: str) -> Recipe:
    """Return the recipe of a name.

    Raises:
        UsageError: There is none.
    """
    if name not in recipes:
        raise UsageError(f"recipe {name!r} is not one of {', '.join(recipes)}")
    return recipes[name]


def settled(task: Task, schedule: "Schedule", given: dict[str, Any]) -> "tuple[Task, Schedule]":
    """Apply a user's settings to a recipe.

    ``lora=false`` trains every parameter, ``lora=true`` or any of ``lora_rank``, ``lora_alpha``,
    ``lora_dropout``, ``lora_targets`` puts LoRA on.

    Raises:
        UsageError: A setting is unknown, contradicts another, or its value cannot be converted.
    """
    from adapters.llara.recipes import contrastive
    from adapters.options import override

    given = dict(given)
    if "epochs" in given:
        if "steps" in given:
            raise UsageError("steps and epochs both say how long to train: give one of them")
        schedule = replace(schedule, steps=None)
    if "prompts" in given and hasattr(task, "prompts"):
        raise UsageError("option prompts: they are read from a file, use --prompts")
    usual = schedule.lora or contrastive()[1].lora
    wanted = given.pop("lora", None)
    low_rank = {key.removeprefix("lora_"): given.pop(key) for key in list(given) if key.startswith("lora_")}
    task, schedule = override(task, given), override(schedule, given)
    if wanted not in (None, "true", "false"):
        raise UsageError(f"option lora={wanted}: expected true or false")
    if low_rank and wanted == "false":
        raise UsageError(f"option lora=false contradicts lora_{next(iter(low_rank))}, which puts LoRA on")
    if low_rank or wanted == "true":
        schedule = replace(schedule, lora=override(usual, low_rank))
    elif wanted == "false":
        schedule = replace(schedule, lora=None)
    unknown = [*given, *(f"lora_{key}" for key in low_rank)]
    if unknown:
        known = [item.name for part in (task, schedule) for item in fields(part)]  # type: ignore[arg-type]
        names = ", ".join(name for name in known if name != "prompts")
        raise UsageError(f"this recipe has no option {unknown[0]!r}; it has {names}, lora_rank, …")
    return task, schedule


def validation(name: str | None, split: str | None, *, offline: bool) -> "Validate | None":
    """Return what measures nDCG@10 on the data set of ``--eval-dataset``."""
    if name is None:
        if split is not None:
            raise UsageError(f"--eval-split {split} is of --eval-dataset, which is not given")
        return None
    from llara_eval.core.paths import data_dir
    from llara_eval.datasets.load import load
    from llara_eval.training.validation import ndcg_at_10

    return partial(ndcg_at_10, load(name, data_dir=data_dir(), split=split, offline=offline))


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
