"""The engine that is chosen is the fastest of those whose vectors are the stock model's."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import TEXTS, save_checkpoint

from adapters import open_system
from adapters.options import Context
from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.checkpoints.load import open_source
from llara_eval.core.errors import MissingPartError
from llara_eval.datasets.load import load as load_dataset
from llara_eval.encoding import choice
from llara_eval.encoding.choice import Engines
from llara_eval.encoding.engines import encoder_of
from llara_eval.evaluation.evaluate import evaluate

OV, STOCK = choice.TRIED


class Machine:
    """A machine on which engines have the speeds and the faults that a test gives them."""

    def __init__(self) -> None:
        self.speeds = {STOCK: 1.0, OV: 1.0}
        self.fault: Exception | float = 0.0
        self.longest = 0
        """The most tokens of texts that have no fault."""
        self.opened = 0

    def open(self, name: str, source: Any) -> Any:
        self.opened += 1
        if isinstance(self.fault, Exception):
            raise self.fault
        stock, fault = encoder_of(source).engine, self.fault

        def embeddings(sequences: Any, *words: Any) -> Iterator[torch.Tensor]:
            (batch,) = stock.embeddings(sequences, *words)
            batch[:, 0] += torch.tensor([fault if len(ids) > self.longest else 0.0 for ids in sequences])
            yield batch

        known = {"width": stock.width, "device": stock.device, "dtype": stock.dtype}
        return SimpleNamespace(name=name, pads=True, embeddings=embeddings, **known)

    def seconds(self, encoder: Any, texts: Any) -> float:
        return 100.0 / self.speeds[OV if encoder.engine.name == OV else STOCK]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a processor."""
    machine = Machine()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(choice, "open_engine", machine.open)
    monkeypatch.setattr(choice, "_seconds", machine.seconds)
    save_checkpoint(tmp_path / "checkpoint", "bert")
    return machine


def choose(folder: Path, dtype: str | None = None, count: int = 1_000) -> str:
    """Return the choice of a new process."""
    engines = Engines(open_source(Checkpoint(folder / "checkpoint"), dtype=dtype))
    return engines.choose(encoder_of(engines.source), TEXTS, count, folder / "engines")


@pytest.mark.parametrize(
    ("speeds", "chosen"), [((1.0, 1.0), OV), ((1.1, 1.0), OV), ((1.2, 1.0), STOCK), ((1.0, 1.2), OV)]
)
def test_the_fastest_is_chosen_and_among_equals_the_first(
    tmp_path: Path, machine: Machine, speeds: tuple[float, float], chosen: str
) -> None:
    machine.speeds = dict(zip((STOCK, OV), speeds, strict=True))
    assert choose(tmp_path) == chosen


@pytest.mark.parametrize(
    ("fault", "reason"), [(0.01, "cosine"), (MissingPartError("pip install it"), "pip install it")]
)
def test_an_engine_with_other_vectors_or_that_is_not_there_is_not_chosen(
    tmp_path: Path, machine: Machine, fault: Exception | float, reason: str
) -> None:
    machine.speeds, machine.fault = {STOCK: 1.0, OV: 3.0}, fault
    assert choose(tmp_path) == STOCK
    (file,) = (tmp_path / "engines").iterdir()
    record = json.loads(file.read_text())
    assert reason in record["refused"][OV]
    assert record["seconds"] == {STOCK: 100.0}


def test_an_engine_whose_vectors_of_long_texts_differ_is_not_chosen(tmp_path: Path, machine: Machine) -> None:
    machine.fault, machine.longest = 0.01, 100
    assert choose(tmp_path) == STOCK
    machine.longest = 128  # the most that the checkpoint reads
    for file in (tmp_path / "engines").iterdir():
        file.unlink()
    assert choose(tmp_path) == OV


def test_a_model_that_fills_the_memory_is_not_converted(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "COPIES", 1 << 50)
    assert choose(tmp_path) == STOCK
    assert not machine.opened


def test_a_small_collection_is_not_worth_a_conversion(tmp_path: Path, machine: Machine) -> None:
    machine.speeds = {STOCK: 100.0, OV: 300.0}  # four texts a second
    assert choose(tmp_path, count=239) == STOCK
    assert not machine.opened
    assert choose(tmp_path, count=241) == OV


def test_other_dtypes_are_those_of_the_stock_model(tmp_path: Path, machine: Machine) -> None:
    machine.speeds = {STOCK: 1.0, OV: 2.0}
    assert choose(tmp_path, "float32") == OV
    assert choose(tmp_path, "bfloat16") == STOCK


def test_a_choice_is_kept_and_made_again_if_it_does_not_agree_or_is_damaged(
    tmp_path: Path, machine: Machine
) -> None:
    assert choose(tmp_path) == OV
    machine.speeds[STOCK] = 9.0
    assert choose(tmp_path) == OV, "nothing was timed"
    machine.fault = 0.01
    assert choose(tmp_path) == STOCK
    (file,) = (tmp_path / "engines").iterdir()
    machine.speeds[STOCK], machine.fault = 1.0, 0.0
    for damaged in ("", "[]", '{"engine": "os"}', "{}"):
        file.write_text(damaged)
        assert choose(tmp_path) == OV


@pytest.fixture
def collection(make_collection: Any) -> Any:
    """Return a small data set."""
    folder = make_collection({"a": "sun and moon", "b": "a cello"}, {"q": "moon"}, {"q": {"a": 1}})
    return load_dataset(str(folder), data_dir=folder.parent)


def open_dense(folder: Path, **options: str) -> Any:
    """Return a system as a new process opens it."""
    return open_system(str(folder / "checkpoint"), options, Context(folder / "home", offline=True))


def test_workers_take_the_engine_of_the_first(
    tmp_path: Path, machine: Machine, collection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "WORTHWHILE", 0.0)
    first = open_dense(tmp_path)
    first.index(collection.corpus)
    assert first.settings["runtime"]["backend"] == OV
    machine.speeds[STOCK] = 9.0
    for file in (tmp_path / "home" / "engines").iterdir():
        file.unlink()
    second = open_dense(tmp_path)
    second.index(collection.corpus)
    assert second.phases["index"]["reused"] == 2
    assert second.settings["runtime"]["backend"] == OV
    machine.fault = MissingPartError("pip install openvino")
    with pytest.raises(MissingPartError, match=r"vectors by openvino: pip install openvino\. Or .*--backend"):
        open_dense(tmp_path).index(collection.corpus)
    named = open_dense(tmp_path, backend=STOCK)
    named.index(collection.corpus)
    assert named.phases["index"]["reused"] == 0


def test_a_result_is_kept_whatever_engine_would_be_chosen_now(
    tmp_path: Path, machine: Machine, collection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "WORTHWHILE", 0.0)
    conditions = {"runs_dir": tmp_path / "runs", "measures": ["nDCG@10"]}
    assert evaluate(open_dense(tmp_path), collection, **conditions).fresh
    monkeypatch.setattr(choice, "WORTHWHILE", 1e9)
    again = evaluate(open_dense(tmp_path), collection, **conditions)
    assert not again.fresh
    assert again.result.settings["runtime"]["backend"] == OV
