"""Settings of a system: small frozen dataclasses, filled from ``--option key=value``."""

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

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
        UsageError: A setting is unknown or its value cannot be converted.
    """
    hints = typing.get_type_hints(kind)
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
        UsageError: A value cannot be converted.
    """
    hints = typing.get_type_hints(type(config))
    mine = [item.name for item in fields(config) if item.name in given]  # type: ignore[arg-type]
    changes = {name: _convert(hints[name], given.pop(name), name) for name in mine}
    return replace(config, **changes)  # type: ignore[type-var]


def _convert(hint: Any, value: Any, key: str) -> Any:
    """Convert text to the type of a setting (``X | None`` counts as ``X``)."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):  # Literal | None is the former
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    if typing.get_origin(hint) is typing.Literal:
        if value not in typing.get_args(hint):
            raise UsageError(f"option {key}={value}: expected one of {', '.join(typing.get_args(hint))}")
        return value
    if not isinstance(value, str):
        return value
    if typing.get_origin(hint) is tuple:
        return tuple(part.strip() for part in value.split(",") if part.strip())
    try:
        if hint is bool:
            return {"true": True, "false": False}[value.lower()]
        return hint(value)
    except (ValueError, KeyError) as error:
        raise UsageError(f"option {key}={value}: expected {hint.__name__}") from error
