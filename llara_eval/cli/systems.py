"""``llara-eval systems``: the systems known by name."""

import json

import typer

from llara_eval.cli import options
from llara_eval.cli.console import show


def systems(as_json: options.Json = False) -> None:
    """List the systems known by name; any checkpoint folder can be evaluated as well."""
    from adapters import SYSTEMS

    if as_json:
        typer.echo(
            json.dumps([{"name": name, "description": entry.description} for name, entry in SYSTEMS.items()])
        )
        return
    from rich.table import Table

    table = Table(
        "name",
        "system",
        caption="Anything else after --model is a checkpoint: folder, GGUF file or hub name.",
    )
    for name, entry in SYSTEMS.items():
        table.add_row(name, entry.description)
    show(table)
