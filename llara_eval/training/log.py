"""The log of a training run: ``log.jsonl``, TensorBoard, and a line for people now and then."""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from llara_eval.core.decode import decode
from llara_eval.core.files import write_text
from llara_eval.core.lines import parse_object, text_lines
from llara_eval.training.distributed import rank

logger = logging.getLogger(__name__)

LOG = "log.jsonl"

_QUIET_SECONDS = 30.0
"""Seconds between two lines that people see."""


class Journal:
    """Writes one JSON object a line, and the same numbers for TensorBoard; only the first process does.

    Args:
        output: The folder of the training run.
        first: Optimizer steps done before; what an interrupted run logged beyond them is dropped.
        steps: Optimizer steps altogether.
    """

    def __init__(self, output: Path, first: int, steps: int) -> None:
        self.steps = steps
        self._writes = rank() == 0
        self._said = time.monotonic()
        if not self._writes:
            return
        from torch.utils.tensorboard import SummaryWriter

        self._path = output / LOG
        kept = _until(self._path, first) if first and self._path.is_file() else []
        write_text(self._path, "".join(f"{line}\n" for line in kept))
        self._board = SummaryWriter(str(output / "tensorboard"), purge_step=first + 1)

    def __enter__(self) -> Self:
        """Return the journal."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close what is open."""
        if self._writes:
            self._board.close()

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Log an optimizer step."""
        self._write("train", step, values)
        if self._writes and time.monotonic() - self._said > _QUIET_SECONDS:
            self._said = time.monotonic()
            logger.info("step %d of %d: %s", step, self.steps, summary(values))

    def evaluation(self, step: int, values: Mapping[str, float]) -> None:
        """Log an evaluation after ``step`` optimizer steps."""
        self._write("eval", step, values)
        if self._writes:
            logger.info("after %d of %d steps: %s", step, self.steps, summary(values))

    def _write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        if not self._writes:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)


@dataclass(frozen=True, slots=True)
class _Entry:
    """What every line of the log says."""

    kind: str
    step: int


def _until(path: Path, last: int) -> list[str]:
    """Return the lines of a log up to a step; a line that was being written when the process died is dropped.

    Raises:
        DataError: Another line is no entry.
    """
    lines = [(number, line) for number, line in text_lines(path) if line.endswith("}")]
    entries = [decode(parse_object(path, number, line), _Entry, f"{path}:{number}") for number, line in lines]
    return [line for (_, line), entry in zip(lines, entries, strict=True) if entry.step <= last]


def summary(values: Mapping[str, float]) -> str:
    """Return numbers for people."""
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
