"""``llara-eval finetune``: a checkpoint and hard negatives → a retriever."""

from dataclasses import asdict
from typing import Annotated

import typer

from llara_eval.cli import options
from llara_eval.cli.training_options import Output, Pairs, Training


def finetune(
    model: options.Checkpoint,
    data: Pairs,
    output: Output,
    recipe: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="llara, repllama, or as they were released: llara-released, repllama-v1."
        ),
    ] = "llara",
    *,
    prompting: options.Prompting,
    training: Training,
) -> None:
    """Fine-tune a checkpoint by contrastive learning.

    The data are rows with query, pos and, if there are any, neg (lists of texts), or rows of Tevatron or
    sentence-transformers, as JSON Lines or Parquet. With -o distillation=WEIGHT, the scores of a teacher in
    pos_scores and neg_scores are used. The new checkpoint has the prompts that it was trained with: those of
    the checkpoint, unless others are given. The same command continues a run that was interrupted.
    """
    from adapters.finetune import RECIPES, FinetuningRun
    from adapters.prompts import PromptConfig
    from adapters.training import finetuning, with_options

    contrast, schedule = with_options(*finetuning(recipe), training.settings())
    conditions = training.conditions(output)
    prompts = PromptConfig(**options.settings(None, **asdict(prompting))).prompt_options
    training.carry_out(FinetuningRun(model, data, contrast, schedule, conditions, RECIPES[recipe], prompts))
