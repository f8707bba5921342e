"""Options of a system: frozen dataclasses that are filled from ``--option key=value``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from llara_eval.core.decode import decode
from llara_eval.core.errors import UsageError
from llara_eval.core.leases import EXPIRES
from llara_eval.core.suggest import did_you_mean

Config = TypeVar("Config")


@dataclass(frozen=True, slots=True)
class Context:
    """The surroundings in which a system is opened.

    Attributes:
        home: The folder for caches.
        offline: Whether the network must not be used.
        maxp: Whether documents are searched by their passages.
        store: The folder for token ids and vectors; None for the folder for caches.
        lease_seconds: Seconds for which a worker may be silent before another one takes over its shard.
    """

    home: Path
    offline: bool = False
    maxp: bool = False
    store: str | None = None
    lease_seconds: float = EXPIRES


def unnamed(default: Any) -> Any:
    """Declare an option that changes how a system computes, not what: it is no part of the system's name."""
    return field(default=default, metadata={"named": False})


def configure(
    cls: type[Config], base: Mapping[str, Any], options: Mapping[str, Any], name: str
) -> tuple[Config, str]:
    """Make the options of a system.

    Args:
        cls: The dataclass of the options.
        base: Options of the entry in the table of systems.
        options: The user's options; text is converted to the type of the option.
        name: The system's name.

    Returns:
        The options, and the system's name with every named option whose value differs from that of the
        entry (``bm25,k1=0.82``).

    Raises:
        UsageError: An option is unknown, or its value has another type.
    """
    hints = get_type_hints(cls)
    declared = {item.name: item for item in fields(cls)}  # type: ignore[arg-type]
    for key in options:
        if key not in declared:
            raise UsageError(
                f"{name} has no option {key!r}; it has {', '.join(declared)}.{did_you_mean(key, declared)}"
            )
    values = {key: _convert(hints[key], value, key) for key, value in options.items()}
    usual, config = cls(**base), cls(**{**base, **values})
    changes = [
        f"{key}={getattr(config, key)}"
        for key in declared
        if declared[key].metadata.get("named", True) and getattr(config, key) != getattr(usual, key)
    ]
    return config, ",".join([name, *changes])


def override(config: Config, options: dict[str, Any]) -> Config:
    """Return a dataclass of options with some values replaced.

    Args:
        config: The dataclass.
        options: Option → new value; text is converted. The options that ``config`` has are removed.

    Raises:
        UsageError: A value has another type than its option.
    """
    hints = get_type_hints(type(config))
    names = [item.name for item in fields(config) if item.name in options]  # type: ignore[arg-type]
    changes = {name: _convert(hints[name], options.pop(name), name) for name in names}
    return replace(config, **changes)  # type: ignore[type-var]


def _convert(hint: Any, value: Any, key: str) -> Any:
    """Return the value of an option as its type, from text of a command line.

    Raises:
        UsageError: The value has another type, or is not finite.
    """
    is_union = get_origin(hint) in (Union, UnionType)  # the origin of ``Literal | None`` is the former
    types = [item for item in (get_args(hint) if is_union else (hint,)) if item is not NoneType]
    items = value
    if isinstance(value, str) and any(get_origin(item) is tuple for item in types):
        items = [item.strip() for item in value.split(",") if item.strip()]
    try:
        converted = decode(items, hint, key, UsageError, text=True)
    except UsageError as error:
        raise UsageError(f"option {key}={value}: expected {_expected(types[0])}") from error
    if isinstance(converted, float) and not math.isfinite(converted):
        raise UsageError(f"option {key}={value}: expected a finite number")
    return converted


def _expected(hint: Any) -> str:
    """Return the description of a type in an error message."""
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    return "a list with commas" if get_origin(hint) is tuple else str(hint.__name__)
