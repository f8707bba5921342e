"""``llara-eval adapt``: a base model and plain text → a checkpoint adapted the LLaRA way."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from llara_eval.cli import options, training_options
from llara_eval.cli.console import progress, set_up_logging

Recipe = Annotated[str, typer.Option("--recipe", help="llara (the released code's) or llara-paper.")]
PromptsFile = Annotated[
    Path | None, typer.Option("--prompts", help="JSON file with other prompts.", exists=True)
]
Slots = Annotated[
    int | None, typer.Option("--slots", min=1, help="Tokens that make the embedding; llara has 8.")
]
ChunkWords = Annotated[
    int, typer.Option("--chunk-words", min=1, help="Words of a text made from plain text.")
]
HeldOut = Annotated[
    int, typer.Option("--held-out", min=0, help="Rows at the end of the data to measure recall on.")
]


def adapt(
    model: training_options.Model,
    data: training_options.Data,
    output: training_options.Output,
    recipe: Recipe = "llara",
    prompts: PromptsFile = None,
    slots: Slots = None,
    chunk_words: ChunkWords = 500,
    held_out: HeldOut = 0,
    steps: training_options.Steps = None,
    batch_size: training_options.BatchSize = None,
    learning_rate: training_options.LearningRate = None,
    max_length: options.MaxLength = None,
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
    """Adapt a causal language model to embed texts: EBAE and EBAR in one pass (LLaRA).

    Data are JSONL rows of input, output_summarize and output_predict, or text to make them from: .txt, or
    JSONL with a text field. The same command goes on with a run that was interrupted.
    """
    set_up_logging(quiet=quiet, verbose=False)
    from adapters.llara.adapt import AdaptationRun
    from adapters.llara.templates import Prompts
    from adapters.training import adaptation, with_options
    from llara_eval.training.config import Conditions, usual_micro_tokens

    task, schedule = adaptation(recipe)
    texts = task.prompts if prompts is None else Prompts.from_file(prompts)
    task = replace(task, prompts=texts if slots is None else texts.with_slots(slots))
    given = options.settings(
        option, steps=steps, batch_size=batch_size, learning_rate=learning_rate, max_length=max_length
    )
    task, schedule = with_options(task, schedule, given)
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
    run = AdaptationRun(model, data, task, schedule, conditions, chunk_words=chunk_words, held_out=held_out)
    if dry_run:
        training_options.show_plan(run.plan())
    else:
        run.run()
