"""The one training loop: adaptation and fine-tuning differ only in their objective.

A run is decided by its seed: data order by (seed, epoch), everything drawn in an optimizer step by (seed,
step, process). So a run that was killed and taken up again ends with the weights of one left alone, bit for
bit, on the same processor. The rows of a step are read and tokenised beside the step before.
"""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llara_eval.core.errors import CheckFailedError, UsageError
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.training import state
from llara_eval.training.config import Schedule
from llara_eval.training.data import Rows, order
from llara_eval.training.distributed import largest, rank, total, world
from llara_eval.training.log import Journal, summary
from llara_eval.training.objective import Objective, Step
from llara_eval.training.optimiser import learning_rate, make_optimiser, trained_parameters, training_state

SAVE_MINUTES = 15.0
"""Usual minutes between two training states."""

Evaluate = Callable[[], Mapping[str, float]]


def train(
    objective: Objective,
    rows: Rows,
    schedule: Schedule,
    output: Path,
    *,
    identity: Mapping[str, Any],
    save_minutes: float = SAVE_MINUTES,
    evaluate: Evaluate | None = None,
    evaluate_every: int = 0,
    progress: Progress = SILENT,
) -> int:
    """Train, and go on from the last training state in ``output`` if there is one.

    Args:
        objective: What is minimised; its model is trained in place.
        rows: The data.
        schedule: How parameters are trained.
        output: The folder of the run, for its log, TensorBoard's and its training states.
        identity: What makes this run the one it is; a training state of another run is refused.
        save_minutes: Minutes between two training states.
        evaluate: Measures the model; called before the first step, after the last, and in between.
        evaluate_every: Optimizer steps between two evaluations; 0 only before and after.
        progress: Where to show progress.

    Returns:
        The number of optimizer steps.

    Raises:
        UsageError: The data or the number of processes does not fit the batch size, or ``output`` holds
            another run.
        CheckFailedError: The loss or the gradient is not finite.
        KeyboardInterrupt: The run was asked to stop; its training state is kept.
    """
    steps = _check(schedule, rows)
    optimiser = make_optimiser(objective.model, schedule)
    tensors = training_state(objective.model, optimiser)
    first = state.restore(output, tensors, identity)
    saved = time.monotonic()
    with (
        Journal(output, first, steps) as journal,
        _stop_requests() as requests,
        progress.task("train", steps) as advance,
        ThreadPoolExecutor(1) as reader,
    ):
        advance(first)
        if evaluate is not None and first == 0:
            journal.evaluation(0, evaluate())
        read = partial(_read, objective, rows, schedule)
        upcoming = reader.submit(read, first)
        for step in range(first, steps):
            batch, done = upcoming, step + 1
            if done < steps:
                upcoming = reader.submit(read, done)
            entry = _optimizer_step(objective, batch, rows, schedule, optimiser, step, steps)
            journal.step(done, entry)
            advance(1, summary(entry))
            if evaluate is not None and (done == steps or (evaluate_every and done % evaluate_every == 0)):
                wait([upcoming])  # a tokenizer must not be used twice at a time
                journal.evaluation(done, evaluate())
            stop = largest(int(bool(requests)))
            if stop or (done < steps and largest(int(time.monotonic() - saved > save_minutes * 60))):
                state.save(output, done, tensors, identity)
                saved = time.monotonic()
            if stop:
                raise KeyboardInterrupt
    return steps


def _check(schedule: Schedule, rows: Rows) -> int:
    """Return the number of optimizer steps; refuse data or processes that do not fit the batch size."""
    if schedule.batch_size % world():
        raise UsageError(f"a batch of {schedule.batch_size} rows cannot be shared by {world()} processes")
    return schedule.total_steps(len(rows))


def _read(objective: Objective, rows: Rows, schedule: Schedule, step: int) -> tuple[list[int], Any]:
    """Return the numbers of this process's rows of a step, and what the objective makes of them."""
    epoch, batch = batch_of(step, schedule, len(rows))
    share = batch[rank() :: world()].tolist()
    return share, objective.read([(row, rows[row]) for row in share], epoch)


def _optimizer_step(
    objective: Objective,
    batch: Future[tuple[list[int], Any]],
    rows: Rows,
    schedule: Schedule,
    optimiser: torch.optim.Optimizer,
    step: int,
    steps: int,
) -> dict[str, float]:
    """Make one optimizer step and return what is logged of it."""
    started = time.perf_counter()
    torch.manual_seed(_seed(schedule.seed, step, rank()))
    share, inputs = batch.result()
    objective.model.train()
    result: Step = objective.step(inputs)
    rate = learning_rate(step, steps, schedule)
    for group in optimiser.param_groups:
        group["lr"] = rate
    weights = trained_parameters(objective.model).values()
    norm = torch.nn.utils.clip_grad_norm_(weights, schedule.max_grad_norm)
    size = float(norm.full_tensor() if isinstance(norm, torch.distributed.tensor.DTensor) else norm)
    if not np.isfinite([*result.terms.values(), size]).all():
        raise CheckFailedError(
            f"step {step + 1}: {summary(result.terms)}, gradient norm {size}; rows "
            f"{', '.join(map(rows.place, share[:4]))} …; try a lower learning rate, or float32"
        )
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - started
    tokens, padded = total(result.tokens), total(result.padded)
    return {
        **result.terms,
        "learning_rate": rate,
        "grad_norm": size,
        "tokens": tokens,
        "padding": round(1 - tokens / padded, 4),
        "seconds": round(seconds, 3),
        "tokens_per_second": round(tokens / seconds, 1),
    }


def batch_of(step: int, schedule: Schedule, rows: int) -> tuple[int, NDArray[np.int64]]:
    """Return the epoch a step begins in, and the row numbers of its batch over all processes."""
    positions = np.arange(step * schedule.batch_size, (step + 1) * schedule.batch_size)
    epochs, within = np.divmod(positions, rows)
    orders = {int(epoch): _order(rows, schedule.seed, int(epoch)) for epoch in np.unique(epochs)}
    batch = np.array(
        [orders[epoch][position] for epoch, position in zip(epochs.tolist(), within, strict=True)]
    )
    return int(epochs[0]), batch


_order = lru_cache(maxsize=2)(order)


def _seed(*parts: int) -> int:
    """Return a seed made of several numbers, well apart for neighbours."""
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
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: nobody can press keys here
        yield requests
        return
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
