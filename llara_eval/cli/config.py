"""``--config``: the options of a command from a file; and the options of a run, for its record."""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.files import read_json
from llara_eval.core.reading import read_whole
from llara_eval.core.suggest import did_you_mean

_COMMAND = "command"
"""The key that names the command of a file; the other keys are the options of the command."""


def apply(context: Any, _: Any, file: Path | None) -> None:
    """Take the options of a command from a file; those on the command line override them.

    The file is TOML (``depth = 100``), or a record that a command wrote: ``result.json``, ``training.json``,
    or the record that ``mine`` writes beside its output.

    Raises:
        DataError: The file is missing or is neither TOML nor such a record.
        UsageError: The file is of another command, or the command has no such option.
    """
    if file is None or context.resilient_parsing:
        return
    values = _read(file)
    name = context.command.name
    if values.pop(_COMMAND, name) != name:
        raise UsageError(f"{file} holds options of another command than {name}")
    names = {
        option.lstrip("-").replace("-", "_"): parameter.name
        for parameter in context.command.params
        for option in (*parameter.opts, parameter.name)
        if parameter.name != "config"
    }
    options: dict[str, Any] = {}
    for key, value in values.items():
        if (known := key.replace("-", "_")) not in names:
            raise UsageError(f"{file}: {name} has no option {key!r}.{did_you_mean(known, names)}")
        options[names[known]] = value
    context.default_map = {**(context.default_map or {}), **options}


def given(context: Any) -> dict[str, Any]:
    """Return the command and the options that were given to it, on the command line or in a file.

    Those of environment variables are left out: they belong to the machine.
    """
    sources = {"COMMANDLINE", "DEFAULT_MAP"}
    options = {
        name: _plain(value)
        for name, value in context.params.items()
        if name != "config" and getattr(context.get_parameter_source(name), "name", "") in sources
    }
    return {_COMMAND: context.command.name, **options}


def _read(file: Path) -> dict[str, Any]:
    """Return the options in a TOML file, or those that a JSON record was made with."""
    if file.suffix == ".json":
        record = read_json(file)
        try:
            return dict(record["provenance"]["options"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{file} is no record of a command: it lacks provenance.options") from error
    try:
        return tomllib.loads(read_whole(file).decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{file}: cannot be read as TOML: {error}") from error


def _plain(value: Any) -> Any:
    """Return a value of an option in JSON types; a path that is not UTF-8 has escapes for its bytes."""
    if isinstance(value, str | Path):
        return str(value).encode(errors="backslashreplace").decode()
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    return value
