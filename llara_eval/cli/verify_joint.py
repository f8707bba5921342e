"""``llara-eval verify-joint``: one joint pass against two separate ones, on real texts."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llara_eval.cli import options
from llara_eval.cli.console import print_json, set_up, show, table
from llara_eval.core.errors import CheckFailedError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from adapters.llara.verify_joint import Verification


def verify_joint(
    model: options.Checkpoint,
    text_file: Annotated[
        Path, typer.Option(metavar="FILE", help="A file of plain text, a text a line.", exists=True)
    ],
    variant: Annotated[
        str, typer.Option(metavar="released|paper|paper-acl", help="The prompts of LLaRA.")
    ] = "released",
    limit: Annotated[int, typer.Option(min=1, help="How many texts are used.")] = 32,
    max_length: Annotated[int, typer.Option(min=1, help="The most tokens of a joint sequence.")] = 1024,
    batch_tokens: options.BatchTokens = None,
    offline: options.Offline = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Show that LLaRA's joint pass gives what two passes give.

    The embeddings are compared, and the tokens and the time that the joint pass saves are shown.

    The exit code is 4 if the embeddings differ by more than rounding, or if attention leaks from one suffix
    to the other.
    """
    progress = set_up(quiet=quiet, verbose=verbose)
    import torch

    from adapters import find_checkpoint
    from adapters.llara.templates import VARIANTS, add_tokens, fit_embeddings, templates
    from adapters.llara.verify_joint import LARGEST_ERROR
    from adapters.llara.verify_joint import verify_joint as verify
    from llara_eval.checkpoints.load import read_model
    from llara_eval.core.lines import read_texts
    from llara_eval.encoding.model_facts import max_positions
    from llara_eval.training.config import usual_micro_tokens

    if variant not in VARIANTS:
        raise UsageError(f"variant {variant!r} is not one of {', '.join(VARIANTS)}")
    texts = read_texts(text_file, limit)
    checkpoint = find_checkpoint(model, {}, offline=offline)
    decoder, tokenizer = read_model(checkpoint, dtype=torch.float32), checkpoint.tokenizer
    fit_embeddings(decoder, add_tokens(tokenizer, VARIANTS[variant].slot_tokens))
    outcome = verify(
        decoder.eval(),
        tokenizer,
        templates(tokenizer, VARIANTS[variant]),
        texts,
        max_length=min(max_length, max_positions(decoder.config)),
        batch_tokens=batch_tokens or usual_micro_tokens(),
        progress=progress,
    )
    if as_json:
        derived = ("cost_ratio", "time_ratio", "holds")
        print_json({**asdict(outcome), **{name: getattr(outcome, name) for name in derived}})
    else:
        show(_table(outcome))
    if not outcome.holds:
        raise CheckFailedError(
            f"the joint pass differs from two passes by {outcome.isolation_error:.1e} (rounding is below "
            f"{LARGEST_ERROR:.0e}), attention from NEXT to SELF is {outcome.leaked_attention:.1e}: this "
            "model cannot be adapted with joint sequences"
        )


def _table(outcome: "Verification") -> "Table":
    seconds = f"{outcome.joint_seconds:.2f}", f"{outcome.separate_seconds:.2f}"
    return table(
        ["", "joint", "two passes", "joint / two"],
        [
            ["tokens", outcome.joint_tokens, outcome.separate_tokens, f"{outcome.cost_ratio:.3f}"],
            ["seconds", *seconds, f"{outcome.time_ratio:.3f}"],
        ],
        title=f"{outcome.texts} texts",
        caption=f"largest difference of unit embeddings {outcome.isolation_error:.1e}, "
        f"largest attention from NEXT to SELF {outcome.leaked_attention:g}",
    )
