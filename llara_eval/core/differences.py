"""The differences between two records, in the words of a message."""

import json
from collections.abc import Mapping
from typing import Any

_ABSENT = "nothing"


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return ``field (value before, value now)`` for each field that differs.

    Args:
        before: The recorded values; a field of a nested record has a dotted path.
        now: The current values. Both are compared as JSON gives them back: a tuple equals a list.
    """
    recorded, current = (_flat(json.loads(json.dumps(dict(values)))) for values in (before, now))
    return [
        f"{path} ({recorded.get(path, _ABSENT)} before, {current.get(path, _ABSENT)} now)"
        for path in sorted({*recorded, *current})
        if recorded.get(path, _ABSENT) != current.get(path, _ABSENT)
    ]


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Return the values in nested dictionaries by their dotted paths."""
    if not isinstance(value, dict):
        return {path: value}
    return {
        inner: leaf
        for key, part in value.items()
        for inner, leaf in _flat(part, f"{path}.{key}" if path else key).items()
    }
