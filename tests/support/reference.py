"""The commands and their options, as ``--help`` shows them.

``python tests/support/reference.py > docs/cli.md`` prints the page again after an option has changed.
"""

import sys
from collections.abc import Iterator
from typing import Any

import typer

from llara_eval.cli import app

WIDTH = 80

START = """# Every command and its options

This page is the program's own `--help`, command by command:

```
llara-eval --help
llara-eval evaluate --help
```

It is printed by `python tests/support/reference.py > docs/cli.md`, and a test compares it with the program.
"""


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the full name of a command and the command itself, then those below it."""
    yield name, command
    for below in getattr(command, "commands", {}).values():
        yield from commands(below, f"{name} {below.name}")


def page() -> str:
    """Return the page: one section for each command."""
    parts = [START]
    for name, command in commands(typer.main.get_command(app), "llara-eval"):
        context = command.context_class(
            command,
            info_name=name,
            terminal_width=WIDTH,
            max_content_width=WIDTH,
            help_option_names=["-h", "--help"],
        )
        parts.append(f"## {name}\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
