"""The one training loop: adaptation and fine-tuning differ only in their objective.

The seed decides a run: the order of the data is drawn from (seed, epoch), everything else that is random in
an optimizer step from (seed, step, process). So a run that was killed and resumed ends with the weights of a
run that was left alone, bit for bit, on the same processor. The rows of a step are read and tokenised in
another thread during the step before.
"""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llara_eval.core.errors import CheckFailedError, UsageError
from llara_eval.encoding.devices import KeptMemory
from llara_eval.training import state
from llara_eval.training.config import Conditions, Schedule
from llara_eval.training.data import Rows, order
from llara_eval.training.distributed import largest, rank, total, world
from llara_eval.training.log import Journal, summary
from llara_eval.training.objective import Objective, Step
from llara_eval.training.optimizer import learning_rate, make_optimizer, trained_parameters, training_state

Measure = Callable[[], dict[str, float]]
"""Measures the model in training; returns values by name."""


def train(
    objective: Objective,
    rows: Rows,
    schedule: Schedule,
    conditions: Conditions,
    *,
    identity: Mapping[str, Any],
    measures: Sequence[Measure] = (),
) -> int:
    """Train, from the last training state in ``conditions.output`` if there is one.

    Args:
        objective: The objective that is minimised; its model is trained in place.
        rows: The training data.
        schedule: The settings of the optimizer steps.
        conditions: The conditions of the run. Its output gets the log and the training states.
        identity: The JSON values that distinguish this run from others. A training state of another run is
            refused.
        measures: Called before the first step, after the last, and every ``conditions.evaluate_every``.

    Returns:
        The number of optimizer steps.

    Raises:
        UsageError: The batch size does not suit the data or the number of processes, or the output holds
            another run.
        CheckFailedError: The loss or the gradient is not finite.
        KeyboardInterrupt: The run was interrupted; its training state is kept.
        SystemExit: So it was by SIGTERM; the exit code is 143.
    """
    if schedule.batch_size % world():
        raise UsageError(f"a batch of {schedule.batch_size} rows cannot be shared by {world()} processes")
    steps = schedule.total_steps(len(rows))
    trainer = _Trainer(objective, rows, schedule, make_optimizer(objective.model, schedule), steps)
    tensors = training_state(objective.model, trainer.optimizer)
    first = state.restore(conditions.output, tensors, identity)
    memory = KeptMemory()
    saved = time.monotonic()
    every = conditions.evaluate_every
    with (
        Journal(conditions.output, first, steps) as journal,
        _stop_requests() as requests,
        conditions.progress.task("train", steps) as advance,
        ThreadPoolExecutor(1) as reader,
    ):
        advance(first)
        if measures and first == 0:
            journal.evaluation(0, _evaluation(measures))
        upcoming = reader.submit(trainer.read, first)
        for step in range(first, steps):
            batch, done = upcoming, step + 1
            if done < steps:
                upcoming = reader.submit(trainer.read, done)
            values = trainer.step(step, batch)
            memory.limit()
            journal.step(done, values)
            advance(1, summary(values))
            if measures and (done == steps or (every and done % every == 0)):
                wait([upcoming])  # a tokenizer must not be used by two threads at a time
                journal.evaluation(done, _evaluation(measures))
            stop = largest(int(bool(requests)))
            is_due = time.monotonic() - saved > conditions.save_minutes * 60
            if stop or (done < steps and largest(int(is_due))):
                state.save(conditions.output, done, tensors, identity)
                saved = time.monotonic()
            if stop:
                raise SystemExit(128 + signal.SIGTERM) if signal.SIGTERM in requests else KeyboardInterrupt
    return steps


def _evaluation(measures: Sequence[Measure]) -> dict[str, float]:
    return {name: value for measure in measures for name, value in measure().items()}


@dataclass(frozen=True, slots=True)
class _Trainer:
    objective: Objective
    rows: Rows
    schedule: Schedule
    optimizer: torch.optim.Optimizer
    steps: int

    def read(self, step: int) -> tuple[list[int], Any]:
        """Return the numbers of this process's rows of a step, and the objective's inputs made of them."""
        epoch, batch = batch_of(step, self.schedule, len(self.rows))
        share = batch[rank() :: world()].tolist()
        return share, self.objective.read([(row, self.rows[row]) for row in share], epoch)

    def step(self, step: int, batch: Future[tuple[list[int], Any]]) -> dict[str, float]:
        """Make an optimizer step with the batch that :meth:`read` returns, and return the values to log."""
        started = time.perf_counter()
        torch.manual_seed(_seed(self.schedule.seed, step, rank()))
        share, inputs = batch.result()
        self.objective.model.train()
        result: Step = self.objective.step(inputs)
        rate = learning_rate(step, self.steps, self.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        weights = trained_parameters(self.objective.model).values()
        norm = torch.nn.utils.clip_grad_norm_(weights, self.schedule.max_grad_norm)
        grad_norm = float(norm.full_tensor() if isinstance(norm, torch.distributed.tensor.DTensor) else norm)
        if not np.isfinite([*result.terms.values(), grad_norm]).all():
            raise CheckFailedError(
                f"step {step + 1}: {summary(result.terms)}, gradient norm {grad_norm}; rows "
                f"{', '.join(map(self.rows.location, share[:4]))} …; try a lower learning rate, or float32"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - started
        tokens, padded = total(result.tokens), total(result.padded)
        return {
            **result.terms,
            "learning_rate": rate,
            "grad_norm": grad_norm,
            "tokens": tokens,
            "padding": round(1 - tokens / padded, 4),
            "seconds": round(seconds, 3),
            "tokens_per_second": round(tokens / seconds, 1),
        }


def batch_of(step: int, schedule: Schedule, rows: int) -> tuple[int, NDArray[np.int64]]:
    """Return the epoch that a step begins in, and the row numbers of its batch over all processes."""
    size = schedule.batch_size
    epoch_rows = rows // size * size if schedule.drop_last else rows
    epochs, within = np.divmod(np.arange(step * size, (step + 1) * size), epoch_rows)
    batch = [
        _order(rows, schedule.seed, epoch)[position]
        for epoch, position in zip(epochs.tolist(), within.tolist(), strict=True)
    ]
    return int(epochs[0]), np.array(batch)


_order = lru_cache(maxsize=2)(order)


def _seed(*parts: int) -> int:
    """Return a seed made of several numbers; neighbouring numbers give unrelated seeds."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Collect requests to stop (Ctrl-C, SIGTERM) until the step is done; a second Ctrl-C stops at once."""
    requests: list[int] = []

    def note(number: int, frame: Any) -> None:
        if requests and number == signal.SIGINT:
            raise KeyboardInterrupt
        requests.append(number)

    try:
        handlers = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # only the main thread can have handlers of signals
        yield requests
        return
    try:
        yield requests
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
