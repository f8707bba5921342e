"""``llara-eval mine``: pairs of queries and positives → the same pairs with hard negatives."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import typer

from llara_eval.cli import options
from llara_eval.cli.console import print_json, say, show, table
from llara_eval.cli.training_options import Pairs

if TYPE_CHECKING:
    from rich.table import Table

    from llara_eval.training.mining import Counts

Source = Annotated[
    str,
    typer.Option(
        "--corpus",
        metavar="NAME|FILE",
        help="The documents that negatives are taken from: a data set, a corpus.jsonl, or self (all "
        "positives).",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The options that say how negatives are chosen, see :class:`llara_eval.training.mining.Mining`."""

    PANEL: ClassVar[str] = "Mining options"

    depth: Annotated[
        int, typer.Option(min=1, help="How many of the best documents are candidates for a query.")
    ] = 200
    skip_top: Annotated[int, typer.Option(min=0, help="How many of the best documents are passed over.")] = 0
    negatives: Annotated[int, typer.Option(min=1, help="The most negatives of a query.")] = 15
    margin: Annotated[
        float | None,
        typer.Option(help="Take only documents below this share of the positive's score, e.g. 0.95."),
    ] = None
    max_overlap: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Leave out documents that share more than this part of their word trigrams with a "
            "positive; 1 leaves out none.",
        ),
    ] = 0.8
    sample: Annotated[
        Literal["random", "top"],
        typer.Option(help="Take the negatives at random from the remaining documents, or the top ones."),
    ] = "random"
    seed: Annotated[int, typer.Option(help="The seed of the random draw.", min=0)] = 42


def mine(
    model: options.System,
    data: Pairs,
    corpus: Source,
    output: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="The .jsonl file to write; a .json file beside it says how it was made."
        ),
    ],
    data_dir: options.DataDir,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A further data set whose judged queries must not be trained on; repeatable."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier file.")] = False,
    *,
    choice: Choice,
    opening: options.Opening,
) -> None:
    """Find hard negatives for training pairs.

    These are documents that a system ranks high and that are not positives.

    Queries are left out if they are judged in a split other than train of a data set that is named by --data,
    --corpus or --exclude.
    """
    progress = opening.set_up()
    from llara_eval.evaluation.face import open_system
    from llara_eval.training import mining

    settings = mining.Mining(**asdict(choice))
    counts = mining.mine(
        open_system(model, options=opening.settings(), offline=opening.offline),
        data,
        corpus,
        settings,
        output,
        exclude=exclude or [],
        data_dir=data_dir,
        offline=opening.offline,
        overwrite=overwrite,
        progress=progress,
    )
    if opening.as_json:
        print_json({"settings": asdict(settings), "counts": asdict(counts)})
    else:
        show(_table(counts))
    if not opening.quiet:
        say(f"{output} is written; {output.with_suffix('.json')} has its settings")


def _table(counts: "Counts") -> "Table":
    rows: list[list[Any]] = [
        ["read", counts.rows],
        ["left out: their query is judged", counts.forbidden],
        ["written", counts.written],
        ["written without any negative", counts.without],
        [],
        ["documents left out: known positives", counts.positives],
        ["documents left out: among the best", counts.skipped],
        ["documents left out: above the margin", counts.above_margin],
        ["documents left out: near-duplicates", counts.overlapping],
        [],
        ["negatives written", counts.negatives],
        ["negatives of a row, mean", f"{counts.negatives / max(1, counts.written):.1f}"],
    ]
    return table(["rows", ""], rows, title="Mined")
