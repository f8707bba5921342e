"""``llara-eval encode``: the vectors of data sets, made by as many workers as there are."""

import json
import os
import sys
from contextlib import redirect_stdout
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from llara_eval.cli import options
from llara_eval.cli.console import plain, progress, say, show
from llara_eval.cli.evaluation import Encoding


class Launcher(StrEnum):
    """What starts the workers."""

    LOCAL = "local"
    TORCHRUN = "torchrun"
    SLURM = "slurm"
    RAY = "ray"


Rows = list[dict[str, Any]]
"""What came of each data set, as ``--json`` prints it."""

_SIDES = ("documents", "queries")


@options.grouped
def encode(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="A checkpoint folder, a GGUF file, a hub name, or a dense system's name."
        ),
    ],
    dataset: options.Datasets,
    split: options.Split = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="How many share the work.")] = 1,
    launcher: Annotated[Launcher, typer.Option("--launcher", help="What starts them.")] = Launcher.LOCAL,
    lease_seconds: Annotated[
        float,
        typer.Option("--lease-seconds", min=1, help="Silence after which a worker's shard is another's."),
    ] = 600.0,
    *,
    encoding: Encoding,
) -> None:
    """Tokenise and encode documents and queries, as far as that has not been done.

    Evaluating the same model on the same data then finds the vectors. Any number of workers may be started,
    here or on other machines that see the same folders, by a launcher or by hand; they share the work.
    Killed at any time, the same command goes on. On processors of one kind, with as many threads each, the
    bytes in the end are those that one worker would have written.
    """
    from llara_eval.core.paths import home
    from llara_eval.evaluation.suite import encode_all

    shared = {**encoding.shared(), "data_dir": encoding.data_dir.absolute(), "home": home().absolute()}
    work = partial(encode_all, model, dataset, split=split, lease_seconds=lease_seconds, **shared)
    show_rows = partial(_print, as_json=encoding.as_json)
    if launcher is Launcher.LOCAL and workers == 1:
        first = int(os.environ.get("RANK", "0")) == 0  # of several that torchrun started
        with redirect_stdout(sys.stderr):  # some libraries talk, and stdout is for results
            reports = work(progress=progress(quiet=encoding.quiet or not first))
        if first:
            show_rows(reports)
        return
    from llara_eval.cli import launch

    alone = arguments(context, launcher=Launcher.LOCAL, workers=1)
    if launcher is Launcher.LOCAL:
        written = launch.local([*alone, "--json"], workers)
        show_rows(_together([list(map(json.loads, text.splitlines())) for text in written]))
    elif launcher is Launcher.TORCHRUN:
        launch.torchrun(alone, workers)
    elif launcher is Launcher.RAY:
        show_rows(_together(launch.on_ray(work, workers)))
    else:
        _submit(alone, workers, shared["home"], model)


def _together(reports: list[Rows]) -> Rows:
    """Return the report of several workers: each made a part, and found what the others had made.

    What one made before it died counts as found; what two made, one taking over from the other, counts once.
    """
    found = reports[0]
    for number, row in enumerate(found):
        for side in _SIDES:
            made = sum(report[number][side]["made"] for report in reports)
            row[side]["made"] = min(made, row[side]["rows"])
    return found


def arguments(context: typer.Context, **changes: Any) -> list[str]:
    """Return the words that call a command again as it was called, some parameters changed."""
    words = [str(context.info_name)]
    for parameter in context.command.params:
        value = changes.get(str(parameter.name), context.params.get(str(parameter.name)))
        flag = parameter.opts[0]
        if isinstance(value, bool):
            words += [flag] if value else []
        elif value is not None:
            words += [
                word
                for item in (value if isinstance(value, list | tuple) else [value])
                for word in (flag, str(item))
            ]
    return words


def _submit(alone: list[str], workers: int, home: Path, model: str) -> None:
    """Write an array script into the folder where one is, and submit it where that is possible."""
    from llara_eval.cli import slurm
    from llara_eval.cli.launch import program
    from llara_eval.core.files import slug

    file = Path(f"encode-{slug(Path(model).name)}.sbatch")
    answer = slurm.submit(slurm.script(program(alone), workers, folder=Path.cwd(), home=home), file)
    say(
        f"{file}: {answer}"
        if answer
        else f"there is no sbatch here; on a machine that has it: sbatch {file.absolute()}"
    )


def _print(rows: Rows, *, as_json: bool) -> None:
    """Print a report: a line of JSON for each data set, or a table."""
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row, ensure_ascii=False))
        return
    from rich.table import Table

    table = Table(
        *("data set", "texts"),
        title=f"Vectors of {plain(rows[0]['system'])}",
        caption="made: here and now, the others were found; tokens/s: of one worker, when they were made",
    )
    for heading in ("number", "made", "tokens", "tokens/s"):
        table.add_column(heading, justify="right")
    for row in rows:
        for side in _SIDES:
            part = row[side]
            speed = f"{part['tokens'] / part['seconds']:,.0f}" if part["seconds"] else "–"
            name = plain(row["dataset"]) if side == _SIDES[0] else ""
            table.add_row(name, side, f"{part['rows']:,}", f"{part['made']:,}", f"{part['tokens']:,}", speed)
    show(table)
    for folder in dict.fromkeys(rows[0][side]["vectors"] for side in _SIDES):
        say(f"vectors: {folder}")
