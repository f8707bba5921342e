"""The folders of caches and downloaded data."""

import os
from pathlib import Path

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
