"""``llara-eval doctor``: everything the program depends on, and what is missing."""

import json

import typer

from llara_eval.cli import options
from llara_eval.cli.console import plain, show


def doctor(data_dir: options.DataDir, as_json: options.Json = False) -> None:
    """Show what this installation can do; exit 7 if an optional part is missing."""
    from llara_eval.cli.installation import diagnose
    from llara_eval.core.errors import MissingPartError

    findings = diagnose(data_dir)
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in findings]))
    else:
        from rich.table import Table

        table = Table("part", "", "found", "way out")
        for finding in findings:
            mark = "[green]ok[/]" if finding.ok else "[bold red]missing[/]"
            way_out = "" if finding.ok else finding.way_out
            table.add_row(finding.part, mark, plain(finding.found), plain(way_out))
        show(table)
    missing = [finding.part for finding in findings if not finding.ok]
    if missing:
        raise MissingPartError(f"missing: {', '.join(missing)}")
