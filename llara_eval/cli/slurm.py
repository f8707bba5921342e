"""One command as a Slurm array: every task is a worker, and may come late, be preempted, or never start."""

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from llara_eval.core.errors import LlaraEvalError
from llara_eval.core.files import write_text
from llara_eval.core.own_files import require_own

_SCRIPT = """\
#!/bin/bash
#SBATCH --job-name=llara-eval
#SBATCH --array=0-{last}
#SBATCH --output=llara-eval-%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:TERM@60

# Any number of these tasks fill the same stores; more may be submitted while they run. Partition, account,
# time and GPUs are those of sbatch's options, or of SBATCH_PARTITION, SBATCH_TIMELIMIT, SBATCH_GPUS.
set -euo pipefail
cd {folder}
export LLARA_EVAL_HOME={home}
exec {command}
"""
"""The signal comes a minute before the time limit: the worker gives its shard back and ends."""


_SEAL = "# llara-eval replaces this script as long as it does not change; SHA-256 of the lines above: "


def script(command: Sequence[str], workers: int, *, folder: Path, home: Path) -> str:
    """Return the script of an array.

    Args:
        command: The words of the command that each task runs.
        workers: The number of tasks.
        folder: The working directory of the tasks.
        home: The folder for caches, which all tasks must see.
    """
    return _SCRIPT.format(
        last=workers - 1,
        folder=shlex.quote(str(folder)),
        home=shlex.quote(str(home)),
        command=shlex.join(command),
    )


def _is_own(file: Path) -> bool:
    """Return whether a file is a script that :func:`submit` wrote, unchanged."""
    text, _, checksum = file.read_text(encoding="utf-8").rpartition(_SEAL)
    return sha256(text.encode()).hexdigest() == checksum.strip()


def submit(text: str, file: Path) -> str | None:
    """Write a script and submit it.

    Returns:
        The output of sbatch; None if sbatch is not installed.

    Raises:
        UsageError: The file is not a script of this program, or changed since.
        LlaraEvalError: Slurm refuses the script.
    """
    require_own(file, _is_own, "encode --launcher slurm", "name for it")
    write_text(file, f"{text}{_SEAL}{sha256(text.encode()).hexdigest()}\n")
    if shutil.which("sbatch") is None:
        return None
    done = subprocess.run(["sbatch", str(file)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LlaraEvalError(f"sbatch refuses {file}: {done.stderr.strip()}")
    return done.stdout.strip()
