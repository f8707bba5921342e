"""``llara-eval encode``: the vectors of data sets, made by as many workers as there are."""

import json
import os
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llara_eval.cli import options
from llara_eval.cli.console import plain, progress, say, set_up_logging, show
from llara_eval.core.errors import UsageError
from llara_eval.core.protocols import SILENT, Progress

if TYPE_CHECKING:
    from adapters.options import Context


class Launcher(StrEnum):
    """What starts the workers."""

    LOCAL = "local"
    TORCHRUN = "torchrun"
    SLURM = "slurm"
    RAY = "ray"


Rows = list[dict[str, Any]]
"""What came of each data set, as ``--json`` prints it."""

_SIDES = ("documents", "queries")


def encode(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="A checkpoint folder, a GGUF file, a hub name, or a dense system's name."
        ),
    ],
    dataset: options.Datasets,
    data_dir: options.DataDir,
    store: options.Store,
    split: options.Split = None,
    option: options.Settings = None,
    dtype: options.Dtype = None,
    max_length: options.MaxLength = None,
    batch_tokens: options.BatchTokens = None,
    backend: options.Backend = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="How many share the work.")] = 1,
    launcher: Annotated[Launcher, typer.Option("--launcher", help="What starts them.")] = Launcher.LOCAL,
    lease_seconds: Annotated[
        float,
        typer.Option("--lease-seconds", min=1, help="Silence after which a worker's shard is another's."),
    ] = 600.0,
    offline: options.Offline = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Tokenise and encode documents and queries, as far as that has not been done.

    Evaluating the same model on the same data then finds the vectors. Any number of workers may be started,
    here or on other machines that see the same folders, by a launcher or by hand; they share the work.
    Killed at any time, the same command goes on. On processors of one kind, with as many threads each, the
    bytes in the end are those that one worker would have written.
    """
    set_up_logging(quiet=quiet, verbose=verbose)
    from llara_eval.cli.installation import require_own_adapters

    require_own_adapters()
    from adapters.options import Context
    from llara_eval.core.paths import home
    from llara_eval.datasets.known import expand

    names = list(dict.fromkeys(part for name in dataset for part in expand(name)))
    settings = options.settings(
        option, dtype=dtype, max_length=max_length, batch_tokens=batch_tokens, backend=backend
    )
    surroundings = Context(home().absolute(), offline=offline, store=store, lease_seconds=lease_seconds)
    work = partial(_work, model, names, settings, data_dir.absolute(), split, surroundings)
    if launcher is Launcher.LOCAL and workers == 1:
        first = int(os.environ.get("RANK", "0")) == 0  # of several that torchrun started
        with redirect_stdout(sys.stderr):  # some libraries talk, and stdout is for results
            found = work(progress(quiet=quiet or not first))
        if first:
            _print(found, as_json=as_json)
        return
    from llara_eval.cli import launch

    alone = arguments(context, launcher=Launcher.LOCAL, workers=1)
    if launcher is Launcher.LOCAL:
        written = launch.local([*alone, "--json"], workers)
        _print(_together([list(map(json.loads, text.splitlines())) for text in written]), as_json=as_json)
    elif launcher is Launcher.TORCHRUN:
        launch.torchrun(alone, workers)
    elif launcher is Launcher.RAY:
        _print(_together(launch.on_ray(work, workers)), as_json=as_json)
    else:
        _submit(alone, workers, surroundings.home, model)


def _work(
    model: str,
    names: list[str],
    settings: dict[str, Any],
    data_dir: Path,
    split: str | None,
    context: "Context",
    watch: Progress = SILENT,
) -> Rows:
    """Do what one worker does.

    Returns:
        For each data set, what was made and what it cost, as ``--json`` prints it.
    """
    from adapters import open_system
    from llara_eval.datasets import load as sets
    from llara_eval.datasets.msmarco_sets import text_length

    rows: Rows = []
    system: Any = None
    for name in names:
        dataset = sets.load(name, data_dir=data_dir, split=split, offline=context.offline, progress=watch)
        needed = replace(context, text_length=text_length(name))
        if system is None or needed != context:
            system = None  # two at a time might not fit into memory
            system, context = open_system(model, settings, needed), needed
        if not hasattr(system, "encode_queries"):
            raise UsageError(f"{model} encodes nothing: it is not a dense retriever")
        system.index(dataset.corpus, watch)
        queries = system.encode_queries(dataset.queries, watch)
        rows.append(
            {
                "system": system.name,
                "dataset": dataset.name,
                "documents": _account(system.phases["index"], system.documents.place),
                "queries": _account(system.phases["encode queries"], queries.place),
            }
        )
    return rows


def _account(cost: dict[str, float], place: object) -> dict[str, Any]:
    """Return what vectors cost when they were made, how many were made now, and where they are."""
    made = cost["rows"] - cost["reused"]
    return {
        "rows": cost["rows"],
        "made": made,
        "tokens": cost["tokens"],
        "seconds": cost["seconds"],
        "vectors": str(place),
    }


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
