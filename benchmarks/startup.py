"""Start-up: processor time of ``llara-eval --help``, and of other programs and libraries."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rounds import Outcome, comparison, ratio
from table import Table

BIN = Path(sys.executable).parent
COMMANDS = {
    "`llara-eval --help`": [str(BIN / "llara-eval"), "--help"],
    "`mteb --help`": [str(BIN / "mteb"), "--help"],
    **{
        f"`python -c 'import {name}'`": [sys.executable, "-c", f"import {name}"]
        for name in ("typer, rich", "torch", "sentence_transformers")
    },
}


def processor_seconds(command: Sequence[str]) -> float:
    """Run a command, and return its seconds of all processors, user and system time.

    Raises:
        ChildProcessError: The command failed.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ChildProcessError(f"{' '.join(command)} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime


def measure(
    rounds: int, say: Callable[[str], None], commands: Mapping[str, Sequence[str]] = COMMANDS
) -> list[Outcome]:
    """Run each command in turn; the first round, which reads files from disk, does not count."""
    outcomes = {name: Outcome(name) for name in commands}
    for number in range(rounds + 1):
        say(f"start-up: round {number} of {rounds}")
        for name, command in commands.items():
            if outcomes[name].refused:
                continue
            try:
                seconds = processor_seconds(command)
            except (ChildProcessError, OSError) as error:
                outcomes[name].refused = f"failed: {error}"
                continue
            if number:
                outcomes[name].rounds.append({"seconds": seconds})
    return [*outcomes.values()]


def table(outcomes: Sequence[Outcome]) -> Table:
    """Return the table of processor seconds and ratios."""
    ours = outcomes[0]
    return comparison(
        "Start",
        "Seconds of all processors.",
        ["seconds", "ours is faster, times"],
        outcomes,
        lambda peer: [f"{peer.median():.2f}", "" if peer is ours else ratio(peer, ours)],
    )
