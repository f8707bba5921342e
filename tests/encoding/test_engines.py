"""All engines give the vectors of the stock model, or the check finds the difference."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_models import TEXTS, make_sentence_transformer, save_checkpoint

from adapters import open_system
from adapters.options import Context
from llara_eval.checkpoints import load as checkpoints
from llara_eval.checkpoints.export import export
from llara_eval.checkpoints.load import LoadOptions
from llara_eval.core.errors import CheckFailedError, MissingPartError, UsageError
from llara_eval.datasets.load import load
from llara_eval.encoding.check import check
from llara_eval.encoding.engines import open_engine
from llara_eval.encoding.templates import Template, Templates

ST = "sentence-transformers"
PROMPTS = {"prompts": {"query": "search: ", "document": ""}}
SLOTS = Template(suffix=("".join(f"<s{i}>" for i in range(1, 9)),), pooling="last", slots=8, max_length=64)


def add_dense(folder: Path, width: int = 7) -> Path:
    """Put a projection behind the pooling of a sentence-transformers folder."""
    modules = json.loads((folder / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "name": "d", "path": "D", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "D").mkdir()
    shape = {"in_features": 32, "out_features": width, "bias": False}
    (folder / "D" / "config.json").write_text(
        json.dumps({**shape, "activation_function": "torch.nn.modules.linear.Identity"})
    )
    weight = torch.randn(width, 32, generator=torch.Generator().manual_seed(0))
    save_file({"linear.weight": weight}, folder / "D" / "model.safetensors")
    return folder


def peer(folder: Path):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


@pytest.mark.parity
@pytest.mark.parametrize("architecture", ["bert", "llama"])
@pytest.mark.parametrize("pooling", ["mean", "lasttoken"])
def test_sentence_transformers_gives_our_vectors_where_we_know_its_modules(
    tmp_path, architecture, pooling
) -> None:
    files = {"config_sentence_transformers": PROMPTS}
    folder = make_sentence_transformer(tmp_path / "st", architecture, pooling, **files)
    stock, theirs = (
        checkpoints.load(folder, LoadOptions(engine=name), dtype="float32") for name in ("transformers", ST)
    )
    for side in ("query", "document"):
        assert np.allclose(stock.encode(TEXTS, side), theirs.encode(TEXTS, side), atol=1e-5)
    assert min(check(theirs, TEXTS).values()) > 0.9999
    assert theirs.engine.name == ST


def test_modules_that_only_sentence_transformers_has_are_run_by_it(tmp_path) -> None:
    folder = add_dense(make_sentence_transformer(tmp_path / "st", config_sentence_transformers=PROMPTS))
    with pytest.raises(UsageError, match="--backend sentence-transformers"):
        checkpoints.load(folder)
    encoder = checkpoints.load(folder, LoadOptions(engine=ST), dtype="float32")
    assert encoder.width == 7
    assert encoder.templates.document.pooling == "modules"
    for side in ("query", "document"):
        theirs = peer(folder).encode(TEXTS, prompt_name=side)
        assert np.allclose(encoder.encode(TEXTS, side), theirs, atol=1e-5)
    assert set(check(encoder, TEXTS)) == {"batch of one"}


def test_vectors_are_computed_again_after_a_projection_was_replaced(tmp_path, make_collection) -> None:
    folder = add_dense(make_sentence_transformer(tmp_path / "st"))
    collection = make_collection({"d": "text"}, {"q": "what"}, {"q": {"d": 1}})
    corpus = load(str(collection), data_dir=tmp_path).corpus

    def reused() -> float:
        system = open_system(str(folder), {"backend": ST}, Context(tmp_path / "home", offline=True))
        system.index(corpus)
        return system.phases["index"]["reused"]

    assert [reused(), reused()] == [0, 1]
    save_file({"linear.weight": torch.ones(7, 32)}, folder / "D" / "model.safetensors")
    assert reused() == 0


def test_sentence_transformers_pools_without_the_prompt_if_the_folder_says_so(tmp_path) -> None:
    folder = make_sentence_transformer(tmp_path / "st", config_sentence_transformers=PROMPTS)
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({**pooling, "include_prompt": False}))
    encoder = checkpoints.load(folder, LoadOptions(engine=ST), dtype="float32")
    theirs = peer(folder).encode(TEXTS, prompt_name="query")
    assert np.allclose(encoder.encode(TEXTS, "query"), theirs, atol=1e-5)


def test_an_export_is_run_by_the_route_of_each_side(tmp_path) -> None:
    folder = save_checkpoint(tmp_path / "checkpoint", "llama")
    query, document = (Template(suffix=(end,), pooling="last", max_length=64) for end in ("</s>", "<s1>"))
    Templates(query, document).save(folder)
    export(folder, tmp_path / "exported")
    stock = checkpoints.load(folder, dtype="float32")
    exported = checkpoints.load(tmp_path / "exported", LoadOptions(engine=ST), dtype="float32")
    for side in ("query", "document"):
        assert np.allclose(stock.encode(TEXTS, side), exported.encode(TEXTS, side), atol=1e-5)


def test_only_the_stock_model_pools_slots(tmp_path) -> None:
    folder = save_checkpoint(tmp_path / "checkpoint", "llama")
    Templates(SLOTS, SLOTS).save(folder)
    export(folder, tmp_path / "exported")
    with pytest.raises(UsageError, match="slots"):
        checkpoints.load(tmp_path / "exported", LoadOptions(engine=ST))


@pytest.mark.parametrize("name", [ST, "vllm"])
def test_lora_adapters_are_never_ignored(tmp_path, name) -> None:
    folder = make_sentence_transformer(tmp_path / "st")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match="LoRA adapter"):
        open_engine(name, Mock(folder=folder))


def test_a_folder_that_is_not_sentence_transformers_says_how_to_make_one(tmp_path) -> None:
    with pytest.raises(UsageError, match="llara-eval export"):
        checkpoints.load(save_checkpoint(tmp_path / "bare", "llama"), LoadOptions(engine=ST))


def test_our_engines_do_not_pool_for_the_modules_of_a_checkpoint(tmp_path) -> None:
    encoder = checkpoints.load(
        save_checkpoint(tmp_path / "bare", "llama"),
        LoadOptions(changes={"pooling": "modules"}),
        dtype="float32",
    )
    with pytest.raises(UsageError, match="checkpoint itself"):
        encoder.encode(TEXTS, "query")


def test_compiling_is_for_transformers(tmp_path) -> None:
    folder = make_sentence_transformer(tmp_path / "st")
    with pytest.raises(UsageError, match="compile=true"):
        open_system(str(folder), {"backend": ST, "compile": "true"}, Context(home=tmp_path, offline=True))


class Engine:
    """The documented interface of vLLM's pooling runner: hidden states of each token of each prompt."""

    shift = 0.0

    def __init__(self, model: str, **settings) -> None:
        self.settings = settings
        self.stock = checkpoints.load(Path(model), dtype=settings["dtype"]).model
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(get_hidden_size=lambda: 32))

    @torch.inference_mode()
    def encode(self, prompts, params, *, pooling_task, use_tqdm):
        assert (pooling_task, params.use_activation, use_tqdm) == ("token_embed", False, False)
        states = [
            self.stock(
                input_ids=torch.tensor([prompt["prompt_token_ids"]], device=self.stock.device)
            ).last_hidden_state[0]
            for prompt in prompts
        ]
        return [
            SimpleNamespace(outputs=SimpleNamespace(data=state.roll(1, 1) if Engine.shift else state))
            for state in states
        ]


@pytest.fixture
def vllm(monkeypatch):
    """Replace vLLM, which needs a GPU, by a class of the same interface."""
    module = ModuleType("vllm")
    module.LLM, module.PoolingParams = Engine, SimpleNamespace
    monkeypatch.setitem(sys.modules, "vllm", module)


@pytest.mark.parametrize(
    "template", [SLOTS, Template(max_length=100), Template(pooling="first", max_length=100)]
)
def test_vllm_hidden_states_are_pooled_as_the_template_says(tmp_path, vllm, template) -> None:
    folder = save_checkpoint(tmp_path / "checkpoint", "llama")
    Templates(template, template).save(folder)
    stock = checkpoints.load(folder, dtype="float32")
    served = checkpoints.load(folder, LoadOptions(engine="vllm"), dtype="float32")
    assert np.allclose(stock.encode(TEXTS, "document"), served.encode(TEXTS, "document"), atol=1e-5)
    assert min(check(served, TEXTS).values()) > 0.9999
    assert served.engine._model.settings["max_model_len"] == template.max_length


def test_the_check_finds_a_backend_that_computes_something_else(tmp_path, vllm, monkeypatch) -> None:
    monkeypatch.setattr(Engine, "shift", 1.0)
    served = checkpoints.load(
        save_checkpoint(tmp_path / "checkpoint", "llama"), LoadOptions(engine="vllm"), dtype="float32"
    )
    with pytest.raises(CheckFailedError, match="batch of one gives other vectors"):
        check(served, TEXTS)


def test_without_vllm_the_command_that_installs_it_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingPartError, match="pip install"):
        checkpoints.load(save_checkpoint(tmp_path / "checkpoint", "llama"), LoadOptions(engine="vllm"))
