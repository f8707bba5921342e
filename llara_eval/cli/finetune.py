"""``llara-eval finetune``: a checkpoint and hard negatives → a retriever."""

from typing import Annotated

import typer

from llara_eval.cli import options, training_options
from llara_eval.cli.console import progress, set_up_logging


def finetune(
    model: training_options.Model,
    data: training_options.Data,
    output: training_options.Output,
    recipe: Annotated[str, typer.Option("--recipe", help="llara or repllama.")] = "llara",
    steps: training_options.Steps = None,
    batch_size: training_options.BatchSize = None,
    learning_rate: training_options.LearningRate = None,
    option: training_options.Options = None,
    eval_dataset: training_options.EvalDataset = None,
    eval_split: training_options.EvalSplit = None,
    eval_every: training_options.EvalEvery = 0,
    batch_tokens: options.BatchTokens = None,
    dtype: options.Dtype = None,
    gradient_checkpointing: training_options.Checkpointing = False,
    compile: training_options.Compile = False,
    merge: training_options.Merge = False,
    save_minutes: training_options.SaveMinutes = 15.0,
    on_existing: training_options.OnExisting = options.Existing.ONLY_MISSING,
    dry_run: training_options.DryRun = False,
    offline: options.Offline = False,
    quiet: options.Quiet = False,
) -> None:
    """Fine-tune a checkpoint with contrastive learning over hard negatives.

    Data are JSONL rows of query, pos and, where there are any, neg (lists of texts); pos_scores and
    neg_scores of a teacher are used with -o distillation=WEIGHT. The same command goes on with a run that
    was interrupted.
    """
    set_up_logging(quiet=quiet, verbose=False)
    from adapters.finetune import RECIPES, FinetuningRun
    from adapters.training import finetuning, with_options
    from llara_eval.training.config import Conditions, usual_micro_tokens

    given = options.settings(option, steps=steps, batch_size=batch_size, learning_rate=learning_rate)
    contrast, schedule = with_options(*finetuning(recipe), given)
    conditions = Conditions(
        output=output,
        micro_tokens=batch_tokens or usual_micro_tokens(),
        dtype=dtype,
        gradient_checkpointing=gradient_checkpointing,
        compiled=compile,
        merge=merge,
        save_minutes=save_minutes,
        evaluate_every=eval_every,
        validate_on=training_options.validation_set(eval_dataset, eval_split, offline=offline),
        on_existing=on_existing.value,
        offline=offline,
        progress=progress(quiet=quiet),
    )
    run = FinetuningRun(model, data, contrast, schedule, conditions, RECIPES[recipe])
    if dry_run:
        training_options.show_plan(run.plan())
    else:
        run.run()
