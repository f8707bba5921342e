"""``llara-eval check``: how a checkpoint reads its texts, and whether it can be trusted to."""

import json
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llara_eval.cli import options
from llara_eval.cli.console import plain, say, set_up_logging, show
from llara_eval.core.errors import CheckFailedError, UsageError

if TYPE_CHECKING:
    from llara_eval.encoding.encoder import Encoder
    from llara_eval.encoding.templates import Side

_TEXTS = 8
_SHOWN = 12
_SIDES: "tuple[Side, Side]" = ("query", "document")


def check(
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="A checkpoint folder, a GGUF file, a hub name, or a dense system's name."
        ),
    ],
    text_file: Annotated[
        Path | None,
        typer.Option("--text-file", help="Check on these texts, one a line; a few of ours otherwise."),
    ] = None,
    option: options.Settings = None,
    dtype: options.Dtype = None,
    max_length: options.MaxLength = None,
    backend: options.Backend = None,
    offline: options.Offline = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Show the templates a checkpoint is used with, and check that it does what they say.

    Batches of one and padding on the left must give the vectors of a padded batch, the suffix must survive
    truncation, and each slot must be one token of the tokenizer. Exits 4 where one of these fails.
    """
    set_up_logging(quiet=quiet, verbose=verbose)
    from adapters import open_system
    from adapters.options import Context
    from llara_eval.core.paths import home
    from llara_eval.encoding.check import check as check_encoder

    texts = _texts(text_file)
    settings = options.settings(option, dtype=dtype, max_length=max_length, backend=backend)
    system = open_system(model, settings, Context(home=home(), offline=offline))
    encoder: Encoder | None = getattr(system, "encoder", None)
    if encoder is None:
        raise UsageError(f"{model} has no templates to check: it is not a dense retriever")
    cosines, problem = {}, None
    try:
        cosines = check_encoder(encoder, texts)
    except CheckFailedError as error:
        problem = error
    if as_json:
        outcome = {"ok": problem is None, "problem": problem and str(problem), "cosines": cosines}
        typer.echo(json.dumps({**_described(encoder, texts[0]), **outcome}))
    else:
        _show(encoder, texts[0])
    if problem is not None:
        raise problem
    if not quiet:
        agreements = ", ".join(f"{name} {cosine:.6f}" for name, cosine in cosines.items())
        say(f"all checks passed on {len(texts)} texts; smallest cosine with a padded batch: {agreements}")


def _texts(path: Path | None) -> list[str]:
    """Return a few texts of different lengths, the shortest first."""
    from llara_eval.core.lines import read_texts
    from llara_eval.datasets.corpus import Corpus
    from llara_eval.datasets.load import DEMO_FOLDER

    if path is None:
        texts = [document.contents for document in islice(Corpus(DEMO_FOLDER / "corpus.jsonl"), _TEXTS)]
    else:
        texts = read_texts(path, _TEXTS)
    return sorted(texts, key=len)


def _described(encoder: "Encoder", text: str) -> dict[str, Any]:
    """Return the templates, from where they are known, and what a text becomes."""
    examples = {}
    for side in _SIDES:
        template = encoder.templates.of(side)
        (ids,) = template.token_ids(encoder.tokenizer, [text])
        tokens = encoder.tokenizer.convert_ids_to_tokens(ids)
        pooled = (0, len(ids)) if template.pooling == "modules" else template.pooled_span(len(ids))
        examples[side] = {"tokens": tokens, "pooled": pooled}
    return {
        "source": encoder.source,
        "model": asdict(encoder.facts),
        "dtype": str(encoder.model.dtype).removeprefix("torch."),
        "templates": encoder.templates.as_json(),
        "examples": examples,
    }


def _show(encoder: "Encoder", text: str) -> None:
    """Show both templates side by side, and the tokens of one text with the pooled ones marked."""
    from rich.table import Table

    description = _described(encoder, text)
    table = Table("", *_SIDES, title=f"templates: {description['source']}", show_lines=True)
    templates = [description["templates"][side] for side in _SIDES]
    for field in ("prefix", "prompt", "suffix", "pooling", "slots", "normalize", "max_length"):
        table.add_row(field, *(plain(_words(template[field])) for template in templates))
    table.add_row("example", *(_example(**description["examples"][side]) for side in _SIDES))
    attention = "causal" if encoder.facts.causal else "both ways"
    table.caption = f"pooled tokens are in «»; attention is {attention}, {description['dtype']}"
    show(table)


def _words(value: Any) -> str:
    return " ".join(map(repr, value)) if isinstance(value, list | tuple) else str(value)


def _example(tokens: list[str], pooled: tuple[int, int]) -> str:
    """Join tokens, the middle of a long text left out."""
    marked = [
        f"«{token}»" if pooled[0] <= position < pooled[1] else token for position, token in enumerate(tokens)
    ]
    if len(marked) > 2 * _SHOWN:
        marked = [*marked[:_SHOWN], "…", *marked[-_SHOWN:]]
    return plain(" ".join(marked))
