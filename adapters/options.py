"""Settings of a system: small frozen dataclasses, filled from ``--option key=value``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from llara_eval.core.decode import decode
from llara_eval.core.errors import UsageError
from llara_eval.core.leases import EXPIRES

Config = TypeVar("Config")


@dataclass(frozen=True, slots=True)
class Context:
    """What every system is told about its surroundings and its task.

    Attributes:
        home: The folder for caches.
        offline: Whether the network is off limits.
        text_length: Tokens of a document that the task would have read, where nothing else is said and
            the model can; None leaves it to the checkpoint.
        maxp: Whether documents are searched by their passages.
        store: Where token ids and vectors live; None: in the folder for caches.
        lease_seconds: How long a worker may be silent before another takes over what it works on.
    """

    home: Path
    offline: bool = False
    text_length: int | None = None
    maxp: bool = False
    store: str | None = None
    lease_seconds: float = EXPIRES


def unnamed(default: Any) -> Any:
    """Declare a setting that changes how a system computes, not what: it stays out of its name."""
    return field(default=default, metadata={"named": False})


def configure(
    kind: type[Config], base: Mapping[str, Any], given: Mapping[str, Any], name: str
) -> tuple[Config, str]:
    """Fill a settings dataclass.

    Args:
        kind: The dataclass.
        base: Settings of the table entry.
        given: The user's settings; strings are converted.
        name: The system's name.

    Returns:
        The settings, and the system's name with every named setting that differs from the usual one
        (``bm25,k1=0.82``).

    Raises:
        UsageError: A setting is unknown, or its value is not of the setting's type.
    """
    hints = get_type_hints(kind)
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
    for key in given:
        if key not in known:
            raise UsageError(f"{name} has no option {key!r}; it has {', '.join(known)}")
    values = {key: _convert(hints[key], value, key) for key, value in given.items()}
    usual, chosen = kind(**base), kind(**{**base, **values})
    changes = [
        f"{key}={getattr(chosen, key)}"
        for key in known
        if known[key].metadata.get("named", True) and getattr(chosen, key) != getattr(usual, key)
    ]
    return chosen, ",".join([name, *changes])


def override(config: Config, given: dict[str, Any]) -> Config:
    """Return settings with some of them replaced.

    Args:
        config: A settings dataclass.
        given: Settings by name, strings are converted; those that ``config`` has are taken out.

    Raises:
        UsageError: A value is not of the setting's type.
    """
    hints = get_type_hints(type(config))
    mine = [item.name for item in fields(config) if item.name in given]  # type: ignore[arg-type]
    changes = {name: _convert(hints[name], given.pop(name), name) for name in mine}
    return replace(config, **changes)  # type: ignore[type-var]


def _convert(hint: Any, value: Any, key: str) -> Any:
    """Return the value of a setting as its type, from text as it comes from a command line.

    Raises:
        UsageError: The value is not of that type, or is not finite.
    """
    parts = value
    if isinstance(value, str) and any(get_origin(kind) is tuple for kind in _kinds(hint)):
        parts = [part.strip() for part in value.split(",") if part.strip()]
    try:
        converted = decode(parts, hint, key, UsageError, text=True)
        if isinstance(converted, float) and not math.isfinite(converted):
            raise UsageError(f"{key} is not finite")
    except UsageError as error:
        raise UsageError(f"option {key}={value}: expected {_expected(_kinds(hint))}") from error
    return converted


def _kinds(hint: Any) -> list[Any]:
    """Return the types that a setting may have, None apart."""
    union = get_origin(hint) in (Union, UnionType)  # Literal | None is the former
    return [kind for kind in (get_args(hint) if union else (hint,)) if kind is not NoneType]


def _expected(kinds: Sequence[Any]) -> str:
    """Say what a value of some types is: its type, or one of its choices."""
    kind = kinds[0]
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    return "a list with commas" if get_origin(kind) is tuple else str(kind.__name__)
