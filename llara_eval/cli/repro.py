"""``llara-eval repro``: published values, measured again."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llara_eval.cli import options
from llara_eval.cli.console import print_json, say, set_up, show
from llara_eval.core.errors import DataError, DriftError, LlaraEvalError, PartialResultsError, UsageError
from llara_eval.core.paths import home

if TYPE_CHECKING:
    from llara_eval.reports.reproduction import Cell, Finding

_READY = "ready"


def repro(
    data_dir: options.DataDir,
    system: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="bm25, bm25-multifield, bm25-tuned, all-minilm-l6-v2, repllama or llara; repeatable, or "
            "with commas.",
        ),
    ] = None,
    datasets: options.SomeDatasets = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", metavar="SYSTEM=PATH", help="The checkpoint of repllama or llara; repeatable."
        ),
    ] = None,
    runs_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The folder in which results are kept.",
            show_default="repro in the cache folder",
        ),
    ] = None,
    on_existing: options.OnExisting = "always",
    only_list: Annotated[
        bool, typer.Option("--list", help="Show what would be measured, and measure nothing.")
    ] = False,
    offline: options.Offline = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure published values again: each is OK, close or a FAIL.

    Each is shown with its source and its command. Data sets that are named are downloaded if they are not at
    hand; by default all those at hand are used.

    The exit code is 5 for a FAIL, and 6 if some are not measured. With --json, each value is one line.
    """
    from llara_eval.cli import tables
    from llara_eval.reports.reproduction import choose

    set_up(quiet=quiet, verbose=verbose)
    systems, names = options.split_list(",".join(system or [])), datasets or []
    cells = choose(_all_cells(), systems=systems, datasets=names, models=_checkpoints(model or []))
    states = [_state(cell, data_dir) for cell in cells]
    if only_list:
        if as_json:
            print_json(*tables.cell_objects(cells, states))
        else:
            show(tables.list_table(cells, states))
            _print_commands(cells)
        return
    ready = _ready(cells, states, data_dir, systems=systems, any_state=bool(names))
    findings = measure(
        ready,
        data_dir=data_dir,
        runs_dir=runs_dir or home() / "repro",
        on_existing=on_existing,
        offline=offline,
        quiet=quiet,
    )
    if as_json:
        print_json(*tables.finding_objects(findings))
    else:
        show(tables.findings_table(findings))
        _print_commands(ready)
    conclude(findings)


def _ready(
    cells: "Sequence[Cell]", states: Sequence[str], data_dir: Path, *, systems: Sequence[str], any_state: bool
) -> "list[Cell]":
    """Return the cells to measure: those at hand, or, if the data sets were named, all with a checkpoint.

    Raises:
        UsageError: A system that was named, or every system, needs a checkpoint and has none.
        DataError: No data set is at hand.
    """
    opened = [cell for cell in cells if cell.model]
    for cell in cells:
        if not cell.model and (cell.system in systems or not opened):
            raise UsageError(f"{cell.system} needs a checkpoint: --model {cell.system}=PATH")
    ready = [
        cell
        for cell, state in zip(cells, states, strict=True)
        if cell.model and (any_state or state == _READY)
    ]
    if not ready:
        raise DataError(f"none of the data sets is in {data_dir}; --list shows them")
    return ready


def _all_cells() -> "tuple[Cell, ...]":
    """Return the cells of our table and of Anserini's regressions, which count where both have a value."""
    from llara_eval.evaluation.suite import require_own_adapters

    require_own_adapters()
    from adapters.anserini import anserini_jar
    from llara_eval.reports import published
    from llara_eval.reports.anserini_regressions import read
    from llara_eval.reports.reproduction import cells

    return cells([*published.load(), *read(anserini_jar())])


def _checkpoints(pairs: Sequence[str]) -> dict[str, str]:
    """Return system → checkpoint.

    Raises:
        UsageError: A pair has no ``=``, or a system is given twice.
    """
    checkpoints: dict[str, str] = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not equals:
            raise UsageError(f"--model {pair!r}: expected SYSTEM=PATH, e.g. llara=checkpoints/llara-7b")
        if name in checkpoints:
            raise UsageError(f"--model {name} is given twice, as {checkpoints[name]} and as {path}")
        checkpoints[name] = path
    return checkpoints


def _state(cell: "Cell", data_dir: Path) -> str:
    """Return whether a cell can be measured without a download, or else what is missing."""
    from llara_eval.datasets.load import locate

    try:
        for member in cell.members:
            locate(member, data_dir=data_dir, offline=True)
    except DataError:
        return "not at hand"
    return _READY if cell.model else "no checkpoint"


def measure(cells: "Iterable[Cell]", **conditions: Any) -> "list[Finding]":
    """Evaluate each cell as ``llara-eval evaluate`` does; a cell that fails does not stop the others.

    Args:
        cells: The cells to measure.
        conditions: Folders and such, as :func:`llara_eval.cli.evaluation.run` takes them.
    """
    from llara_eval.reports.reproduction import Finding

    findings = []
    for cell in cells:
        try:
            means = [_means(cell, member, conditions) for member in cell.members]
        except LlaraEvalError as error:
            say(f"{cell.system} on {cell.dataset} could not be measured: {error}", style="red")
            findings += [Finding(cell, expected, error=error) for expected in cell.expected]
            continue
        for expected in cell.expected:
            mean = math.fsum(member[expected.measure] for member in means) / len(means)
            findings.append(Finding(cell, expected, mean))
    return findings


def _means(cell: "Cell", member: str, conditions: dict[str, Any]) -> dict[str, float]:
    """Return measure → mean of one data set of a cell.

    Raises:
        DataError: The folder is not the data set, or a result that was kept lacks a measure.
    """
    from llara_eval.cli.evaluation import run
    from llara_eval.core.paths import store
    from llara_eval.datasets.known import DEPTH

    (outcome,), _ = run(
        [str(cell.model)],
        [member],
        split=cell.split,
        measures=list(cell.measures_of(member)),
        depth=DEPTH,
        options=dict(cell.settings),
        store=store(),
        **conditions,
    )
    result = outcome.result
    if result.dataset != member:
        raise DataError(f"{member} was requested, but {'; '.join(result.warnings)}")
    lacking = sorted({expected.measure for expected in cell.expected} - result.means.keys())
    if lacking:
        raise DataError(f"{outcome.folder} has no {', '.join(lacking)}; --on-existing always measures it")
    return result.means


def conclude(findings: "Sequence[Finding]") -> None:
    """Print a summary, or raise an error that begins with it if not all values are OK or close.

    Raises:
        DriftError: A value is a FAIL.
        PartialResultsError: Some values could not be measured.
        LlaraEvalError: No value could be measured; the first error is raised.
    """
    verdicts = [finding.verdict for finding in findings]
    errors = [finding.error for finding in findings if finding.error]
    summary = ", ".join(f"{verdicts.count(name)} {name}" for name in ("OK", "close", "FAIL"))
    if errors:
        summary += f", {len(errors)} not measured"
    failed = [
        f"{cell.system} on {cell.dataset}: {expected.measure} {measured:.4f}, published {expected.value:.4f}"
        for (cell, expected, measured, _), verdict in zip(findings, verdicts, strict=True)
        if verdict == "FAIL"
    ]
    if failed:
        raise DriftError("\n".join([summary, *failed]))
    if len(errors) == len(findings):
        raise errors[0]
    if errors:
        raise PartialResultsError(f"{summary}: {errors[0]}")
    say(summary)


def _print_commands(cells: "Sequence[Cell]") -> None:
    """Print the command of each cell, with the sources of its values as a comment behind it."""
    for cell in cells:
        sources = dict.fromkeys(expected.source for expected in cell.expected)
        typer.echo(f"{cell.command}  # {'; '.join(sources)}")
        for expected in cell.expected:
            for other in expected.disputed:
                typer.echo(f"#   {expected.measure} also published as {other}")
