"""Every error this package raises on purpose, each with the exit code the command line gives it.

::

    LlaraEvalError            1  something went wrong
    ├── UsageError            2  the request makes no sense
    ├── DataError             3  data missing or corrupt
    ├── CheckFailedError      4  the pre-encode check failed
    ├── DriftError            5  a stored value differs from what it should be, or a leaderboard is stale
    ├── PartialResultsError   6  finished, but not everything that was asked for
    └── MissingPartError      7  an optional part is not installed
"""

from pathlib import Path
from typing import ClassVar


class LlaraEvalError(Exception):
    """Base of all errors raised on purpose; ``str(error)`` is a sentence for the user."""

    exit_code: ClassVar[int] = 1


class UsageError(LlaraEvalError):
    """The request cannot be carried out as it was put."""

    exit_code = 2


class DataError(LlaraEvalError):
    """Data are missing, malformed or not what they claim to be."""

    exit_code = 3

    @classmethod
    def at(cls, path: Path | str, line: int, problem: str) -> "DataError":
        """Make an error that points at a line (counted from 1) of a file."""
        return cls(f"{path}:{line}: {problem}")


class CheckFailedError(LlaraEvalError):
    """A check on real texts, made before anything expensive, did not hold."""

    exit_code = 4


class DriftError(LlaraEvalError):
    """A value or a rendered file differs from what its inputs say it should be."""

    exit_code = 5


class PartialResultsError(LlaraEvalError):
    """Some of the requested results exist, others could not be made."""

    exit_code = 6


class MissingPartError(LlaraEvalError):
    """An optional part is not installed; the message holds the command that installs it."""

    exit_code = 7
