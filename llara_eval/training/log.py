"""The log of a training run: ``log.jsonl``, TensorBoard, and a message on the console now and then."""

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

BOARD = "tensorboard"
"""The folder of TensorBoard's log."""

_QUIET_SECONDS = 30.0
"""Seconds between two messages on the console."""


class Journal:
    """Writes each entry as a line of JSON, and the same numbers for TensorBoard, in the first process alone.

    Args:
        output: The folder of the training run.
        first: Optimizer steps done before. Entries of an interrupted run after this step are dropped.
        steps: Optimizer steps of the whole run.

    Raises:
        DataError: The log of an interrupted run has a malformed line.
    """

    def __init__(self, output: Path, first: int, steps: int) -> None:
        self.steps = steps
        self._writes = rank() == 0
        self._last_message = time.monotonic()
        if not self._writes:
            return
        from torch.utils.tensorboard import SummaryWriter

        self._path = output / LOG
        lines = _lines_until(self._path, first) if first and self._path.is_file() else []
        write_text(self._path, "".join(f"{line}\n" for line in lines))
        self._board = SummaryWriter(str(output / BOARD), purge_step=first + 1)

    def __enter__(self) -> Self:
        """Return the journal."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the TensorBoard log."""
        if self._writes:
            self._board.close()

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Log an optimizer step."""
        self._write("train", step, values)
        if self._writes and time.monotonic() - self._last_message > _QUIET_SECONDS:
            self._last_message = time.monotonic()
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
    """The fields that every line of the log has."""

    kind: str
    step: int


def _lines_until(path: Path, last: int) -> list[str]:
    """Return the lines of a log up to a step, without a line that a killed process left unfinished."""
    lines = [(number, line) for number, line in text_lines(path) if line.endswith("}")]
    entries = [decode(parse_object(path, number, line), _Entry, f"{path}:{number}") for number, line in lines]
    return [line for (_, line), entry in zip(lines, entries, strict=True) if entry.step <= last]


def summary(values: Mapping[str, float]) -> str:
    """Return named numbers as text."""
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
