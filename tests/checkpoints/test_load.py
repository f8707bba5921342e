"""A folder on disk becomes an encoder; what cannot be read is named."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import (
    TEXTS,
    make_config,
    make_model,
    make_tokenizer,
    save_checkpoint,
)
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, T5Config

from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.checkpoints.load import load, read_model
from llara_eval.core.errors import DataError, MissingPartError, UsageError
from llara_eval.encoding.encoder import Encoder
from llara_eval.encoding.templates import Template, Templates
from llara_eval.training.checkpoint import add_lora
from llara_eval.training.config import LoRA


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("models") / "bare")


@pytest.fixture
def copy(bare, tmp_path):
    return shutil.copytree(bare, tmp_path / "copy")


def test_a_bare_model_is_pooled_over_all_positions(bare) -> None:
    encoder = load(bare, dtype="float32")
    assert encoder.templates == Templates(Template(max_length=128), Template(max_length=128))
    assert encoder.encode(TEXTS, "query").shape == (len(TEXTS), 32)


def test_the_template_in_the_checkpoint_wins(copy) -> None:
    asked, told = Template(prompt="query: ", max_length=32), Template(prompt="passage: ", max_length=64)
    templates = Templates(query=asked, document=told)
    templates.save(copy)
    assert load(copy, dtype="float32").templates == templates


def test_changes_apply_to_both_sides(bare) -> None:
    templates = load(bare, dtype="float32", changes={"max_length": 16, "pooling": "last"}).templates
    assert {(side.max_length, side.pooling) for side in (templates.query, templates.document)} == {
        (16, "last")
    }


def test_a_model_reads_as_much_as_the_task_asks_and_it_can(bare) -> None:
    def limit(**options) -> int:
        return load(bare, dtype="float32", **options).templates.document.max_length

    assert limit(text_length=100) == 100
    assert limit(text_length=2_048) == 128, "the model has no more positions"
    assert limit(text_length=2_048, changes={"max_length": 50}) == 50, "the user's own word counts"


def test_weights_are_those_on_disk(bare) -> None:
    loaded = load(bare, dtype="float32").model.state_dict()
    for name, value in make_model("llama").state_dict().items():
        assert torch.equal(loaded[name], value)


@pytest.mark.parametrize("kind", ["llama", "gemma2"], ids=["head of its own", "head tied to the table"])
def test_a_head_is_read_or_tied_but_not_made_up(tmp_path, kind) -> None:
    folder = save_checkpoint(tmp_path / "decoder", kind)
    if kind == "llama":
        with pytest.raises(DataError, match=r"decoder lacks lm_head\.weight: adapt needs a whole checkpoint"):
            read_model(Checkpoint(folder), dtype=torch.float32, head=True)
    else:
        model = read_model(Checkpoint(folder), dtype=torch.float32, head=True)
        assert model.lm_head.weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_weights_that_are_missing_are_not_made_up(tmp_path, kind) -> None:
    folder = save_checkpoint(tmp_path / "model", kind)
    file = folder / "model.safetensors"
    weights = load_file(file)
    encoder = load(folder, dtype="float32")
    without_pooler = {name: weight for name, weight in weights.items() if "pooler" not in name}
    save_file(without_pooler, file, metadata={"format": "pt"})
    assert np.array_equal(
        load(folder, dtype="float32").encode(TEXTS, "document"), encoder.encode(TEXTS, "document")
    )
    lost = next(name for name in weights if ".1." in name)
    kept = {name: weight for name, weight in without_pooler.items() if name != lost}
    for wrong in (kept, {f"transformer.{name}": weight for name, weight in weights.items()}):
        save_file(wrong, file, metadata={"format": "pt"})
        with pytest.raises(DataError, match=r"lacks .*: its weights are not complete"):
            load(folder)


def test_pickled_weights_are_refused(copy) -> None:
    (copy / "model.safetensors").unlink()
    torch.save(make_model("llama").state_dict(), copy / "pytorch_model.bin")
    with pytest.raises(DataError, match="cannot be loaded"):
        load(copy)


@pytest.mark.parametrize(
    ("name", "content"),
    [("model.safetensors", b""), ("model.safetensors", None), ("config.json", b"[]"), ("config.json", b"{")],
    ids=["nothing", "half of it", "no object", "half a text"],
)
def test_files_that_are_not_whole_are_named(copy, name, content) -> None:
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(DataError, match=f"{copy}: .* cannot be read|{copy}: cannot be loaded as a model"):
        load(copy)


def test_code_inside_a_checkpoint_is_not_run(copy, tmp_path) -> None:
    trace = tmp_path / "ran"
    (copy / "evil.py").write_text(f"open({str(trace)!r}, 'w')\n")
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError):
        load(copy)
    assert not trace.exists()


def test_unknown_dtype(bare) -> None:
    with pytest.raises(UsageError, match="float32, bfloat16, float16"):
        load(bare, dtype="int3")


@pytest.mark.parametrize("kind", ["bert", "qwen2", "gemma3", "mpnet", "llama"])
def test_a_folder_without_a_tokenizer_is_refused(tmp_path, kind) -> None:
    folder = save_checkpoint(tmp_path / "model", kind)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(DataError, match="tokenizer"):
        load(folder)


def test_a_tokenizer_of_another_model_is_named_where_the_model_has_no_row(tmp_path) -> None:
    folder = save_checkpoint(tmp_path / "model")
    grown = make_tokenizer()
    grown.add_tokens([f"<new{number}>" for number in range(100)])
    grown.save_pretrained(folder)
    encoder = load(folder, dtype="float32")
    assert encoder.encode(["a plain text"], "document").shape == (1, 32)
    with pytest.raises(DataError, match=r"no row for, \d+ of 300, the first in 'with <new99>"):
        encoder.encode(["with <new99> in it"], "document")


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"hidden_size": 64}, DataError), ({"quantization_config": {"quant_method": "awq"}}, MissingPartError)],
)
def test_weights_that_do_not_fit_or_need_a_package_are_named(copy, changes, error) -> None:
    path = copy / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(error, match="copy"):
        load(copy)


def test_a_model_reads_no_more_tokens_than_it_has_positions(bare) -> None:
    there = Checkpoint(bare).config.max_position_embeddings
    most = load(bare, changes={"max_length": there})
    assert most.templates.document.max_length == there
    with pytest.raises(UsageError, match=f"max_length {there + 1:,} is more than .* positions: {there:,}"):
        load(bare, changes={"max_length": there + 1})


@pytest.mark.parametrize("kind", ["xlm-roberta", "mpnet", "bert", "llama"])
def test_a_text_that_fills_all_positions_is_encoded(tmp_path, kind) -> None:
    """Some models count positions from behind the padding token's id, and have as many less."""
    folder = save_checkpoint(tmp_path / "model", kind)
    encoder = load(folder, dtype="float32", text_length=1_000)
    limit = {"xlm-roberta": 126, "mpnet": 126}.get(kind, 128)
    assert encoder.templates.document.max_length == limit
    assert load(folder, dtype="float32").templates.document.max_length == limit
    assert encoder.encode(["word " * 200], "document").shape == (1, 32)
    with pytest.raises(UsageError, match="more than the model has positions"):
        load(folder, changes={"max_length": limit + 1})


def test_templates_that_ask_for_more_positions_than_there_are_are_cut(copy) -> None:
    there = Checkpoint(copy).config.max_position_embeddings
    Templates(Template(max_length=there - 1), Template(max_length=there + 1)).save(copy)
    made = load(copy).templates
    assert (made.query.max_length, made.document.max_length) == (there - 1, there)


def test_of_a_model_that_reads_pictures_too_the_language_model_is_read(tmp_path) -> None:
    torch.manual_seed(0)
    pictures = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3Config(
        text_config=make_config("gemma3").to_dict(),
        vision_config={**pictures, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
    )
    whole = Gemma3ForConditionalGeneration(config)
    whole.save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    encoder = load(tmp_path, dtype="float32")
    assert type(encoder.model).__name__ == "Gemma3TextModel"
    alone = Encoder(whole.model.language_model.eval(), encoder.tokenizer, encoder.templates)
    assert np.array_equal(encoder.encode(TEXTS, "query"), alone.encode(TEXTS, "query"))
    with pytest.raises(UsageError, match="gemma3 is more than a language model"):
        read_model(Checkpoint(tmp_path), dtype=torch.float32, head=True)
    updated = add_lora(
        read_model(Checkpoint(tmp_path), dtype=torch.float32), LoRA(rank=4, alpha=8, dropout=0.0)
    )
    assert updated.peft_config["default"].base_model_name_or_path == str(tmp_path)


def test_a_model_of_encoder_and_decoder_is_refused(tmp_path) -> None:
    T5Config().save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="t5 is an encoder and a decoder"):
        load(tmp_path)
