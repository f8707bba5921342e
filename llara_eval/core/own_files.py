"""Outputs replace only what the same command wrote: never a file of the user or of another kind."""

from collections.abc import Callable
from pathlib import Path

from llara_eval.core.errors import LlaraEvalError, UsageError


def require_own(
    output: Path, is_own: Callable[[Path], object], command: str, option: str = "--output"
) -> None:
    """Check that an output is new, or an earlier output of the same command.

    Args:
        output: The file that will be written.
        is_own: Returns whether a file is an earlier output, or raises an error if it is not.
        command: The name of the command, for the message.
        option: The option that names the output, for the message.

    Raises:
        UsageError: The output is another file.
    """
    try:
        own = not output.exists() or (output.is_file() and bool(is_own(output)))
    except (LlaraEvalError, OSError, ValueError):
        own = False
    if not own:
        raise UsageError(
            f"{output} exists, and `llara-eval {command}` did not write it or it changed since; move it "
            f"away, or choose another {option}"
        )
