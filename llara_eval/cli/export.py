"""``llara-eval export``: a checkpoint as a folder that other libraries load."""

import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from llara_eval.cli import options, training_options
from llara_eval.cli.console import progress, say, set_up_logging


class Format(StrEnum):
    """Libraries a checkpoint can be written for."""

    SENTENCE_TRANSFORMERS = "sentence-transformers"


def export(
    model: training_options.Model,
    output: Annotated[Path, typer.Option("--output", help="The folder to write.")],
    target: Annotated[
        Format, typer.Option("--format", help="The library that shall load it.")
    ] = Format.SENTENCE_TRANSFORMERS,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a checkpoint with its templates as a sentence-transformers folder.

    The folder is kept only if sentence-transformers makes the same vectors of it.
    """
    set_up_logging(quiet=quiet, verbose=False)
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)  # it remarks on the prompts
    from adapters import checkpoint_folder
    from llara_eval.checkpoints.export import export as write

    write(checkpoint_folder(model), output, overwrite=overwrite, progress=progress(quiet=quiet))
    if not quiet:
        say(f"{target.value} gives the same vectors: {output}")
