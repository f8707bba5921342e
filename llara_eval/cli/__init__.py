"""The command line: each command parses its options, makes one call, and shows a table.

No large library is imported here or at the top of a command's module, so that ``--help`` is instant. The help
is plain text for the same reason: boxes around it would take longer to draw than all the rest.
"""

import re
import sys
from typing import Annotated, Any

import typer

from llara_eval import __version__
from llara_eval.cli import (
    adapt,
    beir,
    boundary,
    check,
    compare,
    datasets,
    doctor,
    encode,
    evaluate,
    export,
    finetune,
    leaderboard,
    mine,
    msmarco,
    options,
    overlap,
    plan,
    repro,
    score,
    systems,
    verify_joint,
)
from llara_eval.cli.console import say
from llara_eval.cli.help import Command, Commands
from llara_eval.core.errors import DataError, LlaraEvalError

INTERRUPTED = 130

_WIDEST = 1_000
"""Columns of the help at most: as many as the terminal has."""

_GROUPS = {
    "Evaluate": (evaluate, beir, msmarco, encode, score),
    "Compare and publish": (compare, leaderboard, repro),
    "Train": (adapt, finetune, mine, overlap, verify_joint, export),
    "Data and models": (datasets, systems, check, plan, doctor),
}
"""Title of a group of commands → the modules of the commands."""


class _Group(Commands):
    """The commands; errors that are raised on purpose become a sentence on stderr and an exit code."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, group by group."""
        commands: Any = self.commands
        return sorted(commands, key=lambda name: [*_GROUPS].index(commands[name].rich_help_panel))

    def make_context(self, *args: Any, **settings: Any) -> Any:
        """Parse the first words; Ctrl-C in this moment is one as any other."""
        try:
            return super().make_context(*args, **settings)
        except KeyboardInterrupt as error:
            raise typer.Exit(INTERRUPTED) from error

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return self._invoke(ctx)
        except LlaraEvalError as error:
            say(f"error: {self._with_options(str(error))}", style="red")
            raise typer.Exit(error.exit_code) from error
        except OSError as error:
            if boundary.is_of_reading(error):
                say(f"error: {error.filename}: cannot be read ({error.strerror})", style="red")
                raise typer.Exit(DataError.exit_code) from error
            if not boundary.is_of_writing(error):
                raise
            file = f" ({error.filename})" if error.filename else ""
            say(f"error: {error.strerror}{file}; the same command goes on from what is finished", style="red")
            raise typer.Exit(LlaraEvalError.exit_code) from error
        except KeyboardInterrupt as error:
            say("interrupted; what was finished is kept, the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from error

    def _with_options(self, message: str) -> str:
        """Return a message in which a setting, ``name='value'``, is written as the option of a command."""
        options = {item.name: item.opts[0] for command in self.commands.values() for item in command.params}
        setting = rf"\b({'|'.join(map(str, options))})='([^']*)'"
        return re.sub(setting, lambda match: f"{options[match[1]]} {match[2]}", message)

    def _invoke(self, ctx: Any) -> Any:
        """Run the chosen command; if an import fails, a foreign package ``adapters`` may be the cause."""
        try:
            return super().invoke(ctx)
        except ImportError:
            from llara_eval.evaluation.suite import require_own_adapters

            require_own_adapters()
            raise


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _WIDEST},
    help="Evaluate LLM dense retrievers: numbers that can be scored again, beside BM25 and RepLLaMA.",
    epilog="Exit codes: 0 ok, 1 unexpected, 2 usage, 3 data missing or corrupt, 4 pre-encode check failed, "
    "5 drift or stale leaderboard, 6 partial results, 7 an optional part is missing, 130 interrupted.",
)


def _show_version(chosen: bool) -> None:
    if chosen:
        typer.echo(f"llara-eval {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """Declare the options of the program itself."""


for title, modules in _GROUPS.items():
    for module in modules:
        name = module.__name__.rpartition(".")[2]
        if module is datasets:
            app.add_typer(datasets.app, name=name, rich_help_panel=title)
        else:
            function = options.grouped(getattr(module, name))
            app.command(name.replace("_", "-"), cls=Command, rich_help_panel=title)(function)


def main() -> None:
    """Run the program; SIGTERM ends it like an error, so that leases are given back and workers ended."""
    try:
        boundary.set_up()
        app()
    except KeyboardInterrupt:  # before a command has begun, or after its end
        sys.exit(INTERRUPTED)
