"""``llara-eval repro``: published values, measured again."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llara_eval.cli import options
from llara_eval.cli.console import say, set_up_logging, show
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
            "--system",
            help="bm25, bm25-multifield, bm25-tuned, all-minilm-l6-v2, repllama, llara; repeatable, or with "
            "commas.",
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
            "--runs-dir", help="Where results are kept; by default a folder in the cache.", show_default=False
        ),
    ] = None,
    on_existing: options.OnExisting = options.Existing.ALWAYS,
    only_list: Annotated[bool, typer.Option("--list", help="Measure nothing: show what would be.")] = False,
    offline: options.Offline = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure published values again: OK, close or FAIL, each with its source and its command.

    Data sets that are named are downloaded if need be; by default those at hand are taken.

    Exit code 5 on a FAIL, 6 if something could not be measured. With --json, one object per value is
    printed on stdout, a line each.
    """
    from llara_eval.cli import tables
    from llara_eval.reports.reproduction import choose

    set_up_logging(quiet=quiet, verbose=verbose)
    systems, names = options.split_list(",".join(system or [])), datasets or []
    chosen = choose(_every_cell(), systems=systems, datasets=names, models=_checkpoints(model or []))
    states = [_state(cell, data_dir) for cell in chosen]
    if only_list:
        if as_json:
            _print_objects(tables.cell_objects(chosen, states))
        else:
            show(tables.list_table(chosen, states))
            _print_commands(chosen)
        return
    ready = _ready(chosen, states, data_dir, asked=systems, any_state=bool(names))
    findings = measure(
        ready,
        data_dir=data_dir,
        runs_dir=runs_dir or home() / "repro",
        on_existing=on_existing.value,
        offline=offline,
        quiet=quiet,
    )
    if as_json:
        _print_objects(tables.finding_objects(findings))
    else:
        show(tables.findings_table(findings))
        _print_commands(ready)
    conclude(findings)


def _ready(
    cells: "Sequence[Cell]", states: Sequence[str], data_dir: Path, *, asked: Sequence[str], any_state: bool
) -> "list[Cell]":
    """Return the cells to measure: those at hand, or all that have a system if the data sets were named.

    Raises:
        UsageError: A checkpoint is missing for a system that was asked for, or for all of them.
        DataError: Nothing is at hand.
    """
    able = [cell for cell in cells if cell.model]
    for cell in cells:
        if not cell.model and (cell.system in asked or not able):
            raise UsageError(f"{cell.system} needs a checkpoint: --model {cell.system}=PATH")
    ready = [
        cell
        for cell, state in zip(cells, states, strict=True)
        if cell.model and (any_state or state == _READY)
    ]
    if not ready:
        raise DataError(f"none of the data sets is in {data_dir}; --list shows them")
    return ready


def _every_cell() -> "tuple[Cell, ...]":
    """Return the cells of our table and of Anserini's own regressions; the latter count where both are."""
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
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not equals:
            raise UsageError(f"--model {pair!r}: expected SYSTEM=PATH, e.g. llara=checkpoints/llara-7b")
        if name in found:
            raise UsageError(f"--model {name} is given twice, as {found[name]} and as {path}")
        found[name] = path
    return found


def _state(cell: "Cell", data_dir: Path) -> str:
    """Say whether a cell can be measured without a download, or what is missing."""
    from llara_eval.datasets.load import locate

    try:
        for member in cell.members:
            locate(member, data_dir=data_dir, offline=True)
    except DataError:
        return "not at hand"
    return _READY if cell.model else "no checkpoint"


def measure(cells: "Iterable[Cell]", **surroundings: Any) -> "list[Finding]":
    """Evaluate each cell as ``llara-eval evaluate`` does; one that cannot be does not stop the others.

    Args:
        cells: What to measure.
        surroundings: Folders and such, as :func:`llara_eval.cli.evaluation.run` takes them.
    """
    from llara_eval.reports.reproduction import Finding

    findings = []
    for cell in cells:
        try:
            of_members = [_means(cell, member, surroundings) for member in cell.members]
        except LlaraEvalError as error:
            say(f"{cell.system} on {cell.dataset} could not be measured: {error}", style="red")
            findings += [Finding(cell, item, error=error) for item in cell.expected]
            continue
        for item in cell.expected:
            found = math.fsum(values[item.measure] for values in of_members) / len(of_members)
            findings.append(Finding(cell, item, found))
    return findings


def _means(cell: "Cell", member: str, surroundings: Mapping[str, Any]) -> dict[str, float]:
    """Return measure → mean of one data set of a cell."""
    from llara_eval.cli.evaluation import run
    from llara_eval.core.paths import store
    from llara_eval.datasets.known import DEPTH

    (outcome,), _ = run(
        [str(cell.model)],
        [member],
        split=cell.split,
        measures=list(cell.measures),
        depth=DEPTH,
        options=dict(cell.settings),
        store=store(),
        **surroundings,
    )
    result = outcome.result
    if result.dataset != member:
        raise DataError(f"{member} was asked for, but {'; '.join(result.warnings)}")
    lacking = sorted({item.measure for item in cell.expected} - result.means.keys())
    if lacking:
        raise DataError(f"{outcome.folder} has no {', '.join(lacking)}; --on-existing always measures it")
    return result.means


def conclude(findings: "Sequence[Finding]") -> None:
    """Say how it went, and raise if not all is well.

    Raises:
        DriftError: A value is a FAIL.
        PartialResultsError: Some values could not be measured.
        LlaraEvalError: None could be: the first error, as it is.
    """
    verdicts = [finding.verdict for finding in findings]
    errors = [finding.error for finding in findings if finding.error]
    summary = ", ".join(f"{verdicts.count(name)} {name}" for name in ("OK", "close", "FAIL"))
    if errors:
        summary += f", {len(errors)} not measured"
    failed = [
        f"{cell.system} on {cell.dataset}: {expected.measure} {found:.4f}, published {expected.value:.4f}"
        for (cell, expected, found, _), verdict in zip(findings, verdicts, strict=True)
        if verdict == "FAIL"
    ]
    if failed:
        raise DriftError("\n".join([summary, *failed]))
    if len(errors) == len(findings):
        raise errors[0]
    if errors:
        raise PartialResultsError(f"{summary}: {errors[0]}")
    say(summary)


def _print_objects(objects: Iterable[Mapping[str, Any]]) -> None:
    for item in objects:
        typer.echo(json.dumps(item, ensure_ascii=False))


def _print_commands(cells: "Sequence[Cell]") -> None:
    """Print each cell's command, with the source of its values as a comment behind it."""
    for cell in cells:
        sources = dict.fromkeys(item.source for item in cell.expected)
        typer.echo(f"{cell.command}  # {'; '.join(sources)}")
        for item in cell.expected:
            for other in item.disputed:
                typer.echo(f"#   {item.measure} also published as {other}")
