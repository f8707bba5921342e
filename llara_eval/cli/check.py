"""``llara-eval check``: how a checkpoint reads its texts, and whether it does so correctly."""

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llara_eval.cli import options
from llara_eval.cli.console import print_json, say, show, table
from llara_eval.core.errors import CheckFailedError, UsageError
from llara_eval.core.protocols import Adjustable

if TYPE_CHECKING:
    from rich.table import Table

    from llara_eval.encoding.encoder import Encoder
    from llara_eval.encoding.templates import Side

_TEXTS = 8
"""The number of texts that are checked."""

_SHOWN = 12
"""The tokens that are shown of each end of a long text."""

_SIDES: "tuple[Side, Side]" = ("query", "document")


def check(
    model: options.Checkpoint,
    text_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Check on the texts of this file, one a line; by default on demo documents."
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", "-d", metavar="NAME", help="The data set whose prompts are used."),
    ] = None,
    *,
    opening: options.Opening,
) -> None:
    """Show the templates of a checkpoint, and check its vectors.

    A batch of one text and padding on the left must give the vectors of a padded batch, the suffix must
    survive truncation, and each slot must be one token of the tokenizer. The exit code is 4 if a check fails.
    """
    opening.set_up()
    from llara_eval.encoding.check import check as check_encoder
    from llara_eval.evaluation.face import open_system

    texts = _texts(text_file)
    system = open_system(model, options=opening.settings(), offline=opening.offline)
    if dataset is not None and isinstance(system, Adjustable):
        system = system.on(dataset, None)
    encoder: Encoder | None = getattr(system, "encoder", None)
    if encoder is None:
        raise UsageError(f"{model} has no templates to check: it is not a dense retriever")
    if encoder.origin.pending:
        raise CheckFailedError(
            "--prompts: each data set has prompts of its own; name one with --dataset, or give --query-prompt"
        )
    cosines, problem = {}, None
    try:
        cosines = check_encoder(encoder, texts)
    except CheckFailedError as error:
        problem = error
    description = _describe(encoder, texts[0])
    if opening.as_json:
        outcome = {"ok": problem is None, "problem": problem and str(problem), "cosines": cosines}
        print_json({**description, **outcome})
    else:
        show(_table(description))
        if stored := description["stored_prompts"]:
            show(_stored_table(stored, description["prompts_from"]))
        for warning in description["warnings"]:
            say(f"note: {warning}")
    if problem is not None:
        raise problem
    if not opening.quiet:
        agreements = ", ".join(f"{name} {cosine:.6f}" for name, cosine in cosines.items())
        say(f"all checks passed on {len(texts)} texts; smallest cosine with a padded batch: {agreements}")


def _texts(path: Path | None) -> list[str]:
    """Return a few texts of different lengths, the shortest first."""
    from llara_eval.core.lines import read_texts
    from llara_eval.datasets.folder import corpus_of
    from llara_eval.datasets.load import DEMO_FOLDER

    if path is None:
        texts = [document.contents for document in islice(corpus_of(DEMO_FOLDER), _TEXTS)]
    else:
        texts = read_texts(path, _TEXTS)
    return sorted(texts, key=len)


def _describe(encoder: "Encoder", text: str) -> dict[str, Any]:
    """Return the templates, their source, and the tokens that a text becomes."""
    origin, examples = encoder.origin, {}
    for side in _SIDES:
        template = encoder.templates.of(side)
        (ids,) = template.token_ids(encoder.tokenizer, [text])
        tokens = encoder.tokenizer.convert_ids_to_tokens(ids)
        pooled = (0, len(ids)) if template.pooling == "modules" else template.pooled_span(len(ids))
        examples[side] = {"tokens": tokens, "pooled": pooled}
    return {
        "source": origin.template,
        "prompts_from": {side: getattr(origin, side) for side in _SIDES},
        "stored_prompts": dict(origin.stored.texts) if origin.stored else {},
        "warnings": list(origin.warnings),
        "model": asdict(encoder.facts),
        "dtype": str(encoder.engine.dtype).removeprefix("torch."),
        "templates": encoder.templates.as_json(),
        "examples": examples,
    }


def _table(description: dict[str, Any]) -> "Table":
    """Return a table of both templates side by side, and of the tokens of one text."""
    templates = [description["templates"][side] for side in _SIDES]
    fields = ["prefix", "prompt", "suffix", "pooling", "slots", "normalize", "max_length"]
    if any("cut" in template for template in templates):
        fields.append("cut")
    rows = [[field, *(_quoted(template.get(field, "end")) for template in templates)] for field in fields]
    rows.insert(2, ["prompt from", *(description["prompts_from"][side] for side in _SIDES)])
    rows.append(["example", *(_marked(**description["examples"][side]) for side in _SIDES)])
    attention = "causal" if description["model"]["causal"] else "both ways"
    return table(
        ["", *_SIDES],
        rows,
        title=f"templates: {description['source']}",
        caption=f"pooled tokens are in «»; attention is {attention}, {description['dtype']}",
        show_lines=True,
    )


def _stored_table(stored: dict[str, str], used: dict[str, str]) -> "Table":
    """Return a table of the prompts that a checkpoint stores, and of the sides that use them."""
    rows = [
        [name, repr(text), ", ".join(side for side in _SIDES if used[side].startswith(f"{name} of "))]
        for name, text in stored.items()
    ]
    return table(["name", "text", "used for"], rows, title="prompts stored in the checkpoint")


def _quoted(value: Any) -> str:
    """Return the value of a field; texts are in quotation marks, since their spaces count."""
    if isinstance(value, str) and (" " in value or "\n" in value):
        return repr(value)
    return " ".join(map(repr, value)) if isinstance(value, list | tuple) else str(value)


def _marked(tokens: list[str], pooled: tuple[int, int]) -> str:
    """Return tokens as a text with the pooled ones marked, and without the middle if there are many."""
    start, end = pooled
    marked = [f"«{token}»" if start <= position < end else token for position, token in enumerate(tokens)]
    if len(marked) > 2 * _SHOWN:
        marked = [*marked[:_SHOWN], "…", *marked[-_SHOWN:]]
    return " ".join(marked)
