"""``llara-eval datasets``: the data sets that can be named: list, fetch, verify, show."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llara_eval.cli import options
from llara_eval.cli.console import plain, progress, say, set_up_logging, show, width
from llara_eval.core.errors import DataError, PartialResultsError

if TYPE_CHECKING:
    from llara_eval.datasets.inventory import Verdict

app = typer.Typer(cls=options.Commands, rich_markup_mode=None)

Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME", help="Names, with or without beir/; cqadupstack, beir-13, …, beir-18."),
]
Some = Annotated[
    list[str] | None, typer.Argument(metavar="NAME", help="Names or folders; all at hand by default.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A data set, or cqadupstack, beir-13, …, beir-18.")]

_LISTED = ("name", "split", "documents", "queries", "judgements", "licence", "own_id_dropped", "at_hand")
_NUMBERS = ("documents", "queries", "judgements")
_LESS = ("name", *_NUMBERS, "at_hand")
_WIDTH = 118
"""Columns that the whole list needs."""


@app.callback(invoke_without_command=True)
def datasets(ctx: typer.Context, data_dir: options.DataDir, as_json: options.Json = False) -> None:
    """List the data sets known by name; fetch, verify and describe them."""
    if ctx.invoked_subcommand is None:
        list_sets(data_dir, as_json)
    else:  # what stands before a command is meant for it
        ctx.default_map = {ctx.invoked_subcommand: {"data_dir": data_dir, "as_json": as_json}}


@app.command("list")
def list_sets(data_dir: options.DataDir, as_json: options.Json = False) -> None:
    """List the data sets known by name, and those in the data folder; any other folder can be named too."""
    from llara_eval.datasets.inventory import describe, others
    from llara_eval.datasets.known import KNOWN
    from llara_eval.datasets.load import DEMO

    rows = [describe(name, data_dir) for name in (DEMO, *others(data_dir), *KNOWN)]
    if as_json:
        typer.echo(json.dumps([{key: row[key] for key in _LISTED} for row in rows]))
        return
    _show_rows(rows, f"data sets (those at hand are in {data_dir})")


@app.command("fetch")
def fetch(
    names: Names, data_dir: options.DataDir, as_json: options.Json = False, quiet: options.Quiet = False
) -> None:
    """Download data sets, check their checksums and unpack them; the same command goes on after a break.

    Licensed sets are not downloaded: the error says how to obtain them. Exits 6 if some were not fetched.
    """
    from llara_eval.datasets.inventory import fetch as fetch_one

    set_up_logging(quiet=quiet, verbose=False)
    wanted, watch = _expanded(names), progress(quiet=quiet)
    rows: list[dict[str, Any]] = []
    errors: list[DataError] = []
    for name in wanted:
        try:
            folder, fresh = fetch_one(name, data_dir, watch)
        except DataError as error:
            errors.append(error)
            rows.append({"name": name, "folder": None, "fetched": False, "problem": str(error)})
            if len(wanted) > 1:
                say(f"{_text(name)} failed: {error}", style="red")
            continue
        rows.append({"name": name, "folder": str(folder), "fetched": fresh, "problem": None})
        if not quiet:
            say(f"{_text(name)}: {'fetched' if fresh else 'was there already'}, {folder}")
    if as_json:
        typer.echo(json.dumps(rows))
    if len(errors) == len(rows):
        raise errors[0]
    if errors:
        raise PartialResultsError(f"{len(errors)} of {len(rows)} sets were not fetched: {errors[0]}")


@app.command("verify")
def verify(
    data_dir: options.DataDir,
    names: Some = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Read every line of data sets at hand; compare their counts, and their files with those once fetched.

    Works without a network. Exits 3 if a set is wrong or not at hand.
    """
    from llara_eval.datasets.inventory import at_hand
    from llara_eval.datasets.inventory import verify as verify_one

    wanted = _expanded(names) if names else at_hand(data_dir)
    if not wanted:
        raise DataError(f"{data_dir}: there is no data set to verify; `llara-eval datasets fetch` brings one")
    verdicts = [verify_one(name, data_dir, progress(quiet=quiet)) for name in wanted]
    if as_json:
        typer.echo(
            json.dumps([{**item._asdict(), "folder": item.folder and str(item.folder)} for item in verdicts])
        )
    else:
        _show_verdicts(verdicts)
    wrong = [f"{_text(item.name)}: {item.problem}" for item in verdicts if item.problem]
    if wrong:
        raise DataError(f"{len(wrong)} of {len(verdicts)} data sets are not as they should be: {wrong[0]}")


@app.command("show")
def show_set(name: Name, data_dir: options.DataDir, as_json: options.Json = False) -> None:
    """Show everything that is known of a data set, and what of it is at hand."""
    from llara_eval.datasets.inventory import describe

    rows = [describe(member, data_dir) for member in _expanded([name])]
    if as_json:
        typer.echo(json.dumps(rows if len(rows) > 1 else rows[0]))
    elif len(rows) > 1:
        _show_rows(rows, name)
    else:
        _show_facts(rows[0])


def _expanded(names: list[str]) -> list[str]:
    """Return the data sets that names stand for, each once."""
    from llara_eval.datasets.known import expand

    return list(dict.fromkeys(part for name in names for part in expand(name)))


def _show_rows(rows: list[dict[str, Any]], title: str) -> None:
    from rich.table import Table

    shown = _LISTED if width() >= _WIDTH else _LESS
    table = Table(title=plain(title), caption=None if shown is _LISTED else "a wider terminal shows more")
    for key in shown:
        table.add_column(
            key.replace("_", " "),
            justify="right" if key in _NUMBERS else "left",
            max_width=len("at hand") if key in ("own_id_dropped", "at_hand") else None,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(plain(_text(row[key])) for key in shown))
    show(table)


def _show_facts(facts: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("fact", title=plain(_text(facts["name"])), show_header=False)
    table.add_column("value", overflow="fold")
    for key, value in facts.items():
        if value not in (None, []):
            table.add_row(key.replace("_", " "), "no" if value is False else plain(_text(value)))
    show(table)


def _show_verdicts(verdicts: "list[Verdict]") -> None:
    from rich.table import Table

    table = Table("name", title="verified")
    for key in _NUMBERS:
        table.add_column(key, justify="right")
    table.add_column("checksums")
    table.add_column("")
    for item in verdicts:
        counts = (_text(count) for count in (item.documents, item.queries, item.judgements))
        mark = "[bold red]wrong[/]" if item.problem else "[green]ok[/]"
        table.add_row(plain(_text(item.name)), *counts, plain(item.checksums), mark)
    show(table)
    for item in verdicts:
        for note in filter(None, [item.problem, *item.warnings]):
            say(f"{_text(item.name)}: {note}", style="red" if note == item.problem else None)


def _text(value: Any) -> str:
    """Return a value for a table; what cannot be printed in a name is written as an escape."""
    if value is None or value is False:
        return ""
    if value is True:
        return "yes"
    if isinstance(value, int):
        return f"{value:,}"
    text = ", ".join(value) if isinstance(value, list) else str(value)
    return text if text.isprintable() else repr(text)[1:-1]
