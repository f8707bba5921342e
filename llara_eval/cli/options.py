"""Options that several commands share, declared once; and how commands are listed."""

import inspect
import re
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from llara_eval.core.errors import UsageError
from llara_eval.core.paths import data_dir, store


class Existing(StrEnum):
    """What to do where a result is already there."""

    ONLY_MISSING = "only-missing"
    ALWAYS = "always"
    NEVER = "never"


class Commands(typer.core.TyperGroup):
    """Commands that are listed with their whole first paragraph, whose lines the terminal alone breaks."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        for command in self.commands.values():  # Typer keeps line breaks from the second paragraph on
            paragraphs = (command.help or "").split("\n\n")
            command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List them."""
        first = {name: (self.commands[name].help or "").split("\n\n")[0] for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl([*first.items()])


def _apart(given: list[str] | None) -> list[str] | None:
    """Take the names of data sets apart at commas.

    Raises:
        UsageError: There are only commas.
    """
    names = [name for item in given or [] for name in split_list(item)]
    if given and not names:
        raise UsageError(f"--dataset {','.join(given)!r} names no data set")
    return names or None


_DATASETS = typer.Option(
    "--dataset",
    "--datasets",
    "-d",
    callback=_apart,
    help="A folder in BEIR layout, a known name, a group (beir-13) or demo; repeatable, or with commas.",
)
Datasets = Annotated[list[str], _DATASETS]
SomeDatasets = Annotated[list[str] | None, _DATASETS]
DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        help="Folder of named data sets, also for downloads [env: LLARA_EVAL_DATA].",
        default_factory=data_dir,
        show_default=False,
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="FOLDER|URL",
        help="Where token ids and vectors live, also s3://, gs://, … [env: LLARA_EVAL_STORE].",
        default_factory=store,
        show_default=False,
    ),
]
RunsDir = Annotated[Path, typer.Option("--runs-dir", help="Where results are kept.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never use the network.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, everything else on stderr.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")]
Split = Annotated[
    str | None, typer.Option("--split", help="Judgements to use; the set's usual ones by default.")
]
Measures = Annotated[
    str, typer.Option("--measures", help="Comma-separated, e.g. nDCG@10,RR@10,R@100 (MRR@10 is RR@10).")
]
Depth = Annotated[
    int | None,
    typer.Option(
        "--depth", min=1, help="Documents kept for a query; by default 1000, of MS MARCO's documents 100."
    ),
]
OnExisting = Annotated[
    Existing,
    typer.Option(
        "--on-existing",
        help="Where a result is there: keep it if it is the same, or always, never measure again.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--option", "-o", metavar="KEY=VALUE", help="A setting of the system, e.g. k1=0.82; repeatable."
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype", help="float32, bfloat16 or float16; by default what the processor computes fast."
    ),
]
MaxLength = Annotated[
    int | None, typer.Option("--max-length", min=1, help="Most tokens of a text, template included.")
]
BatchTokens = Annotated[int | None, typer.Option("--batch-tokens", min=1, help="Tokens of one batch.")]

Backend = Annotated[
    str | None,
    typer.Option(
        "--backend", help="Who computes vectors: transformers (the default), sentence-transformers or vllm."
    ),
]
Vectors = Annotated[
    str | None,
    typer.Option(
        "--vectors", help="Search fp16 exactly, or int8 or binary codes and score the best of them exactly."
    ),
]
Dims = Annotated[
    int | None, typer.Option("--dims", min=1, help="Keep the first dimensions of vectors (Matryoshka).")
]


def settings(pairs: list[str] | None, **named: Any) -> dict[str, Any]:
    """Bring ``KEY=VALUE`` options and the named flags that were given into one mapping.

    Raises:
        UsageError: A pair has no ``=``, or a setting is given twice.
    """
    out = {key: value for key, value in named.items() if value is not None}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--option {pair!r}: expected KEY=VALUE")
        name = key.strip().replace("-", "_")
        if name in out:
            raise UsageError(f"{name} is given twice, as {out[name]} and as {value.strip()}")
        out[name] = value.strip()
    return out


def split_list(text: str) -> list[str]:
    """Split an option at its commas, those in parentheses apart: ``P(rel=2,judged_only=True)@5``."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take whole groups of options, each declared once as a dataclass.

    Each parameter that is annotated with a dataclass becomes the fields of it, one option a field, as if they
    stood in its place; the command is called with the group.
    """
    groups: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if is_dataclass(parameter.annotation):
            groups[name] = parameter.annotation
            parameters += map(_parameter, fields(parameter.annotation))
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    def flat(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    flat.__doc__ = command.__doc__
    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return flat


def _parameter(field: Field[Any]) -> inspect.Parameter:
    """Return the parameter that a field of a group becomes."""
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=field.type
    )
