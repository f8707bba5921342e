"""The folders of caches and downloaded data, and names in files that must not lead out of a folder."""

import os
from pathlib import Path, PurePosixPath

from llara_eval.core.errors import DataError, UsageError

DATA = Path(__file__).parents[1] / "data"
"""The folder of the tables and the demonstration collection that belong to the package."""


def user_path(path: str | Path) -> Path:
    """Return a path that a user wrote, with the home folder in place of ``~`` or ``~name``.

    Raises:
        UsageError: There is no user of that name, or no home folder, or the path is not the name of any file.
    """
    if "\0" in str(path):
        raise UsageError(f"{str(path)!r} is not a path: it has a null character")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{path}: there is no such home folder; write ./{path} for a file") from error


def real_path(path: Path) -> Path:
    """Return an absolute path without links; a link in a circle stays, and reading or writing it will fail.

    ``Path.resolve`` of Python 3.11 and 3.12 raises a RuntimeError there.
    """
    return Path(os.path.realpath(path))


def home() -> Path:
    """Return the cache folder: ``LLARA_EVAL_HOME``, or ``llara-eval`` in the user's cache folder."""
    set_by_user = os.environ.get("LLARA_EVAL_HOME")
    if set_by_user:
        return user_path(set_by_user)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llara-eval"


def store() -> str | None:
    """Return the folder or URL of token ids and vectors: ``LLARA_EVAL_STORE``; None for the cache folder."""
    return os.environ.get("LLARA_EVAL_STORE") or None


def data_dir() -> Path:
    """Return the folder of named data sets: ``LLARA_EVAL_DATA``, or ``data`` in the cache folder."""
    set_by_user = os.environ.get("LLARA_EVAL_DATA")
    return user_path(set_by_user) if set_by_user else home() / "data"


def inside(folder: Path, name: str, source: Path) -> Path:
    """Return the path of a file below a folder whose name comes from a file.

    Args:
        folder: The folder.
        name: The name of the file, relative to the folder, with ``/`` between its parts.
        source: The file that holds the name, for the message.

    Raises:
        DataError: The name is empty or absolute, or climbs out of the folder.
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DataError(f"{source}: {name!r} is not the name of a file in that folder")
    return folder / path
