"""The folder of a case: its files before and after."""

import json
import os
import re
import signal
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from case import Case, Outcome

_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that a terminal or a reader obeys: controls of ASCII and C1, and of the direction of text."""

TRACEBACK = b"Traceback (most recent call last)"


def snapshot(room: Path, leave_out: tuple[str, ...] = ()) -> dict[str, str]:
    """Return what each path below a room is, without some of its folders."""
    entries = {}
    for folder, folders, files in os.walk(room):
        if Path(folder) == room:
            folders[:] = [name for name in folders if name not in leave_out]
        for name in (*folders, *files):
            path = Path(folder, name)
            entries[str(path.relative_to(room))] = _state(path)
    return entries


def _state(path: Path) -> str:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return f"link to {path.readlink()}"
    if stat.S_ISREG(mode):
        if path.lstat().st_size > 1 << 28:
            return f"{path.lstat().st_size} bytes"
        return f"file {sha256(path.read_bytes()).hexdigest()}"
    return f"kind {stat.S_IFMT(mode):o}"


def changes(before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
    """Yield a sentence for each input that changed and each file that was added."""
    for path in sorted(before.keys() | after.keys()):
        if path not in after:
            yield f"an input was deleted: {path}"
        elif path not in before:
            yield f"a file was written outside of the output: {path}"
        elif before[path] != after[path]:
            yield f"an input was changed: {path}"


def _problems_of_code(case: Case, code: int) -> Iterator[str]:
    """Yield a sentence if a command may not end with an exit code, or by a signal."""
    if case.signal and code == -case.signal[0] == -signal.SIGTERM:
        return  # it came before the command had a handler
    if code < 0 or (code >= 128 and code not in case.codes):
        yield f"a crash: signal {-code if code < 0 else code - 128}"
    elif code not in case.codes:
        yield f"exit code {code}, expected {' or '.join(map(str, sorted(case.codes)))}"


def problems_of_output(case: Case, outcome: Outcome, room: Path) -> Iterator[str]:
    """Yield a sentence for each thing that no command may print."""
    if TRACEBACK in outcome.stderr or TRACEBACK in outcome.stdout:
        lines = outcome.stderr.decode(errors="replace").strip().splitlines()
        yield f"a traceback: {lines[-1][:200] if lines else ''}"
    yield from _problems_of_code(case, outcome.code)
    texts = {"stdout": outcome.stdout, "stderr": outcome.stderr}
    texts |= {path.name: path.read_bytes() for path in (room / "out").glob("*.md") if path.is_file()}
    for name, content in texts.items():
        text = content.decode(errors="replace")
        if match := _CONTROLS.search(text.replace("\r\n", "\n")):
            yield f"{name} has the control character {match[0]!r}"
    if outcome.code == 0 and "--json" in case.words:
        for line in outcome.stdout.decode(errors="replace").splitlines():
            try:
                json.loads(line, parse_constant=_refuse)
            except ValueError as error:
                yield f"stdout is not JSON: {error}: {line[:80]}"
                break
    for path in (room / "out").glob("*.md"):
        if path.is_file() and re.search(rb"\b(nan|NaN|inf|Infinity)\b", path.read_bytes()):
            yield f"{path.name} shows a number that is not finite"
    if outcome.code not in (0, 120) and not outcome.stderr.strip() and not (case.streams or case.signal):
        yield "an error without a message"


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
