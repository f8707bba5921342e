"""The folders of caches and downloaded data, and names in files that must not lead out of a folder."""

import os
from pathlib import Path, PurePosixPath

from llara_eval.core.errors import DataError

DATA = Path(__file__).parents[1] / "data"
"""The folder of the tables and the demonstration collection that belong to the package."""


def home() -> Path:
    """Return the cache folder: ``LLARA_EVAL_HOME``, or ``llara-eval`` in the user's cache folder."""
    set_by_user = os.environ.get("LLARA_EVAL_HOME")
    if set_by_user:
        return Path(set_by_user).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llara-eval"


def store() -> str | None:
    """Return the folder or URL of token ids and vectors: ``LLARA_EVAL_STORE``; None for the cache folder."""
    return os.environ.get("LLARA_EVAL_STORE") or None


def data_dir() -> Path:
    """Return the folder of named data sets: ``LLARA_EVAL_DATA``, or ``data`` in the cache folder."""
    set_by_user = os.environ.get("LLARA_EVAL_DATA")
    return Path(set_by_user).expanduser() if set_by_user else home() / "data"


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
