"""``llara-eval datasets``: the data sets that can be named, and which are at hand."""

import json

import typer

from llara_eval.cli import options
from llara_eval.cli.console import plain, show


def datasets(data_dir: options.DataDir, as_json: options.Json = False) -> None:
    """List the data sets known by name; any folder in BEIR layout can be evaluated as well."""
    from llara_eval.catalogue import KNOWN_SETS

    rows = [
        {
            "name": known.name,
            "split": known.split,
            "documents": known.documents,
            "queries": known.queries,
            "judgements": known.judgements,
            "own_id_dropped": known.drop_own_ids,
            "at_hand": (data_dir / known.folder).is_dir(),
        }
        for known in KNOWN_SETS.values()
    ]
    others = sorted(
        folder.name
        for folder in (data_dir.iterdir() if data_dir.is_dir() else ())
        if (folder / "qrels").is_dir() and f"beir/{folder.name}" not in KNOWN_SETS
    )
    if as_json:
        extra = [{"name": name, "at_hand": True} for name in ("demo", *others)]
        typer.echo(json.dumps([*extra, *rows]))
        return
    from rich.table import Table

    table = Table("name", "split", title=f"data sets (those at hand are in {data_dir})")
    for title in ("documents", "queries", "judgements"):
        table.add_column(title, justify="right")
    table.add_column("own id dropped")
    table.add_column("at hand")
    table.add_row("demo", "test", "", "", "", "", "in the package")
    for row in rows:
        counts = [
            "" if row[key] is None else f"{row[key]:,}" for key in ("documents", "queries", "judgements")
        ]
        marks = ["yes" if row[key] else "" for key in ("own_id_dropped", "at_hand")]
        table.add_row(str(row["name"]), str(row["split"]), *counts, *marks)
    for name in others:
        table.add_row(plain(name), "", "", "", "", "", "yes")
    show(table)
