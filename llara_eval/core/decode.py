"""The typed decoder of JSON and settings: values become a record of a declared type, or raise an error."""

from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import msgspec

from llara_eval.core.errors import DataError, LlaraEvalError
from llara_eval.core.reading import read_whole

Record = TypeVar("Record")

LARGEST = 2**53
"""The largest integer below which float64 holds every integer; no count or value of a record is larger."""

Count = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
"""A number of things."""

Positive = Annotated[int, msgspec.Meta(ge=1, le=LARGEST)]
"""A number of things, of which there is at least one."""

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
"""A share of a whole."""

Number = Annotated[float, msgspec.Meta(ge=-LARGEST, le=LARGEST)]
"""A number whose digits can be shown, and whose square float64 holds."""

Date = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T|$)")]
"""A date, perhaps with a time, in ISO 8601."""


def decode(
    value: Any,
    record_type: type[Record],
    origin: object,
    error: type[LlaraEvalError] = DataError,
    *,
    text: bool = False,
    closed: bool = False,
) -> Record:
    """Turn values of JSON types into a record.

    Args:
        value: Dictionaries, lists, strings, numbers.
        record_type: A dataclass, a ``msgspec.Struct``, or any type that msgspec decodes.
        origin: The source of the values, for the message.
        error: The class of the error.
        text: Whether numbers and truth values may be text, as on a command line.
        closed: Whether unknown keys of a dataclass are an error, as in a file that people edit.

    Raises:
        LlaraEvalError: A value is missing, or has another type than declared; the message names the path of
            the value (``$.slots``), the expected type and the type of the value.
    """
    try:
        if closed:
            _refuse_unknown(value, record_type, "$")
        return msgspec.convert(value, record_type, strict=not text)
    except (msgspec.ValidationError, RecursionError) as problem:
        raise error(f"{origin}: {problem}") from problem
    except UnicodeEncodeError as problem:  # msgspec copies texts as UTF-8
        raise error(f"{origin}: half of a surrogate pair, which is no character") from problem


def _refuse_unknown(value: Any, value_type: Any, path: str) -> None:
    """Raise a ValidationError for unknown keys in the values of a dataclass, which msgspec ignores."""
    if not (is_dataclass(value_type) and isinstance(value, dict)):
        return
    fields = get_type_hints(value_type)
    for name, inner in value.items():
        if name not in fields:
            raise msgspec.ValidationError(
                f"Object contains unknown field `{name}` - at `{path}`; the fields are {', '.join(fields)}"
            )
        _refuse_unknown(inner, fields[name], f"{path}.{name}")


def read_record(path: Path, record_type: type[Record]) -> Record:
    """Read a record from a JSON file.

    Raises:
        DataError: The file is missing, too large or not a regular file, is not JSON (which has no NaN and no
            infinity), or holds no such record; the message names the file and the path of the value.
    """
    try:
        return msgspec.json.decode(read_whole(path), type=record_type)
    except msgspec.ValidationError as problem:
        raise DataError(f"{path}: {problem}") from problem
    except (OSError, ValueError, RecursionError) as problem:
        raise DataError(f"{path}: cannot be read as JSON: {problem}") from problem


def plain(record: object) -> Any:
    """Return a record as values of JSON types: dictionaries, lists, strings, numbers."""
    return msgspec.to_builtins(record)
