"""The errors that this package raises on purpose, with their exit codes on the command line.

::

    LlaraEvalError            1  any other problem
    ├── UsageError            2  the request cannot be carried out
    ├── DataError             3  data are missing or corrupt
    ├── CheckFailedError      4  the check before encoding failed
    ├── DriftError            5  a stored value differs from its inputs, or a leaderboard is stale
    ├── PartialResultsError   6  some of the requested results are missing
    └── MissingPartError      7  an optional part is not installed
"""

from pathlib import Path
from typing import ClassVar


class LlaraEvalError(Exception):
    """The base class of all errors; ``str(error)`` is a sentence for the user."""

    exit_code: ClassVar[int] = 1


class UsageError(LlaraEvalError):
    """The request cannot be carried out."""

    exit_code = 2


class DataError(LlaraEvalError):
    """Data are missing or malformed, or are other data than expected."""

    exit_code = 3

    @classmethod
    def at(cls, path: Path | str, line: int, problem: str) -> "DataError":
        """Return an error that names a line, counted from 1, of a file."""
        return cls(f"{path}:{line}: {problem}")


class CheckFailedError(LlaraEvalError):
    """A check on real texts, which precedes expensive work, failed."""

    exit_code = 4


class DriftError(LlaraEvalError):
    """A stored value or a rendered file differs from the one that its inputs give."""

    exit_code = 5


class PartialResultsError(LlaraEvalError):
    """Some of the requested results could not be made."""

    exit_code = 6


class MissingPartError(LlaraEvalError):
    """An optional part is not installed; the message names the command that installs it."""

    exit_code = 7
