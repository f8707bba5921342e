"""Options that several commands share, each declared once, and the list of commands in the help."""

import inspect
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import typer

from llara_eval.cli import config
from llara_eval.cli.console import set_up
from llara_eval.cli.help import panels_of
from llara_eval.core.errors import UsageError
from llara_eval.core.existing import OnExistingResult
from llara_eval.core.paths import data_dir, user_path
from llara_eval.core.protocols import Progress


def split_names(context: Any, parameter: Any, values: list[str] | None) -> list[str] | None:
    """Split names at commas, but not in the path of a file or folder that exists.

    Raises:
        UsageError: The option has no name in it.
    """
    parts = [[value] if user_path(value).exists() else split_list(value) for value in values or []]
    names = [name for part in parts for name in part]
    if values and not names:
        raise UsageError(f"{parameter.opts[0]} {','.join(values)!r} names nothing")
    return names or None


_DATASETS = typer.Option(
    "--dataset",
    "--datasets",
    "-d",
    metavar="NAME",
    callback=split_names,
    help="A data set: a folder (BEIR's layout or the hub's), a known name, a group such as beir-13 or "
    "nanobeir, hf:org/name of the hub, irds:ID of ir_datasets, or demo. Repeat the option for several data "
    "sets, or put commas between them.",
)
Datasets = Annotated[list[str], _DATASETS]
SomeDatasets = Annotated[list[str] | None, _DATASETS]
System = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="The system: its name, a checkpoint folder, a GGUF file, or a hub name.",
    ),
]
Checkpoint = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="The checkpoint: a folder, a GGUF file, a hub name, or the name of a dense system.",
    ),
]
DataDir = Annotated[
    Path,
    typer.Option(
        metavar="FOLDER",
        help="The folder of named data sets, also for downloads.",
        envvar="LLARA_EVAL_DATA",
        default_factory=data_dir,
        show_default="data in the cache folder",
    ),
]
RunsDir = Annotated[Path, typer.Option(metavar="FOLDER", help="The folder in which results are kept.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never use the network.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, everything else on stderr.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no notes.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show more messages.")]
Split = Annotated[
    str | None, typer.Option(metavar="NAME", help="The judgements to use; by default the usual ones.")
]
DocumentReading = Annotated[
    Literal["firstp", "maxp"],
    typer.Option(
        "--documents",
        help="How documents are read: firstp reads a document as one long text, maxp scores it by its best "
        "passage.",
    ),
]
OnExisting = Annotated[
    OnExistingResult,
    typer.Option(
        help="Where a result exists: only-missing keeps it if settings and data are the same, always "
        "measures again, never keeps it in any case."
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="float32, bfloat16 or float16; by default float16 on a GPU, else float32."
    ),
]
MaxLength = Annotated[int | None, typer.Option(min=1, help="The most tokens of a text with its template.")]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        help="Run code that the checkpoint brings; a hub name needs the 40 digits of its commit.",
    ),
]
Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--option", "-o", metavar="KEY=VALUE", help="A setting of the system, e.g. k1=0.82; repeatable."
    ),
]
BatchTokens = Annotated[int | None, typer.Option(min=1, help="The most tokens of a batch.")]


def settings(pairs: list[str] | None, **named: Any) -> dict[str, Any]:
    """Return the settings of ``--option KEY=VALUE`` and those with an option of their own as one mapping.

    Raises:
        UsageError: A pair has no ``=``, or a setting is given twice.
    """
    values = {key: value for key, value in named.items() if value is not None}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--option {pair!r}: expected KEY=VALUE")
        name = key.strip().replace("-", "_")
        if name in values:
            raise UsageError(f"{name} is given twice, as {values[name]} and as {value.strip()}")
        values[name] = value.strip()
    return values


def split_list(text: str) -> list[str]:
    """Split an option at its commas, but not at those in parentheses: ``P(rel=2,judged_only=True)@5``."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip()]


_Text = partial(typer.Option, metavar="TEXT", callback=lambda text: text and text.replace("\\n", "\n"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompting:
    """The options of the prompts of a dense system."""

    PANEL: ClassVar[str] = "Prompt options"

    query_prompt: Annotated[
        str | None,
        _Text(
            help="The text before each query; \\n is a line break. A format for instructions has a place for "
            "them: 'Instruct: {instruction}\\nQuery: '."
        ),
    ] = None
    document_prompt: Annotated[str | None, _Text(help="The text before each document.")] = None
    prompt_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The name of a prompt that the checkpoint stores.")
    ] = None
    no_prompts: Annotated[bool | None, typer.Option("--no-prompts", help="Read texts without a prompt.")] = (
        None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSets(Prompting):
    """The options of prompts where texts are those of data sets, which may have prompts of their own."""

    PANEL: ClassVar[str] = Prompting.PANEL

    prompts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|mteb",
            help="Prompts for each data set, or instructions that --query-prompt is the format of: a JSON or "
            "TOML file, or those of the tasks in the installed mteb.",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening(PromptSets):
    """The options of every command that opens a system."""

    PANEL: ClassVar[str] = "System options"

    NAMED: ClassVar[tuple[str, ...]] = (
        *("dtype", "max_length", "query_length", "document_length", "batch_tokens", "backend"),
        *("name", "revision", "trust_remote_code"),
        *("query_prompt", "document_prompt", "prompt_name", "no_prompts", "prompts"),
    )
    """The settings of a system that have an option of their own."""

    option: Setting = None
    dtype: Dtype = None
    max_length: MaxLength = None
    query_length: Annotated[
        int | None, typer.Option(min=1, help="The most tokens of a query with its template.")
    ] = None
    document_length: Annotated[
        int | None, typer.Option(min=1, help="The most tokens of a document with its template.")
    ] = None
    batch_tokens: BatchTokens = None
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The engine: transformers, openvino, sentence-transformers or vllm; by default the fastest "
            "of the first two whose vectors are those of float32.",
        ),
    ] = None
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The name of the system; by default that of the folder or the hub."
        ),
    ] = None
    revision: Annotated[
        str | None,
        typer.Option(metavar="REVISION", help="The revision of a hub name; org/name@REVISION says the same."),
    ] = None
    trust_remote_code: TrustRemoteCode = False
    offline: Offline = False
    as_json: Json = False
    quiet: Quiet = False
    verbose: Verbose = False

    def settings(self) -> dict[str, Any]:
        """Return the settings of the system.

        Raises:
            UsageError: A setting is malformed, or given twice.
        """
        given = {name: getattr(self, name) for name in self.NAMED}
        return settings(self.option, **{name: value for name, value in given.items() if value is not False})

    def set_up(self) -> Progress:
        """Set up the log, and return the progress bars."""
        return set_up(quiet=self.quiet, verbose=self.verbose)


_CONFIG = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        is_eager=True,
        callback=config.apply,
        help="Take options from a TOML file, or from a record that this command wrote.",
    ),
]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take ``--config``, and whole groups of options, each declared once as a dataclass.

    A parameter whose type is a dataclass stands for one option per field; the command is called with an
    instance. In the help, the options of a dataclass are in the panel that its ``PANEL`` names.
    """
    groups: dict[str, Any] = {}
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("config", keyword, default=None, annotation=_CONFIG)]
    for name, parameter in inspect.signature(command).parameters.items():
        if is_dataclass(parameter.annotation):
            groups[name] = parameter.annotation
            parameters += [
                parameter.replace(
                    name=field.name,
                    default=parameter.empty if field.default is MISSING else field.default,
                    annotation=field.type,
                )
                for field in fields(parameter.annotation)
            ]
        else:
            parameters.append(parameter)

    def flat(*, config: Path | None = None, **values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    flat.__doc__ = command.__doc__
    flat.panels = panels_of(groups.values())  # type: ignore[attr-defined]
    flat.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter.replace(kind=keyword) for parameter in parameters]
    )
    return flat
