"""The engine of OpenVINO gives the vectors of the stock model, keeps its graph, and reports to nobody."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from checkout import ROOT
from peft import LoraConfig, get_peft_model
from tiny_models import ARCHITECTURES, TEXTS, make_model, save_checkpoint

from llara_eval.checkpoints.load import LoadOptions, load
from llara_eval.core.errors import MissingPartError, UsageError
from llara_eval.encoding import openvino_model
from llara_eval.encoding.check import check
from llara_eval.encoding.encoder import Encoder
from llara_eval.encoding.templates import SIDES, Template, Templates

OPENVINO = LoadOptions(engine="openvino")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLARA_EVAL_HOME", str(tmp_path / "home"))


def lowest_cosine(encoder: Encoder, stock: Encoder) -> float:
    """Return the lowest cosine of two encoders on the texts, on either side."""
    pairs = [(encoder.encode(TEXTS, side), stock.encode(TEXTS, side)) for side in SIDES]
    cosines = [
        (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
        for ours, theirs in pairs
    ]
    return float(np.min(cosines))


@pytest.mark.parity
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_vectors_are_those_of_the_stock_model(tmp_path: Path, architecture: str) -> None:
    folder = save_checkpoint(tmp_path / "checkpoint", architecture)
    side = Template(pooling="last", suffix=("</s>",), max_length=64, normalize=False)
    Templates(side, replace(side, pooling="mean")).save(folder)
    stock, encoder = load(folder, dtype="float32"), load(folder, OPENVINO, dtype="float32")
    assert (encoder.engine.name, encoder.engine.dtype) == ("openvino", torch.float32)
    for each in SIDES:
        assert np.allclose(encoder.encode(TEXTS, each), stock.encode(TEXTS, each), atol=2e-4)
    assert min(check(encoder, TEXTS).values()) > 0.9999


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_texts_of_one_token_and_as_long_as_they_may_be(tmp_path: Path, architecture: str) -> None:
    folder = save_checkpoint(tmp_path / "checkpoint", architecture)
    stock, encoder = load(folder, dtype="float32"), load(folder, OPENVINO, dtype="float32")
    for sequences in ([[7]], [[7], [8]], [[*range(5, 105)]], [[*range(5, 105)], [7]]):
        ours, theirs = encoder.embed(sequences, "document"), stock.embed(sequences, "document")
        assert torch.nn.functional.cosine_similarity(ours, theirs).min() > 0.99999


def test_batches_of_one_and_of_many_and_long_texts_give_equal_vectors(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "checkpoint", "bert")
    texts = [" ".join(TEXTS[: number % 5 + 1] * (number % 7 + 1)) for number in range(40)]
    encoder = load(folder, OPENVINO, dtype="float32", batch_tokens=300)
    many = encoder.encode(texts, "document")
    one = np.concatenate([encoder.encode([text], "document") for text in texts])
    assert np.allclose(many, one, atol=1e-5)


def test_a_graph_is_converted_once_and_again_if_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_checkpoint(tmp_path / "checkpoint", "bert")
    converted, usual = [], openvino_model._convert
    monkeypatch.setattr(
        openvino_model, "_convert", lambda *words: (converted.append(words[-1]), usual(*words))[1]
    )
    stock = load(folder, dtype="float32")
    for _ in range(2):
        assert lowest_cosine(load(folder, OPENVINO, dtype="float32"), stock) > 0.99999
    assert len(converted) == 1
    (weights,) = (tmp_path / "home" / "openvino").glob("*/model.bin")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    assert lowest_cosine(load(folder, OPENVINO, dtype="float32"), stock) > 0.99999
    assert len(converted) == 2
    save_checkpoint(tmp_path / "other", "bert", seed=1)
    load(tmp_path / "other", OPENVINO, dtype="float32")
    assert len(converted) == 3


def test_an_adapter_is_merged_first(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "base", "llama")
    torch.manual_seed(1)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = get_peft_model(make_model("llama"), config)
    model.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    model.save_pretrained(tmp_path / "adapter")
    side = Template(pooling="last", suffix=("</s>",), max_length=64)
    Templates(side, side).save(tmp_path / "adapter")
    adapted, base = load(tmp_path / "adapter", dtype="float32"), load(tmp_path / "base", dtype="float32")
    encoder = load(tmp_path / "adapter", OPENVINO, dtype="float32")
    assert lowest_cosine(encoder, adapted) > 0.99999
    assert lowest_cosine(encoder, base.with_templates(Templates(side, side), base.origin)) < 0.999


def test_a_model_that_cannot_be_converted_and_a_dtype_without_products_are_usage_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_checkpoint(tmp_path / "checkpoint", "bert")
    with pytest.raises(UsageError, match="float32 or bfloat16"):
        load(folder, OPENVINO, dtype="float16")

    def fail(*words: object, **options: object) -> None:
        raise RuntimeError("no rule for aten::strange\nmore")

    monkeypatch.setattr(openvino_model.import_openvino(), "convert_model", fail)
    with pytest.raises(UsageError, match=r"cannot run BertModel: no rule for aten::strange$"):
        load(folder, OPENVINO, dtype="float32")
    assert not [*(tmp_path / "home" / "openvino").glob("*")]


def test_without_openvino_the_command_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingPartError, match="pip install openvino"):
        load(save_checkpoint(tmp_path / "checkpoint", "bert"), OPENVINO, dtype="float32")


def test_nothing_is_reported_over_the_network(tmp_path: Path) -> None:
    (tmp_path / "openvino_telemetry").mkdir()
    (tmp_path / "openvino_telemetry" / "__init__.py").write_text("raise SystemExit('imported')")
    program = (
        "import sys\n"
        "sys.addaudithook(lambda event, arguments: event == 'socket.connect' and print(arguments))\n"
        "from llara_eval.encoding.openvino_model import import_openvino\n"
        "print(import_openvino().__version__.split('.')[0])"
    )
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().isdigit()
