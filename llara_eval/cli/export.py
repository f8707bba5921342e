"""``llara-eval export``: a checkpoint as a folder that other libraries load."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from llara_eval.cli import options
from llara_eval.cli.console import say, set_up


def export(
    model: options.Checkpoint,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder to write.")],
    target: Annotated[
        Literal["sentence-transformers"],
        typer.Option("--format", metavar="NAME", help="The library that will load the folder."),
    ] = "sentence-transformers",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    option: options.Setting = None,
    offline: options.Offline = False,
    quiet: options.Quiet = False,
    *,
    prompting: options.Prompting,
) -> None:
    """Write a checkpoint as a folder of sentence-transformers.

    The folder is kept only if sentence-transformers computes the same vectors from it. Options say what the
    checkpoint does not, or change it: prompts, -o pooling=…, -o normalize=…, -o max_length=…
    """
    progress = set_up(quiet=quiet)
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)  # it remarks on the prompts
    from adapters import find_checkpoint, load_options
    from llara_eval.checkpoints.export import export as write

    settings = options.settings(option, **asdict(prompting))
    write(
        find_checkpoint(model, settings, offline=offline),
        output,
        load_options(model, settings),
        overwrite=overwrite,
        progress=progress,
    )
    if not quiet:
        say(f"{target} gives the same vectors: {output}")
