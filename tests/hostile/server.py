"""A process that has imported everything once, and runs each case in a fork of itself.

``python server.py FOLDER`` obeys lines on stdin, each the id of a case, and answers each with a line of JSON:
``{"problems": [...], "code": 3, "seconds": 0.1, "stderr": "…"}``.
"""

import fcntl
import gc
import json
import os
import re
import select
import shutil
import signal
import struct
import sys
import tempfile
import termios
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import guard
import parts
import room as rooms
from case import CANARY, OWN_FOLDERS, Case, Damage, Outcome, all_cases, unchecked
from warm import warm

LONGEST = 20.0
"""Seconds that a command may take."""

_ANSWERS = b"y\n" * 500
"""What stdin offers to a command that asks."""


def warm_all() -> None:
    """Import what commands import, so that a fork does not."""
    import faiss  # noqa: F401
    import gguf  # noqa: F401
    import ir_measures
    import scipy.stats  # noqa: F401
    import sentence_transformers  # noqa: F401
    from typer.testing import CliRunner

    from llara_eval.cli import app

    warm()
    CliRunner().invoke(app, ["score", "--qrels", "absent", "--run", "absent"])  # Typer imports what it needs
    list(
        ir_measures.iter_calc([ir_measures.nDCG @ 10, ir_measures.Rprec], {"1": {"a": 1}}, {"1": {"a": 1.0}})
    )
    names = [(path / "comm").read_text().strip() for path in Path("/proc/self/task").iterdir()]
    others = [name for name in names[1:] if not name.startswith("jemalloc")]  # which starts again in a fork
    assert not others, f"a fork would lose the threads {others}"


class Server:
    """Runs cases in rooms below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cases = folder, all_cases()
        self.spare = {str((folder / "hub").resolve())}

    def run(self, identifier: str) -> dict[str, Any]:
        """Run a case; return its problems, its exit code, its seconds, and the end of its messages."""
        case = self.cases[identifier]
        room = Path(tempfile.mkdtemp(dir=self.folder, prefix="room-")).resolve() / "room"
        try:
            return self._run(case, room)
        except AssertionError as error:
            return _answer([f"not prepared: {error}"], Outcome(0, b"", b""), 0.0)
        finally:
            for folder, folders, _ in os.walk(room.parent):
                for name in folders:
                    path = Path(folder, name)
                    if not path.is_symlink():
                        path.chmod(0o755)
            shutil.rmtree(room.parent, ignore_errors=True)

    def _run(self, case: Case, room: Path) -> dict[str, Any]:
        _furnish(room)
        for name in case.parts:
            if not (self.folder / "parts" / name).exists():
                _apart(partial(parts.make, name, self.folder / "parts", self._make))
            parts.copy(self.folder / "parts" / name, room)
        damages: list[Damage] = []
        for words, damage in case.before:
            outcome, _, _ = self._command(case, words, room, damages)
            if outcome.code:
                text = outcome.stderr.decode(errors="replace")[-600:]
                return _answer([f"the command before failed: {' '.join(words)}: {text}"], outcome, 0.0)
            damages = [damage]
        outcome, problems, seconds = self._command(case, case.words, room, [*damages, case.damage])
        problems += rooms.problems_of_output(case, outcome, room)
        if not problems and case.check is not unchecked:
            problems += _apart(lambda: list(case.check(room, outcome)))
        return _answer(problems, outcome, seconds)

    def _command(
        self, case: Case, words: tuple[str, ...], room: Path, damages: Sequence[Damage] = ()
    ) -> tuple[Outcome, list[str], float]:
        """Damage a room, then run a command, in one fork; return its outcome, its problems, its seconds."""
        logs = Path(tempfile.mkdtemp(dir=room.parent, prefix="logs-"))
        canary = logs / "canary"
        reading, writing = os.pipe()
        os.write(writing, _ANSWERS)
        waiting, ready = os.pipe()
        changeable = (*OWN_FOLDERS, *case.writes)
        pid = os.fork()
        if not pid:
            try:
                for damage in damages:
                    damage(room)
                (logs / "before").write_text(json.dumps(rooms.snapshot(room, changeable)))
                os.environ |= _environment(room, canary)
                os.dup2(reading, 0)
                sys.stdin = open(0, closefd=False)  # noqa: SIM115
                if words[0] == parts.INTERRUPTED:
                    words = words[1:]
                    _interrupt_training()
                guard.run(case, words, room, logs, {*self.spare, str(canary)}, ready)
            except BaseException:
                (logs / "unprepared").write_text(traceback.format_exc()[-1500:])
            finally:
                os._exit(99)
        os.close(ready)
        os.read(waiting, 1)
        os.close(waiting)
        started = time.monotonic()
        code, late = _wait(pid, case.signal)
        seconds = time.monotonic() - started
        with_left = fcntl.ioctl(reading, termios.FIONREAD, b"\0" * 4)
        read = len(_ANSWERS) - struct.unpack("i", with_left)[0]
        os.close(reading)
        os.close(writing)
        assert not (logs / "unprepared").exists(), (logs / "unprepared").read_text()
        texts = [
            (logs / name).read_bytes() if (logs / name).exists() else b"" for name in ("stdout", "stderr")
        ]
        violations = (logs / "violations").read_text(errors="replace").splitlines()
        problems = list(dict.fromkeys(violations))[:5]
        before = json.loads((logs / "before").read_text())
        problems += rooms.changes(before, rooms.snapshot(room, changeable))
        if late:
            problems.append(f"still running after {LONGEST:.0f} s")
        if read:
            problems.append(f"stdin was read: {read} bytes")
        if canary.exists():
            what = canary.read_text()
            if not (case.code_may_run and what == "code"):
                problems.append(f"code of the checkpoint or of the data was executed: {what}")
        return Outcome(code, *texts), problems, seconds

    def _make(self, room: Path, words: tuple[str, ...]) -> None:
        """Run a command that makes a part."""
        _furnish(room)
        outcome, _, _ = self._command(Case(id="part", words=words), words, room)
        for logs in room.parent.glob("logs-*"):
            shutil.rmtree(logs)
        expected = 130 if words[0] == parts.INTERRUPTED else 0
        assert outcome.code == expected, f"{words}: {outcome.stderr.decode(errors='replace')[-3000:]}"


def _furnish(room: Path) -> None:
    """Make the folders that every room has."""
    for name in OWN_FOLDERS:
        (room / name).mkdir(parents=True, exist_ok=True)


def _apart(function: Callable[[], Any]) -> Any:
    """Call a function in a fork, so that this process stays as it is; return its list of texts, if any."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            result = function()
            texts = result if isinstance(result, list) and all(isinstance(one, str) for one in result) else []
            os.write(writing, json.dumps(texts[:5]).encode())
            os._exit(0)
        except BaseException:
            os.write(writing, traceback.format_exc()[-1500:].encode(errors="replace"))
        os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    status = os.waitpid(pid, 0)[1]
    assert not status, answer
    return json.loads(answer)


def _environment(room: Path, canary: Path) -> dict[str, str]:
    names = {"HOME": "user", "TMPDIR": "tmp", "LLARA_EVAL_HOME": "home", "XDG_CACHE_HOME": "user"}
    values = {name: str(room / folder) for name, folder in names.items()}
    return {**values, CANARY: str(canary), "COLUMNS": "120", "TERM": "dumb"}


def _interrupt_training() -> None:
    """Press Ctrl-C after the second training state."""
    from llara_eval.training import loop, state

    usual = state.save

    def save(output: Path, step: int, *rest: Any) -> None:
        usual(output, step, *rest)
        if step >= 2:
            raise KeyboardInterrupt

    for module in (loop, state):
        for name, value in vars(module).items():
            if value is usual:
                setattr(module, name, save)


def _wait(pid: int, number: tuple[int, float] | None) -> tuple[int, bool]:
    """Wait for a process; return its exit code (or minus its signal), and whether it had to be killed."""
    handle = os.pidfd_open(pid)
    if number is not None:
        select.select([handle], [], [], number[1])
        os.kill(pid, number[0])
    late = not select.select([handle], [], [], LONGEST)[0]
    if late:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(handle)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what it has started
    return os.waitstatus_to_exitcode(status), late


def _answer(problems: list[str], outcome: Outcome, seconds: float) -> dict[str, Any]:
    ours = re.findall(
        r'((?:llara_eval|adapters)/[\w/]+\.py)", line (\d+), in (\w+)',
        outcome.stderr.decode(errors="replace"),
    )
    return {
        "where": ":".join(ours[-1]) if ours else "",
        "problems": problems,
        "code": outcome.code,
        "seconds": round(seconds, 3),
        "stderr": outcome.stderr.decode(errors="replace")[-2500:],
        "stdout": outcome.stdout.decode(errors="replace")[-500:],
    }


def main(folder: Path) -> None:
    """Answer until stdin ends."""
    os.environ["HF_HOME"] = str(folder / "hub")
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "LLARA_EVAL_DATA", "LLARA_EVAL_STORE"):
        os.environ.pop(name, None)
    (folder / "hub").mkdir(parents=True, exist_ok=True)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warm_all()
    gc.collect()
    gc.freeze()  # a collection in a fork would copy the memory of all that is imported
    server = Server(folder)
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        answers.write(json.dumps(server.run(line.strip())) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
