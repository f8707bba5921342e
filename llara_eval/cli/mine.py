"""``llara-eval mine``: pairs of queries and positives → the same with hard negatives."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llara_eval.cli import options
from llara_eval.cli.console import progress, say, set_up_logging, show

if TYPE_CHECKING:
    from llara_eval.training.mining import Counts

Model = Annotated[
    str, typer.Option("--model", "-m", help="The system that finds them: bm25, a checkpoint, or any other.")
]
Data = Annotated[
    list[Path],
    typer.Option(
        "--data",
        help="Pairs: JSONL of query and pos, or a folder in BEIR layout (its train split); repeatable.",
        exists=True,
    ),
]
Source = Annotated[
    str,
    typer.Option(
        "--corpus", help="Where negatives come from: a data set, a corpus.jsonl, or self (all positives)."
    ),
]
Output = Annotated[Path, typer.Option("--output", help="The .jsonl file to write; its record is beside it.")]
SkipTop = Annotated[int, typer.Option("--skip-top", min=0, help="Best documents passed over.")]
Negatives = Annotated[int, typer.Option("--negatives", min=1, help="Most negatives of a query.")]
Margin = Annotated[
    float | None,
    typer.Option("--margin", help="Only below this share of the positive's score, above 0 to 1, e.g. 0.95."),
]
MaxOverlap = Annotated[
    float,
    typer.Option(
        "--max-overlap", help="None that share more word trigrams with a positive; 1: any.", min=0, max=1
    ),
]
Sample = Annotated[str, typer.Option("--sample", help="random or top of what is left.")]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        help="A data set whose queries must not be trained on, as those of --corpus; repeatable.",
    ),
]


def mine(
    model: Model,
    data: Data,
    corpus: Source,
    output: Output,
    data_dir: options.DataDir,
    depth: Annotated[int, typer.Option("--depth", min=1, help="Documents looked at for a query.")] = 200,
    skip_top: SkipTop = 0,
    negatives: Negatives = 15,
    margin: Margin = None,
    max_overlap: MaxOverlap = 0.8,
    sample: Sample = "random",
    seed: Annotated[int, typer.Option("--seed", help="Of the draw.", min=0)] = 42,
    exclude: Exclude = None,
    option: options.Settings = None,
    dtype: options.Dtype = None,
    max_length: options.MaxLength = None,
    batch_tokens: options.BatchTokens = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier file.")] = False,
    offline: options.Offline = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Find hard negatives for training pairs: documents a system ranks high that are not positives.

    Queries judged in a split other than train of a collection that is --data, --corpus or --exclude are left
    out.
    """
    set_up_logging(quiet=quiet, verbose=verbose)
    from adapters import open_system
    from adapters.options import Context
    from llara_eval.core.paths import home
    from llara_eval.training import mining

    given = options.settings(option, dtype=dtype, max_length=max_length, batch_tokens=batch_tokens)
    settings = mining.Mining(
        depth=depth,
        skip_top=skip_top,
        negatives=negatives,
        margin=margin,
        max_overlap=max_overlap,
        sample=sample,  # type: ignore[arg-type]
        seed=seed,
    )
    counts = mining.mine(
        open_system(model, given, Context(home=home(), offline=offline)),
        data,
        corpus,
        settings,
        output,
        exclude=exclude or [],
        data_dir=data_dir,
        offline=offline,
        overwrite=overwrite,
        progress=progress(quiet=quiet),
    )
    if as_json:
        typer.echo(json.dumps({"settings": asdict(settings), "counts": asdict(counts)}))
    else:
        _show(counts)
    if not quiet:
        say(f"{output}, made as {output.with_suffix('.json')} says")


def _show(counts: "Counts") -> None:
    from rich.table import Table

    table = Table("rows", "", title="Mined")
    table.add_row("read", f"{counts.rows:,}")
    table.add_row("left out: their query is judged", f"{counts.forbidden:,}")
    table.add_row("written", f"{counts.written:,}")
    table.add_row("of them without negatives", f"{counts.without:,}", end_section=True)
    table.add_row("documents left out: known positives", f"{counts.positives:,}")
    table.add_row("among the best passed over", f"{counts.skipped:,}")
    table.add_row("scored too close to the positive", f"{counts.above_margin:,}")
    table.add_row("near-duplicates of a positive", f"{counts.overlapping:,}", end_section=True)
    table.add_row("negatives written", f"{counts.negatives:,}")
    table.add_row("for a row", f"{counts.negatives / max(1, counts.written):.1f}")
    show(table)
