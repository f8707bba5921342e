"""LoRA adapters: loaded as peft loads them, recognised by their content, refused when broken."""

import json
import logging
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_models import TEXTS, make_config, make_tokenizer
from tiny_models import save_checkpoint as save_base
from transformers import AutoModel, AutoModelForCausalLM, GPT2Config, GPTNeoXConfig

from adapters import repllama
from adapters.llara import templates as llara
from llara_eval.checkpoints import load as checkpoints
from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.checkpoints.load import LoadOptions
from llara_eval.core.errors import DataError, UsageError
from llara_eval.encoding.encoder import Encoder
from llara_eval.encoding.templates import Template, Templates
from llara_eval.training.checkpoint import add_lora
from llara_eval.training.config import LoRA

RECOGNISERS = (llara.recognise, repllama.recognise)
PLAIN = Templates(Template(max_length=100), Template(max_length=100))
WEIGHTS = "adapter_model.safetensors"
TARGETS = ["q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = save_base(tmp_path / "base")
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(make_config("llama")).save_pretrained(folder)
    return folder


def save_adapter(
    folder: Path, base: Path, *, causal: bool = False, zero: bool = False, **config: Any
) -> Path:
    """Write an adapter as peft does, of a base model with or without its head."""
    torch.manual_seed(1)
    model = (AutoModelForCausalLM if causal else AutoModel).from_pretrained(base)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": TARGETS, **config}
    task_type = TaskType.CAUSAL_LM if causal else TaskType.FEATURE_EXTRACTION
    adapted = get_peft_model(model, LoraConfig(task_type=task_type, **settings))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name and not zero:
            torch.nn.init.normal_(weight, std=0.2)
    adapted.save_pretrained(folder)
    return folder


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def load(folder: Path) -> Encoder:
    return checkpoints.load(folder, LoadOptions(make_templates=lambda _: PLAIN), dtype="float32")


def by_peft(folder: Path, base: Path, *, causal: bool) -> np.ndarray:
    """Return the vectors that peft computes with the adapter on its base model, without a merge."""
    model = (AutoModelForCausalLM if causal else AutoModel).from_pretrained(base)
    adapted = PeftModel.from_pretrained(model, folder).eval()
    decoder = adapted.base_model.model
    encoder = Encoder(decoder.model if causal else decoder, make_tokenizer(), PLAIN)
    return encoder.encode(TEXTS, "query")


@pytest.mark.parity
@pytest.mark.parametrize("causal", [False, True], ids=["decoder", "with head"])
@pytest.mark.parametrize("relative", [False, True])
def test_vectors_are_those_of_peft(tmp_path: Path, base: Path, causal: bool, relative: bool) -> None:
    folder = save_adapter(tmp_path / "adapter", base, causal=causal)
    if relative:
        edit(folder, base_model_name_or_path="../base")
    vectors = load(folder).encode(TEXTS, "query")
    assert np.allclose(vectors, by_peft(folder, base, causal=causal), atol=1e-5)
    assert not np.allclose(vectors, load(base).encode(TEXTS, "query"), atol=1e-2)


def test_users_see_no_deprecation_that_peft_causes(tmp_path: Path, base: Path) -> None:
    folder, model = save_adapter(tmp_path / "adapter", base), AutoModel.from_pretrained(base)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        add_lora(model, LoRA(rank=2, alpha=4, dropout=0.0, targets=("q_proj",)))
        load(folder)


@pytest.mark.parametrize("causal", [False, True], ids=["decoder", "with head"])
def test_a_base_model_may_name_its_decoder_otherwise(tmp_path: Path, causal: bool) -> None:
    base, sizes = save_base(tmp_path / "base"), make_config("llama").to_dict()
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    torch.manual_seed(0)
    config = GPTNeoXConfig(**{name: sizes[name] for name in names}, initializer_range=0.3)
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    targets = ["query_key_value", "dense"]
    folder = save_adapter(tmp_path / "adapter", base, causal=causal, target_modules=targets)
    adapted = PeftModel.from_pretrained(
        (AutoModelForCausalLM if causal else AutoModel).from_pretrained(base), folder
    )
    decoder = adapted.eval().base_model.model
    alone = Encoder(decoder.gpt_neox if causal else decoder, make_tokenizer(), PLAIN)
    assert np.allclose(load(folder).encode(TEXTS, "query"), alone.encode(TEXTS, "query"), atol=1e-5)


def test_layers_of_gpt_2_that_are_linear_by_another_name_are_adapted() -> None:
    config = GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=300)
    adapted = add_lora(AutoModel.from_config(config), LoRA(rank=4, alpha=8, dropout=0.0, targets=("c_attn",)))
    assert sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad) == 2 * 4 * (32 + 96)


def test_the_head_is_read_on_request(tmp_path: Path, base: Path) -> None:
    for causal in (False, True):
        folder = save_adapter(tmp_path / f"adapter {causal}", base, causal=causal)
        with_head = checkpoints.read_model(Checkpoint(folder), dtype=torch.float32, head=True)
        without = checkpoints.read_model(Checkpoint(folder), dtype=torch.float32)
        ids = torch.tensor([[40, 50, 60]])
        hidden = without(ids).last_hidden_state
        assert torch.allclose(with_head.model(ids).last_hidden_state, hidden, atol=1e-6)
        assert torch.allclose(with_head(ids).logits, with_head.lm_head(hidden), atol=1e-5)


def test_a_base_model_needs_no_head_if_none_is_requested(tmp_path: Path, base: Path) -> None:
    folder = save_adapter(tmp_path / "adapter", base, causal=True)
    expected = load(folder).encode(TEXTS, "query")
    AutoModel.from_pretrained(base).save_pretrained(base)
    assert np.array_equal(load(folder).encode(TEXTS, "query"), expected)
    with pytest.raises(DataError, match=r"base lacks lm_head\.weight"):
        checkpoints.read_model(Checkpoint(folder), dtype=torch.float32, head=True)


@pytest.mark.parametrize("causal", [False, True], ids=["decoder", "with head"])
@pytest.mark.parametrize("relative", [False, True])
def test_tokens_added_in_training_have_their_rows(
    tmp_path: Path, base: Path, causal: bool, relative: bool
) -> None:
    model, tokenizer = (AutoModelForCausalLM if causal else AutoModel).from_pretrained(base), make_tokenizer()
    new = llara.add_tokens(tokenizer, [f"<new{i}>" for i in range(30)])
    assert new[0] < 300 < new[-1], "some get a new row, some a spare one"
    torch.manual_seed(2)
    llara.fit_embeddings(model, new)
    adapted = add_lora(model, LoRA(rank=4, alpha=8, dropout=0.0), new)
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.1)
    folder = tmp_path / "adapter"
    adapted.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    edit(folder, base_model_name_or_path="../base" if relative else str(base))
    texts = ["sun <new0>", "moon <new29>", "sea"]
    decoder = adapted.base_model.model.model if causal else adapted.base_model.model
    expected = Encoder(decoder.eval(), tokenizer, PLAIN).encode(texts, "query")
    assert np.allclose(load(folder).encode(texts, "query"), expected, atol=1e-5)


def test_tokens_without_rows_are_named(tmp_path: Path, base: Path) -> None:
    folder, tokenizer = save_adapter(tmp_path / "adapter", base), make_tokenizer()
    llara.add_tokens(tokenizer, [f"<new{i}>" for i in range(30)])
    tokenizer.save_pretrained(folder)
    edit(folder, base_model_name_or_path="../base")
    with pytest.raises(
        DataError, match=r"1 LoRA weights are missing .*, first base_model\.model\.embed_tokens\.weight"
    ):
        load(folder)


@pytest.mark.parametrize("how", ["modules_to_save", "save_embedding_layers"])
def test_an_embedding_matrix_in_an_adapter_replaces_that_of_the_base_model(
    tmp_path: Path, base: Path, how: str
) -> None:
    config = {"modules_to_save": ["embed_tokens"]} if how == "modules_to_save" else {}
    folder = save_adapter(tmp_path / "adapter", base, **config)
    weights = load_file(folder / WEIGHTS)
    matrix = load_file(base / "model.safetensors")["model.embed_tokens.weight"]
    weights["base_model.model.embed_tokens.weight"] = matrix.flip(0).contiguous()
    save_file(weights, folder / WEIGHTS)
    vectors = load(folder).encode(TEXTS, "query")
    assert np.allclose(vectors, by_peft(folder, base, causal=False), atol=1e-5)
    assert not np.allclose(vectors, load(base).encode(TEXTS, "query"), atol=1e-2)


def test_an_adapter_of_an_adapter_is_added_to_it(tmp_path: Path, base: Path) -> None:
    first = save_adapter(tmp_path / "first", base, causal=True)
    model = checkpoints.read_model(Checkpoint(first), dtype=torch.float32)
    torch.manual_seed(3)
    adapted = add_lora(model, LoRA(rank=4, alpha=8, dropout=0.0))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    adapted.save_pretrained(tmp_path / "second")
    assert Checkpoint(tmp_path / "second").lora["base_model_name_or_path"] == str(first)
    expected = Encoder(adapted.base_model.model.eval(), make_tokenizer(), PLAIN).encode(TEXTS, "query")
    assert np.allclose(load(tmp_path / "second").encode(TEXTS, "query"), expected, atol=1e-5)
    assert not np.allclose(load(first).encode(TEXTS, "query"), expected, atol=1e-2)


def test_a_missing_file_of_weights_is_not_looked_for_on_the_hub(tmp_path: Path, base: Path) -> None:
    folder = save_adapter(tmp_path / "adapter", base)
    (folder / WEIGHTS).unlink()
    with pytest.raises(DataError, match=r"holds neither adapter_model\.safetensors nor adapter_model\.bin"):
        load(folder)


def test_weights_stored_by_torch_are_read_as_plain_tensors(tmp_path: Path, base: Path) -> None:
    folder = save_adapter(tmp_path / "adapter", base)
    expected = load(folder).encode(TEXTS, "query")
    torch.save(load_file(folder / WEIGHTS), folder / "adapter_model.bin")
    (folder / WEIGHTS).unlink()
    assert np.array_equal(load(folder).encode(TEXTS, "query"), expected)


def test_code_in_pickled_weights_is_not_run(tmp_path: Path, base: Path) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "harmed",)

    folder = save_adapter(tmp_path / "adapter", base)
    (folder / WEIGHTS).unlink()
    torch.save({"weight": Harm()}, folder / "adapter_model.bin", pickle_module=pickle)
    with pytest.raises(DataError, match="cannot be loaded as plain tensors"):
        load(folder)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("missing", [True, False])
def test_weights_that_do_not_fit_the_model_are_refused(tmp_path: Path, base: Path, missing: bool) -> None:
    folder = save_adapter(tmp_path / "adapter", base)
    weights = load_file(folder / WEIGHTS)
    name = next(name for name in sorted(weights) if "layers.2" in name)
    weight = weights.pop(name)
    if not missing:
        weights[name.replace("layers.2", "layers.7")] = weight
    save_file(weights, folder / WEIGHTS)
    message = (
        rf"{1 if missing else 2} LoRA weights are missing or fit no layer of .*, first {re.escape(name)}"
    )
    with pytest.raises(DataError, match=message):
        load(folder)


def test_an_adapter_that_changes_nothing_is_warned_of(
    tmp_path: Path, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        load(save_adapter(tmp_path / "adapter", base))
        assert "changes nothing" not in caplog.text
        load(save_adapter(tmp_path / "zero", base, zero=True))
    assert "changes nothing: all its LoRA weights are zero" in caplog.text


def test_a_missing_base_model_is_named_with_the_way_out(tmp_path: Path, base: Path) -> None:
    folder = save_adapter(tmp_path / "adapter", base)
    edit(folder, base_model_name_or_path="some/where/else")
    with pytest.raises(DataError, match=r"'some/where/else', which is missing .*correct base_model_name_or"):
        load(folder)


@pytest.mark.parametrize("content", ["{", "[]", '{"peft_type": "IA3"}', '{"peft_type": "LORA"}'])
def test_a_configuration_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(DataError, match=r"adapter_config\.json"):
        _ = Checkpoint(tmp_path).lora


def test_the_content_hash_covers_adapter_and_base_model(tmp_path: Path, base: Path) -> None:
    folder = save_adapter(tmp_path / "adapter", base)
    hashes = [Checkpoint(folder).content_hash]
    save_base(base, seed=9)
    hashes.append(Checkpoint(folder).content_hash)
    weights = {name: weight + 1 for name, weight in load_file(folder / WEIGHTS).items()}
    save_file(weights, folder / WEIGHTS)
    hashes.append(Checkpoint(folder).content_hash)
    assert len(set(hashes)) == 3


RELEASED_AS = {
    # r, alpha, dropout and layers of castorini/repllama-v1-7b-lora-passage
    "repllama": {"r": 32, "lora_alpha": 64, "lora_dropout": 0.1, "target_modules": TARGETS},
    # those of BAAI/LLARA-passage
    "llara": {"r": 64, "lora_alpha": 16, "lora_dropout": 0.1, "target_modules": [*TARGETS, "k_proj"]},
}


@pytest.mark.parametrize("system", RELEASED_AS)
@pytest.mark.parametrize("name", ["repllama-v1-7b-lora-passage", "LLARA-passage", "mine"])
def test_released_checkpoints_are_recognised_by_their_content_and_not_by_name(
    tmp_path: Path, base: Path, system: str, name: str
) -> None:
    tokenizer = make_tokenizer()
    if system == "repllama":  # its vocabulary is LLaMA's: no slot tokens
        source = json.loads((base / "tokenizer.json").read_text())
        for number in range(1, 17):
            source["model"]["vocab"][f"<unused{number}>"] = source["model"]["vocab"].pop(f"<s{number}>")
        source["added_tokens"] = [token for token in source["added_tokens"] if token["id"] < 5]
        (base / "tokenizer.json").write_text(json.dumps(source))
    folder = save_adapter(tmp_path / name, base, **RELEASED_AS[system])
    encoder = checkpoints.load(folder, LoadOptions(recognisers=RECOGNISERS), dtype="float32")
    expected = llara.templates(tokenizer) if system == "llara" else repllama.templates(tokenizer)
    assert encoder.templates == expected.cut_to(128, 128)  # the positions of the model
    assert encoder.origin.template == f"recognised by adapters.{system}" + (
        ".templates" if system == "llara" else ""
    )


def test_an_adapter_of_unknown_templates_is_refused_with_the_way_out(tmp_path: Path, base: Path) -> None:
    folder = save_adapter(tmp_path / "LLARA-passage", base)
    with pytest.raises(UsageError, match="--option template=llara or repllama"):
        checkpoints.load(folder, LoadOptions(recognisers=(repllama.recognise,)))
