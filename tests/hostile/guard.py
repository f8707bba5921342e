"""The process of one case: a fork that runs the command, and reports what no command may do."""

import errno
import io
import os
import resource
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from case import Case

_CHANGES = {
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"),
    *("os.chmod", "os.chown", "os.utime", "shutil.rmtree", "shutil.move"),
}
"""Events of Python that change a file, whose first argument is its path."""

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_PROGRAMS = {"git", "java", "lscpu", "uname", "nvidia-smi", "perl", "ldconfig", "gcc", "cc", "ld"}
"""Programs that may be started: what provenance and libraries ask for."""

SPARE = 6 << 30
"""Bytes of address space that a command may take beyond those of the warmed process."""


def run(case: Case, words: tuple[str, ...], room: Path, logs: Path, spare: set[str], ready: int) -> None:
    """Run a command in this process, which ends with its exit code.

    Args:
        case: The case.
        words: The command.
        room: The folder of its files.
        logs: The folder for ``stdout``, ``stderr`` and ``violations``.
        spare: Folders outside the room in which files may change.
        ready: A pipe that gets a byte just before the command begins.
    """
    os.setsid()
    os.chdir(room)
    report = os.open(logs / "violations", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for name, value in case.environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value.replace("{room}", str(room))
    _set_streams(case, logs)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = {"RLIMIT_AS": used + SPARE, "RLIMIT_CORE": 0, **case.limits}
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))
    sys.argv = ["llara-eval", *words]
    tempfile.tempdir = None  # this process has asked for it already, with another TMPDIR
    sys.dont_write_bytecode = True
    python_path = os.environ.get("PYTHONPATH", "") if "PYTHONPATH" in case.environment else ""
    sys.path[:] = [path for path in (python_path, *sys.path) if path]
    _watch(report, (str(room), "/dev/null", "/dev/full", "/dev/tty", "/proc", *spare))
    try:
        os.write(ready, b"r")
        code = _main()
    except KeyboardInterrupt:  # before the program has begun
        code = 130
    os._exit(code)


def _main() -> int:
    """Run the command line as its own process would; return the exit code."""
    from llara_eval.cli import main

    code: Any = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        code = 1
        with suppress(Exception):
            traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except Exception as error:  # as the interpreter does at its end
            with suppress(Exception):
                sys.stderr.write(f"Exception ignored while flushing: {type(error).__name__}\n")
                sys.stderr.flush()
            code = code or 120
    return code if isinstance(code, int) else 0 if code is None else 1


def _set_streams(case: Case, logs: Path) -> None:
    """Connect stdout and stderr with files, or with what the case says."""
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
    for number, name in ((1, "stdout"), (2, "stderr")):
        target = case.streams.get(name, str(logs / name))
        if target == "closed":
            os.close(number)
            setattr(sys, name, None)
            continue
        if target == "pipe":
            reading, handle = os.pipe()
            os.close(reading)
        else:
            handle = os.open(target, os.O_WRONLY | os.O_CREAT)
        os.dup2(handle, number)
        usual = "strict" if number == 1 else "backslashreplace"
        raw = io.FileIO(number, "wb", closefd=False)
        stream = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding, errors or usual, line_buffering=number == 2
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _watch(report: int, changeable: tuple[str, ...]) -> None:
    """Report requests off the machine, programs, and changes of files that are not below given paths."""

    def inside(path: Any) -> bool:
        if isinstance(path, int) or path is None:
            return True
        real = os.path.realpath(os.fsdecode(path))
        return any(real == allowed or real.startswith(f"{allowed}/") for allowed in changeable)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        violation = _violation(event, arguments, inside)
        if violation is not None:
            os.write(report, f"{violation}\n".encode(errors="replace"))
            if event.startswith("socket."):
                raise OSError(errno.ENETUNREACH, "Network is unreachable")

    sys.addaudithook(hook)


def _violation(event: str, arguments: tuple[Any, ...], inside: Callable[[Any], bool]) -> str | None:
    """Return a sentence if an event of Python is one that no command may cause."""
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & _WRITING and not inside(path):
            return f"a file outside was opened for writing: {path}"
    elif event in _CHANGES and not inside(arguments[0]):
        return f"{event} outside: {arguments[0]}"
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        return f"a request off the machine: {arguments[0]}"
    elif event in ("socket.connect", "socket.sendto") and not isinstance(arguments[1], str | bytes):
        return f"a request off the machine: {arguments[1]}"
    elif event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"):
        program = Path(os.fsdecode(arguments[0])).name
        if program not in _PROGRAMS and not program.startswith("python"):
            return f"a program was started: {program}"
    return None
