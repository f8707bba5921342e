"""What ``adapt`` and ``finetune`` have in common: their options, one run, one plan."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from llara_eval.cli import options
from llara_eval.cli.console import set_up, show, table
from llara_eval.core.errors import UsageError
from llara_eval.core.existing import OnExistingRun

if TYPE_CHECKING:
    from rich.table import Table

    from adapters.finetune import FinetuningRun
    from adapters.llara.adapt import AdaptationRun
    from llara_eval.datasets.dataset import Dataset
    from llara_eval.planning.training import Plan
    from llara_eval.training.config import Conditions

Data = Annotated[
    list[Path],
    typer.Option(
        metavar="FILE", help="Training data, JSONL or JSONL.gz; repeatable.", exists=True, dir_okay=False
    ),
]
Pairs = Annotated[
    list[Path],
    typer.Option(
        "--data",
        metavar="PATH",
        help="Pairs: a file with query and pos or with rows of Tevatron or sentence-transformers, a folder "
        "of such files, or that of a data set (its train split); repeatable.",
    ),
]
Output = Annotated[
    Path,
    typer.Option(metavar="FOLDER", help="The folder of the new checkpoint, its log and its training states."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The options of every command that trains."""

    PANEL: ClassVar[str] = "Training options"

    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimizer steps; by default those of the recipe.")
    ] = None
    batch_size: Annotated[int | None, typer.Option(min=1, help="The rows of an optimizer step.")] = None
    learning_rate: Annotated[float | None, typer.Option(help="The highest learning rate, after warm-up.")] = (
        None
    )
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", "-o", metavar="KEY=VALUE", help="Another setting of the recipe; repeatable."
        ),
    ] = None
    eval_dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Measure nDCG@10 on this small data set.")
    ] = None
    eval_split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The judgements of that data set, e.g. dev, but none that you will report results on.",
        ),
    ] = None
    eval_every: Annotated[
        int,
        typer.Option(
            min=0, help="Optimizer steps between evaluations; 0 evaluates before and after training only."
        ),
    ] = 0
    batch_tokens: options.BatchTokens = None
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The dtype of products, float32 or bfloat16; by default bfloat16 where it is computed fast.",
        ),
    ] = None
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Use less memory, and a third more computation.")
    ] = False
    compile: Annotated[
        bool,
        typer.Option(
            "--compile", help="Compile the layers: it takes a minute or two, then saves time and memory."
        ),
    ] = False
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge the LoRA adapter into the base model in the end.")
    ] = False
    save_minutes: Annotated[float, typer.Option(help="Minutes between two training states.")] = 15.0
    on_existing: Annotated[
        OnExistingRun,
        typer.Option(
            help="Where the output holds a run: only-missing continues it or keeps it if it is finished, "
            "always starts again, refuse ends with an error."
        ),
    ] = "only-missing"
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what the run will take, and do not train.")
    ] = False
    trust_remote_code: options.TrustRemoteCode = False
    offline: options.Offline = False
    quiet: options.Quiet = False

    def settings(self, **more: Any) -> dict[str, Any]:
        """Return the settings of the recipe that are given.

        Raises:
            UsageError: A setting is malformed, or given twice.
        """
        named = {"steps": self.steps, "batch_size": self.batch_size, "learning_rate": self.learning_rate}
        return options.settings(self.option, **named, **more)

    def conditions(self, output: Path) -> "Conditions":
        """Set up the log, and return the conditions of a run.

        Raises:
            UsageError: A condition is out of range, or ``--eval-split`` is given alone.
        """
        from llara_eval.training.config import Conditions, usual_micro_tokens

        return Conditions(
            output=output,
            micro_tokens=self.batch_tokens or usual_micro_tokens(),
            dtype=self.dtype,
            gradient_checkpointing=self.gradient_checkpointing,
            compiled=self.compile,
            merge=self.merge,
            save_minutes=self.save_minutes,
            evaluate_every=self.eval_every,
            validate_on=self._validation_set(),
            on_existing=self.on_existing,
            offline=self.offline,
            trust_remote_code=self.trust_remote_code,
            progress=set_up(quiet=self.quiet),
        )

    def _validation_set(self) -> "Dataset | None":
        if self.eval_dataset is None:
            if self.eval_split is not None:
                raise UsageError(f"--eval-split {self.eval_split} needs --eval-dataset, which is not given")
            return None
        from llara_eval.core.paths import data_dir
        from llara_eval.datasets.load import load

        return load(self.eval_dataset, data_dir=data_dir(), split=self.eval_split, offline=self.offline)

    def carry_out(self, run: "AdaptationRun | FinetuningRun") -> None:
        """Train, or show what the run will take."""
        if self.dry_run:
            show(_plan_table(run.plan()))
        else:
            run.run()


def _plan_table(plan: "Plan") -> "Table":
    rows: list[list[Any]] = [
        ["parameters", plan.parameters],
        ["trained", f"{plan.trained:,} ({plan.trained / plan.parameters:.1%})"],
        ["rows", plan.rows],
        ["optimizer steps", plan.steps],
        ["tokens of a step", f"{plan.tokens_per_step:,.0f}"],
        ["tokens", f"{plan.tokens:,.0f}"],
        ["memory", f"{plan.memory_gib:.1f} GiB"],
        ["time on this machine", f"{plan.hours:.1f} h" if plan.hours >= 1 else f"{plan.hours * 60:.0f} min"],
    ]
    return table(["quantity", "estimate"], rows, title="Plan")
