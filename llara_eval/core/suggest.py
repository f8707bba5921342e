"""Suggestions for a name that does not exist."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return a sentence, with a space before it, that suggests similar names; empty if there are none."""
    by_lower = {candidate.lower(): candidate for candidate in names}
    within = [candidate for lower, candidate in by_lower.items() if name.lower() in lower.split("/")]
    close = within or [by_lower[lower] for lower in get_close_matches(name.lower(), by_lower)]
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
