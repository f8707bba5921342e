"""The training loop: exact resuming, several processes, logs, and what it refuses."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_training
import torch
from safetensors.torch import load_file
from tiny_training import make_base, make_rows, read_log, run
from transformers import AutoModelForCausalLM

from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.checkpoints.load import load, read_model
from llara_eval.core.errors import CheckFailedError, MissingPartError, UsageError
from llara_eval.core.files import sha256_of
from llara_eval.training import checkpoint
from llara_eval.training.config import Conditions, Schedule
from llara_eval.training.data import RowFormat, Rows
from llara_eval.training.loop import batch_of, train
from llara_eval.training.objective import Numbered, Step
from llara_eval.training.optimizer import learning_rate, make_optimizer

SCRIPT = Path(tiny_training.__file__)
WEIGHTS = "model.safetensors"
STEPS = 12
"""Optimizer steps of a run that is stopped after the first of them; each step saves a training state."""


def start(
    folder: Path, steps: int, dtype: str, *launcher: str, compiled: bool = False
) -> subprocess.Popen[str]:
    command = [sys.executable, *launcher, str(SCRIPT), str(folder), str(steps), dtype]
    command += ["compiled"] * compiled
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_state(folder: Path, process: subprocess.Popen[str]) -> None:
    while not list((folder / "out" / "state").glob("step-*/run.json")):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)


def alike(one: Path, two: Path, base: Path) -> None:
    """Assert that two trained models have the same tensors, up to rounding relative to how far they moved."""
    left, right, before = (load_file(path) for path in (one, two, base))
    assert left.keys() == right.keys()
    for name, weight in left.items():
        change = (weight - before[name]).abs().max()
        assert (weight - right[name]).abs().max() <= 1e-3 * change, name


@pytest.mark.parametrize(
    ("stop", "dtype", "compiled"),
    [
        pytest.param(signal.SIGKILL, "float32", False, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, "bfloat16", False, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, "float32", True, marks=pytest.mark.nightly),
    ],
)
def test_a_run_that_was_stopped_and_resumed_ends_with_equal_bits(
    tmp_path: Path, stop: signal.Signals, dtype: str, compiled: bool
) -> None:
    left_alone = run(tmp_path / "alone", STEPS, dtype, compiled=compiled)
    process = start(tmp_path / "stopped", STEPS, dtype, compiled=compiled)
    wait_for_state(tmp_path / "stopped", process)
    process.send_signal(stop)
    assert process.wait() != 0
    assert not (tmp_path / "stopped" / "out" / WEIGHTS).exists(), "stopped too late to prove anything"
    resumed = run(tmp_path / "stopped", STEPS, dtype, compiled=compiled)
    assert sha256_of(resumed / WEIGHTS) == sha256_of(left_alone / WEIGHTS)
    if compiled:
        alike(
            resumed / WEIGHTS,
            run(tmp_path / "eager", STEPS, dtype) / WEIGHTS,
            tmp_path / "eager" / "base" / WEIGHTS,
        )
    steps = [entry["step"] for entry in read_log(resumed) if entry["kind"] == "train"]
    assert steps == list(range(1, STEPS + 1))
    assert not (resumed / "state").exists()


def test_a_run_repeats_exactly_and_another_seed_gives_another(tmp_path: Path) -> None:
    one, two, other = (
        load_file(run(tmp_path / name, 3, lora=True, merge=True, seed=seed) / WEIGHTS)
        for name, seed in (("one", 1), ("two", 1), ("other", 2))
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_compiling_without_a_compiler_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "")
    with pytest.raises(MissingPartError, match=r"compiling needs a C\+\+ compiler"):
        run(tmp_path, 1, compiled=True)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.device_count() == 1, reason="two processes need two GPUs, or none")
def test_two_processes_end_where_one_does(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    run(one, 4)
    process = start(two, 4, "float32", "-m", "torch.distributed.run", "--nproc_per_node", "2")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    alike(one / "out" / WEIGHTS, two / "out" / WEIGHTS, one / "base" / WEIGHTS)
    logs = [
        [entry for entry in read_log(folder / "out") if entry["kind"] == "train"] for folder in (one, two)
    ]
    for left, right in zip(*logs, strict=True):
        for term in ("loss", "language_model", "ebae", "ebar", "grad_norm", "tokens"):
            assert left[term] == pytest.approx(right[term], rel=1e-4), (left["step"], term)
    config = json.loads((two / "out" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]


@pytest.mark.parametrize("merge", [False, True])
def test_a_lora_adapter_is_saved_alone_or_merged(tmp_path: Path, merge: bool) -> None:
    out = run(tmp_path, 2, lora=True, merge=merge)
    assert (out / "adapter_config.json").exists() != merge
    assert (out / WEIGHTS).exists() == merge
    record = json.loads((out / checkpoint.RECORD).read_text())
    assert record["reload_difference"] < 1e-5
    assert load(out, dtype="float32").templates.document.slots == 8
    head, base = "lm_head.weight", tmp_path / "base"
    model = read_model(Checkpoint(out), dtype=torch.float32, head=True)
    assert torch.equal(model.get_parameter(head), load_file(base / WEIGHTS)[head])


def test_the_log_has_every_term_of_every_step(tmp_path: Path) -> None:
    entries = read_log(run(tmp_path, 10))
    trained = [entry for entry in entries if entry["kind"] == "train"]
    for entry in trained:
        terms = entry["language_model"] + entry["ebae"] + entry["ebar"]
        assert entry["loss"] == pytest.approx(terms, rel=1e-6)
        assert entry["tokens_per_second"] > 0
        assert 0 <= entry["padding"] < 0.2
    assert trained[-1]["loss"] < trained[0]["loss"]
    recalls = [entry["ebae_recall"] for entry in entries if entry["kind"] == "eval"]
    assert len(recalls) == 2
    assert recalls[1] > recalls[0]
    assert list((tmp_path / "out" / "tensorboard").iterdir())


def test_a_checkpoint_that_reads_back_differently_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = AutoModelForCausalLM.from_pretrained(make_base(tmp_path / "base")).__class__.save_pretrained

    def save_scaled(self: Any, folder: Path, state_dict: Mapping[str, Any]) -> None:
        save(self, folder, state_dict={name: weight * 1.01 for name, weight in state_dict.items()})

    monkeypatch.setattr("transformers.LlamaForCausalLM.save_pretrained", save_scaled)
    with pytest.raises(CheckFailedError, match="other embeddings"):
        run(tmp_path, 1)
    assert not (tmp_path / "out" / WEIGHTS).exists()
    assert not (tmp_path / "out" / checkpoint.RECORD).exists()


class Falling:
    """An objective with one weight; its loss falls, or is not a number from some step on."""

    def __init__(self, broken: bool = False) -> None:
        self.model = torch.nn.Linear(1, 1)
        self.precision = torch.float32
        self.broken = broken
        self.seen: list[int] = []

    def read(self, rows: Numbered, epoch: int) -> list[int]:
        return [row for row, _ in rows]

    def step(self, rows: list[int]) -> Step:
        self.seen += rows
        loss = self.model(torch.ones(1, 1)).sum() * (float("nan") if self.broken else 1.0)
        loss.backward()
        return Step(terms={"loss": float(loss.detach())}, tokens=len(rows), padded=len(rows))


SHORT = Schedule(learning_rate=1.0, batch_size=2, steps=3)


def ten_rows(folder: Path) -> Rows:
    return Rows([make_rows(folder / "ten.jsonl", 10)], RowFormat("any", dict), cache=folder / "cache")


def train_in(folder: Path, objective: Falling, schedule: Schedule = SHORT, **identity: str) -> None:
    """Train on ten rows; the identity is that of the run."""
    train(objective, ten_rows(folder), schedule, Conditions(output=folder / "out"), identity=identity)


def test_the_next_step_is_read_during_this_one_but_never_during_an_evaluation(tmp_path: Path) -> None:
    readers, reading = set(), []

    class Slow(Falling):
        def read(self, rows: Numbered, epoch: int) -> list[int]:
            readers.add(threading.get_ident())
            reading.append(epoch)
            time.sleep(0.05)
            reading.pop()
            return super().read(rows, epoch)

    def evaluate() -> dict[str, float]:
        assert not reading
        return {}

    schedule, slow = Schedule(learning_rate=1.0, batch_size=2, steps=5), Slow()
    conditions = Conditions(output=tmp_path / "out", evaluate_every=1)
    train(slow, ten_rows(tmp_path), schedule, conditions, identity={}, measures=[evaluate])
    assert threading.get_ident() not in readers
    assert slow.seen == [row for step in range(5) for row in batch_of(step, schedule, 10)[1]]


def test_a_row_that_cannot_be_read_stops_the_run(tmp_path: Path) -> None:
    class Choosy(Falling):
        def read(self, rows: Numbered, epoch: int) -> list[int]:
            raise UsageError("no room for text")

    with pytest.raises(UsageError, match="no room for text"):
        train_in(tmp_path, Choosy())


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(CheckFailedError, match=r"step 1: loss nan.*ten\.jsonl:\d+"):
        train_in(tmp_path, Falling(broken=True))


def test_data_smaller_than_a_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="10 rows are fewer than one batch of 20"):
        train_in(tmp_path, Falling(), replace(SHORT, batch_size=20))


def test_a_state_of_another_run_is_refused(tmp_path: Path) -> None:
    class Stopping(Falling):
        def step(self, rows: list[int]) -> Step:
            signal.raise_signal(signal.SIGTERM)
            return super().step(rows)

    with pytest.raises(SystemExit, match="143"):
        train_in(tmp_path, Stopping(), data="a")
    with pytest.raises(UsageError, match=r"other data \(a before, b now\); give the same command again"):
        train_in(tmp_path, Falling(), data="b")
    resumed = Falling()
    train_in(tmp_path, resumed, data="a")
    assert len(resumed.seen) == 4


def test_every_epoch_has_every_row_once_and_its_own_order() -> None:
    schedule = Schedule(learning_rate=1.0, batch_size=4)
    drawn = np.concatenate([batch_of(step, schedule, 10)[1] for step in range(5)])
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert drawn[:10].tolist() != drawn[10:].tolist()
    assert batch_of(2, schedule, 10)[0] == 0


def test_rows_that_fill_no_batch_are_left_out_of_an_epoch_where_asked() -> None:
    schedule = Schedule(learning_rate=1.0, batch_size=4, epochs=2, drop_last=True)
    assert schedule.total_steps(11) == 4
    assert Schedule(learning_rate=1.0, batch_size=4, epochs=2).total_steps(11) == 6
    epochs, batches = zip(*(batch_of(step, schedule, 11) for step in range(4)), strict=True)
    assert epochs == (0, 0, 1, 1)
    for first in (0, 2):
        assert len({*batches[first].tolist(), *batches[first + 1].tolist()}) == 8


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    schedule = Schedule(learning_rate=1.0, batch_size=1, warmup=0.2)
    rates = [learning_rate(step, 10, schedule) for step in range(11)]
    assert rates == pytest.approx([0.5, 1.0, *(1 - step / 8 for step in range(9))])
    counted = Schedule(learning_rate=1.0, batch_size=1, warmup=5)
    assert [learning_rate(step, 10, counted) for step in (0, 4, 5)] == pytest.approx([0.2, 1.0, 1.0])


def test_the_logarithmic_warm_up_is_deepspeeds() -> None:
    """Values by hand: the rate of a step was set after the step before; the first step has none."""
    schedule = Schedule(learning_rate=2.0, batch_size=1, warmup=4, warmup_shape="log")
    rates = [learning_rate(step, 8, schedule) for step in range(8)]
    quarter = np.log([1, 2, 3, 4]) / np.log(4)
    assert rates == pytest.approx([0.0, *(2 * quarter), 2.0, 1.5, 1.0])
    brief = Schedule(learning_rate=2.0, batch_size=1, warmup=0, warmup_shape="log")
    assert [learning_rate(step, 4, brief) for step in range(4)] == pytest.approx([0.0, 0.0, 2.0, 2.0])


def test_weight_decay_is_for_matrices_alone() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))
    optimizer = make_optimizer(model, Schedule(learning_rate=1.0, batch_size=1, weight_decay=0.1))
    decays = {
        tuple(weight.shape): group["weight_decay"]
        for group in optimizer.param_groups
        for weight in group["params"]
    }
    assert decays == {(2, 2): 0.1, (2,): 0.0}


@pytest.mark.parametrize(
    "values",
    [
        *(
            {"learning_rate": 0.0},
            {"batch_size": 0},
            {"steps": 0},
            {"warmup": -1},
            {"epochs": 0},
            {"seed": -1},
        ),
        *({name: number} for name in ("learning_rate", "epochs", "warmup") for number in (nan, inf)),
    ],
)
def test_settings_that_cannot_be_run_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(values))):
        Schedule(**{"learning_rate": 1.0, "batch_size": 1, **values})
