"""How help is shown: commands in groups, options in panels with plain metavars, and two examples each."""

import inspect
import re
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any

from typer.core import TyperCommand, TyperGroup

from llara_eval.cli.config import given
from llara_eval.cli.examples import EXAMPLES
from llara_eval.core import provenance

_METAVARS = {"int": "N", "int range": "N", "float": "X", "float range": "X", "path": "PATH"}
"""Typer's name of a type → how the help shows a value of it; a choice is shown as its values."""

_HYPHEN = "\N{NON-BREAKING HYPHEN}"
"""Stands for a hyphen while lines are broken: elsewhere they would be broken inside ``trec-dl-2019``."""

_GENERAL = "General options"

_GENERAL_NAMES = ("config", "offline", "as_json", "quiet", "verbose", "version", "help")
"""The options that most commands have; they come last."""


class Command(TyperCommand):
    """A command whose help has its options in panels, and examples at its end.

    An option is in the panel of the dataclass that declares it (its ``PANEL``), see
    :func:`llara_eval.cli.options.grouped`.
    """

    def __init__(self, name: str | None, **settings: Any) -> None:
        super().__init__(name, **settings)
        self.help = _unbroken(self.help)

    def get_help(self, ctx: Any) -> str:
        """Return the help."""
        return super().get_help(ctx).replace(_HYPHEN, "-")

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words after the command; arguments that are required have no braces."""
        return [
            piece.translate({ord("{"): None, ord("}"): None}) for piece in super().collect_usage_pieces(ctx)
        ]

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters; one that has no metavar gets that of its type."""
        parameters: list[Any] = super().get_params(ctx)
        for parameter in parameters:
            if parameter.metavar is None and (label := parameter.display_type(ctx)).startswith("<"):
                name = label.strip("<>")
                parameter.metavar = name if "|" in name else _METAVARS.get(name, "TEXT")
        return parameters

    def invoke(self, ctx: Any) -> Any:
        """Run the command; the records that it writes hold the options that it was given."""
        provenance.options = given(ctx)
        try:
            return super().invoke(ctx)
        finally:
            provenance.options = {}

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options panel by panel."""
        panels = getattr(self.callback, "panels", {})
        rows: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        rows |= {panel: [] for panel in panels.values()} | {_GENERAL: []}
        for parameter in sorted(self.get_params(ctx), key=lambda parameter: parameter.name == "data_dir"):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            record = (record[0], _explained(record[1], parameter.metavar))
            if parameter.param_type_name == "argument":
                panel, record = "Arguments", (record[0].partition(" <")[0], record[1])
            elif parameter.name in _GENERAL_NAMES:
                panel = _GENERAL
            else:
                panel = panels.get(parameter.name, "Options")
            rows[panel].append(record)
        for panel, records in rows.items():
            if records:
                with formatter.section(panel):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples."""
        words = ctx.command_path.split()
        examples = EXAMPLES.get(" ".join(words[-2:])) or EXAMPLES.get(words[-1])
        if examples:
            with formatter.section("Examples"):
                for example in examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")


class Commands(TyperGroup):
    """Commands that are listed in groups, each with the whole first paragraph of its help."""

    def get_help(self, ctx: Any) -> str:
        """Return the help."""
        return super().get_help(ctx).replace(_HYPHEN, "-")

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the lines at the end."""
        if self.epilog:
            formatter.write("\n")
            with formatter.indentation():
                formatter.write_text(_unbroken(self.epilog))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.commands[name]
            title = command.rich_help_panel
            summary = (_unbroken(command.help) or "").split("\n\n")[0]
            groups.setdefault(title if isinstance(title, str) else "Commands", []).append((name, summary))
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def panels_of(groups: Iterable[type]) -> dict[str, str]:
    """Return option → panel, for dataclasses of options: that of the class that declares the option."""
    return {
        field.name: str(vars(declaring)["PANEL"])
        for group in groups
        for declaring in reversed(inspect.getmro(group))
        if is_dataclass(declaring)
        for field in fields(declaring)
        if field.name in inspect.get_annotations(declaring)
    }


def _unbroken(text: str | None) -> str | None:
    """Return a help text whose paragraphs have no line breaks: Typer keeps them from the second one on."""
    return text and "\n\n".join(_words(paragraph) for paragraph in text.split("\n\n"))


def _explained(text: str, metavar: str | None) -> str:
    """Return the help of an option, whose range is given by its metavar and left out if it is all counts."""
    text = re.sub(r"; x>=[01](?=\])|  \[x>=[01]\]", "", text)
    return _words(re.sub(r"\bx\b(?=[<>]=)|(?<=<=)x\b", metavar or "x", text))


def _words(text: str) -> str:
    """Return a text with single spaces, in which no line is broken at a hyphen."""
    return re.sub(r"(?<=\w)-(?=\w)", _HYPHEN, " ".join(text.split()))
