"""``llara-eval adapt``: a base model and plain text → a checkpoint adapted the LLaRA way."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from llara_eval.cli import options
from llara_eval.cli.training_options import Data, Output, Training


def adapt(
    model: options.Checkpoint,
    data: Data,
    output: Output,
    recipe: Annotated[
        str,
        typer.Option(metavar="NAME", help="llara, llara-released (as in the released code) or llara-paper."),
    ] = "llara",
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A JSON file with other prompts.", exists=True)
    ] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="The tokens of an embedding; llara has 8.")] = None,
    chunk_words: Annotated[
        int, typer.Option(min=1, help="The words of a text that is made from plain text.")
    ] = 500,
    held_out: Annotated[
        int, typer.Option(min=0, help="Measure recall on so many rows at the end of the data.")
    ] = 0,
    max_length: options.MaxLength = None,
    *,
    training: Training,
) -> None:
    """Adapt a language model to embed texts, as LLaRA does.

    Both objectives, EBAE and EBAR, take one joint pass. The data are JSONL rows with input, output_summarize
    and output_predict, or text to make such rows from: .txt, or JSONL with a text field. The same command
    continues a run that was interrupted.
    """
    from adapters.llara.adapt import AdaptationRun
    from adapters.llara.templates import Prompts
    from adapters.training import adaptation, with_options

    task, schedule = adaptation(recipe)
    texts = task.prompts if prompts is None else Prompts.from_file(prompts)
    task = replace(task, prompts=texts if slots is None else texts.with_slots(slots))
    task, schedule = with_options(task, schedule, training.settings(max_length=max_length))
    conditions = training.conditions(output)
    training.carry_out(
        AdaptationRun(model, data, task, schedule, conditions, chunk_words=chunk_words, held_out=held_out)
    )
