"""One command as a Slurm array: every task is a worker, and may come late, be preempted, or never start."""

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from llara_eval.core.errors import LlaraEvalError
from llara_eval.core.files import write_text

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


def submit(text: str, file: Path) -> str | None:
    """Write a script and submit it.

    Returns:
        The output of sbatch; None if sbatch is not installed.

    Raises:
        LlaraEvalError: Slurm refuses the script.
    """
    write_text(file, text)
    if shutil.which("sbatch") is None:
        return None
    done = subprocess.run(["sbatch", str(file)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LlaraEvalError(f"sbatch refuses {file}: {done.stderr.strip()}")
    return done.stdout.strip()
