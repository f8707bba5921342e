"""``llara-eval datasets``: the data sets that can be named: list, fetch, verify, show."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llara_eval.cli import options
from llara_eval.cli.console import print_json, say, set_up, show, styled, table, width
from llara_eval.cli.help import Command, Commands
from llara_eval.core.errors import DataError, PartialResultsError

if TYPE_CHECKING:
    from rich.table import Table

    from llara_eval.datasets.inventory import Verdict

app = typer.Typer(cls=Commands, rich_markup_mode=None)

_GROUPS = "such as beir-13, nanobeir or cqadupstack"
Names = Annotated[
    list[str], typer.Argument(metavar="NAME", help=f"Names of data sets, or of groups {_GROUPS}.")
]
Some = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="Names or folders; by default all data sets at hand."),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help=f"A data set, or a group {_GROUPS}.")]

_LISTED = ("name", "split", "documents", "queries", "judgements", "licence", "own_id_dropped", "at_hand")
_NUMBERS = ("documents", "queries", "judgements")
_NARROW = ("name", *_NUMBERS, "at_hand")
_WIDTH = 118
"""The columns of a terminal that hold the whole list."""


@app.callback(invoke_without_command=True)
def datasets(ctx: typer.Context, data_dir: options.DataDir, as_json: options.Json = False) -> None:
    """List, fetch, verify and show the data sets known by name."""
    if ctx.invoked_subcommand is None:
        list_sets(data_dir, as_json)
    else:  # options that stand before a command are meant for that command
        ctx.default_map = {ctx.invoked_subcommand: {"data_dir": data_dir, "as_json": as_json}}


@app.command("list", cls=Command)
def list_sets(data_dir: options.DataDir, as_json: options.Json = False) -> None:
    """List the data sets known by name, and those in the data folder.

    Any other folder can be named too.
    """
    from llara_eval.datasets.inventory import damaged, describe, others
    from llara_eval.datasets.known import KNOWN
    from llara_eval.datasets.load import DEMO

    facts = [describe(name, data_dir) for name in (DEMO, *others(data_dir), *KNOWN)]
    for name, problem in damaged(data_dir).items():
        say(f"{name} is left out: {problem}", style="red")
    if as_json:
        print_json([{key: item[key] for key in _LISTED} for item in facts])
    else:
        show(_list_table(facts, f"data sets (those at hand are in {data_dir})"))


@app.command("fetch", cls=Command)
def fetch(
    names: Names, data_dir: options.DataDir, as_json: options.Json = False, quiet: options.Quiet = False
) -> None:
    """Download data sets, check their checksums and unpack them.

    The same command continues a download that broke off. Licensed data sets are not downloaded: the error
    says how to obtain them. The exit code is 6 if some data sets are missing.
    """
    from llara_eval.datasets.inventory import fetch as fetch_one

    progress = set_up(quiet=quiet)
    members = _expanded(names)
    objects: list[dict[str, Any]] = []
    errors: list[DataError] = []
    for name in members:
        try:
            folder, fresh = fetch_one(name, data_dir, progress)
        except DataError as error:
            errors.append(error)
            objects.append({"name": name, "folder": None, "fetched": False, "problem": str(error)})
            if len(members) > 1:
                say(f"{_text(name)} failed: {error}", style="red")
            continue
        objects.append({"name": name, "folder": str(folder), "fetched": fresh, "problem": None})
        if not quiet:
            say(f"{_text(name)}: {'fetched' if fresh else 'was at hand'}, {folder}")
    if as_json:
        print_json(objects)
    if len(errors) == len(members):
        raise errors[0]
    if errors:
        raise PartialResultsError(f"{len(errors)} of {len(members)} data sets were not fetched: {errors[0]}")


@app.command("verify", cls=Command)
def verify(
    data_dir: options.DataDir, names: Some = None, as_json: options.Json = False, quiet: options.Quiet = False
) -> None:
    """Read every line of data sets at hand, and compare their checksums.

    The counts of documents, queries and judgements are compared, too. No network is needed. The exit code is
    3 if a data set is wrong or not at hand.
    """
    from llara_eval.datasets.inventory import at_hand
    from llara_eval.datasets.inventory import verify as verify_one

    members = _expanded(names) if names else at_hand(data_dir)
    if not members:
        raise DataError(f"{data_dir}: there is no data set to verify; `llara-eval datasets fetch` brings one")
    progress = set_up(quiet=quiet)
    verdicts = [verify_one(name, data_dir, progress) for name in members]
    if as_json:
        print_json([{**item._asdict(), "folder": item.folder and str(item.folder)} for item in verdicts])
    else:
        show(_verdict_table(verdicts))
        for verdict in verdicts:
            if verdict.problem:
                say(f"{_text(verdict.name)}: {verdict.problem}", style="red")
            for warning in verdict.warnings:
                say(f"{_text(verdict.name)}: {warning}")
    wrong = [f"{_text(verdict.name)}: {verdict.problem}" for verdict in verdicts if verdict.problem]
    if wrong:
        raise DataError(f"{len(wrong)} of {len(verdicts)} data sets have defects: {wrong[0]}")


@app.command("show", cls=Command)
def show_set(name: Name, data_dir: options.DataDir, as_json: options.Json = False) -> None:
    """Show all that is known of a data set, and its files at hand."""
    from llara_eval.datasets.inventory import describe

    facts = [describe(member, data_dir) for member in _expanded([name])]
    single = len(facts) == 1
    if as_json:
        print_json(facts[0] if single else facts)
    elif single:
        show(_facts_table(facts[0]))
    else:
        show(_list_table(facts, name))


def _expanded(names: list[str]) -> list[str]:
    """Return the data sets that names of data sets and groups stand for, each once."""
    from llara_eval.datasets.known import expand

    return list(dict.fromkeys(member for name in names for member in expand(name)))


def _list_table(facts: list[dict[str, Any]], title: str) -> "Table":
    keys = _LISTED if width() >= _WIDTH else _NARROW
    drawn = table(
        [key.replace("_", " ") for key in keys],
        [[_text(item[key]) for key in keys] for item in facts],
        numbers=_NUMBERS,
        title=title,
        caption="" if keys is _LISTED else "a wider terminal shows more",
    )
    for key, column in zip(keys, drawn.columns, strict=True):
        if key in ("own_id_dropped", "at_hand"):
            column.max_width = len("at hand")
    return drawn


def _facts_table(facts: dict[str, Any]) -> "Table":
    rows = [
        [key.replace("_", " "), "no" if value is False else _text(value)]
        for key, value in facts.items()
        if value not in (None, [])
    ]
    return table(["fact", "value"], rows, title=_text(facts["name"]), show_header=False)


def _verdict_table(verdicts: "list[Verdict]") -> "Table":
    rows = [
        [
            *map(_text, (verdict.name, verdict.documents, verdict.queries, verdict.judgements)),
            verdict.checksums,
            styled("wrong", "bold red") if verdict.problem else styled("ok", "green"),
        ]
        for verdict in verdicts
    ]
    return table(["name", *_NUMBERS, "checksums", ""], rows, numbers=_NUMBERS, title="verified")


def _text(value: Any) -> str:
    """Return a value as text; a name with characters that cannot be printed has escapes for them."""
    if value is None or value is False:
        return ""
    if value is True:
        return "yes"
    if isinstance(value, int):
        return f"{value:,}"
    text = ", ".join(value) if isinstance(value, list) else str(value)
    return text if text.isprintable() else repr(text)[1:-1]
