"""``llara-eval encode``: the vectors of data sets, made by any number of workers."""

import json
import os
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from llara_eval.cli import options
from llara_eval.cli.console import print_json, progress, say, show, table
from llara_eval.cli.evaluation import Encoding

Report = list[dict[str, Any]]
"""What was encoded: one object for each data set, as ``--json`` prints it."""

_SIDES = ("documents", "queries")


def encode(
    context: typer.Context,
    model: options.Checkpoint,
    dataset: options.Datasets,
    split: options.Split = None,
    documents: options.DocumentReading = "firstp",
    workers: Annotated[int, typer.Option(min=1, help="How many workers share the encoding.")] = 1,
    launcher: Annotated[
        Literal["local", "torchrun", "slurm", "ray"],
        typer.Option(help="What starts the workers; local starts processes of this machine."),
    ] = "local",
    lease_seconds: Annotated[
        float,
        typer.Option(
            min=1, help="How many seconds a worker may be silent before another takes over its shard."
        ),
    ] = 600.0,
    *,
    encoding: Encoding,
) -> None:
    """Encode documents and queries of data sets, to search them later.

    Evaluating the same model on the same data sets then finds the vectors. A launcher starts the workers;
    more may be started by hand, here or on other machines that see the same folders. If a worker is killed,
    the same command continues. On processors of one kind, with the same number of threads each, any number of
    workers write the same bytes as one worker.
    """
    from llara_eval.core.paths import home
    from llara_eval.evaluation.suite import Conditions, encode_all

    conditions = Conditions(
        **{**encoding.conditions(), "data_dir": encoding.data_dir.absolute()},
        split=split,
        maxp=documents == "maxp",
        home=home().absolute(),
        lease_seconds=lease_seconds,
    )
    show_report = partial(_print, as_json=encoding.as_json)
    if launcher == "local" and workers == 1:
        first = int(os.environ.get("RANK", "0")) == 0  # of several workers that torchrun started
        with redirect_stdout(sys.stderr):  # some libraries print messages, and stdout is for results
            progress_bars = progress(quiet=encoding.quiet or not first)
            report = encode_all(model, dataset, replace(conditions, progress=progress_bars))
        if first:
            show_report(report)
        return
    from llara_eval.cli import launch

    command = launch.arguments(context, "encode", launcher="local", workers=1)
    if launcher == "local":
        outputs = launch.local([*command, "--json"], workers)
        show_report(merged([list(map(json.loads, output.splitlines())) for output in outputs]))
    elif launcher == "torchrun":
        launch.torchrun(command, workers)
    elif launcher == "ray":
        show_report(merged(launch.on_ray(partial(encode_all, model, dataset, conditions), workers)))
    else:
        _submit(command, workers, home().absolute(), model)


def merged(reports: list[Report]) -> Report:
    """Return one report of several workers, each of which encoded a part of the vectors.

    Vectors of a worker that died are not counted as made. A shard that two workers encoded, because one took
    it over from the other, counts once.
    """
    merged_report = []
    for entries in zip_longest(*reports):
        entry, *others = filter(None, entries)
        for side in _SIDES:
            encoded = sum(one[side]["made"] for one in (entry, *others))
            entry[side]["made"] = min(encoded, entry[side]["rows"])
        merged_report.append(entry)
    return merged_report


def _submit(command: list[str], workers: int, home: Path, model: str) -> None:
    """Write the script of a Slurm array into the working directory, and submit it if sbatch is installed."""
    from llara_eval.cli import slurm
    from llara_eval.cli.processes import program
    from llara_eval.core.files import slug

    file = Path(f"encode-{slug(Path(model).name)}.sbatch")
    submission = slurm.submit(slurm.script(program(command), workers, folder=Path.cwd(), home=home), file)
    by_hand = f"sbatch is not installed here; on a machine that has it: sbatch {file.absolute()}"
    say(f"{file}: {submission or by_hand}")


def _print(report: Report, *, as_json: bool) -> None:
    """Print a report: one line of JSON for each data set, or a table."""
    if as_json:
        print_json(*report)
        return
    numbers = ("number", "made", "tokens", "tokens/s")
    rows = []
    for entry in report:
        for side in _SIDES:
            cost = entry[side]
            speed = f"{cost['tokens'] / cost['seconds']:,.0f}" if cost["seconds"] else "–"
            name = entry["dataset"] if side == _SIDES[0] else ""
            rows.append([name, side, cost["rows"], cost["made"], cost["tokens"], speed])
    drawn = table(
        ["data set", "texts", *numbers],
        rows,
        numbers=numbers,
        title=f"Vectors of {report[0]['system']}",
        caption="made: vectors that this command encoded; the others were stored before. tokens/s: of one "
        "worker, when they were encoded",
    )
    show(drawn)
    for folder in dict.fromkeys(report[0][side]["vectors"] for side in _SIDES):
        say(f"vectors: {folder}")
