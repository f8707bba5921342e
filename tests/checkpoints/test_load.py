"""A folder on disk becomes an encoder; what cannot be read is named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import (
    TEXTS,
    make_config,
    make_model,
    make_sentence_transformer,
    make_tokenizer,
    save_checkpoint,
)
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, T5Config

from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.checkpoints.load import LoadOptions, load, read_model, settle_templates
from llara_eval.checkpoints.own_code import Permissions
from llara_eval.core.errors import DataError, MissingPartError, UsageError
from llara_eval.encoding.encoder import Encoder
from llara_eval.encoding.prompt_sets import PromptOptions
from llara_eval.encoding.templates import Template, Templates
from llara_eval.training.checkpoint import add_lora
from llara_eval.training.config import LoRA


def test_a_bare_model_is_pooled_over_all_positions(bare) -> None:
    encoder = load(bare, dtype="float32")
    assert encoder.templates == Templates(Template(max_length=128), Template(max_length=128))
    assert encoder.encode(TEXTS, "query").shape == (len(TEXTS), 32)


def test_the_template_in_the_checkpoint_wins(copy) -> None:
    templates = Templates(
        query=Template(prompt="query: ", max_length=32), document=Template(prompt="passage: ", max_length=64)
    )
    templates.save(copy)
    assert load(copy, dtype="float32").templates == templates


def test_changes_apply_to_both_sides(bare) -> None:
    templates = load(
        bare, LoadOptions(changes={"max_length": 16, "pooling": "last"}), dtype="float32"
    ).templates
    assert {(side.max_length, side.pooling) for side in (templates.query, templates.document)} == {
        (16, "last")
    }


def test_a_model_reads_as_many_tokens_as_the_task_needs_and_it_can(bare) -> None:
    def limit(**options) -> int:
        return load(bare, LoadOptions(**options), dtype="float32").templates.document.max_length

    assert limit(text_length=100) == 100
    assert limit(text_length=2_048) == 128, "the model has no more positions"
    assert limit(text_length=2_048, changes={"max_length": 50}) == 50, "the user's limit comes first"


def test_a_limit_can_be_that_of_the_text_alone(bare: Path) -> None:
    template = Template(prefix=("<s>",), prompt="query: ", suffix=("</s>",), pooling="last")
    both = Templates(template, Template(suffix=("</s>",), pooling="last"))

    def settle(**changes: Any) -> Templates:
        changes = {"length_of": "text", **changes}
        options = LoadOptions(make_templates=lambda tokenizer: both, changes=changes)
        return settle_templates(Checkpoint(bare), options)[0]

    templates, text = settle(max_length=20), "x" * 100
    tokenizer = Checkpoint(bare).tokenizer
    for side, around in (("query", 9), ("document", 1)):  # each byte is a token
        (ids,) = templates.of(side).token_ids(tokenizer, [text])
        assert len(ids) == 20 + around
    with pytest.raises(UsageError, match="query length 137 is more than the model has positions: 128"):
        settle(max_length=128)


def test_weights_are_those_on_disk(bare) -> None:
    loaded = load(bare, dtype="float32").model.state_dict()
    for name, value in make_model("llama").state_dict().items():
        assert torch.equal(loaded[name], value)


@pytest.mark.parametrize(
    "architecture", ["llama", "gemma2"], ids=["head of its own", "head tied to the embedding matrix"]
)
def test_a_head_is_read_or_tied_but_not_invented(tmp_path, architecture) -> None:
    folder = save_checkpoint(tmp_path / "decoder", architecture)
    if architecture == "llama":
        with pytest.raises(DataError, match=r"decoder lacks lm_head\.weight: adapt needs a whole checkpoint"):
            read_model(Checkpoint(folder), dtype=torch.float32, head=True)
    else:
        model = read_model(Checkpoint(folder), dtype=torch.float32, head=True)
        assert model.lm_head.weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_missing_weights_are_not_invented(tmp_path, architecture) -> None:
    folder = save_checkpoint(tmp_path / "model", architecture)
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
    with pytest.raises(DataError, match=r"weights in pytorch_model\.bin only: -o bin_weights=true"):
        load(copy)
    allowed = Checkpoint(copy, allowed=Permissions(bin_weights=True))
    assert allowed.content_hash != Checkpoint(copy).content_hash
    for name, value in make_model("llama").state_dict().items():
        assert torch.equal(load(allowed, dtype="float32").model.state_dict()[name], value)


def test_code_in_pickled_weights_is_not_run(copy, tmp_path) -> None:
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (copy / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Evil()}, copy / "pytorch_model.bin")
    with pytest.raises(DataError, match="cannot be loaded as plain tensors; code in it is never run"):
        load(Checkpoint(copy, allowed=Permissions(bin_weights=True)))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [("model.safetensors", b""), ("model.safetensors", None), ("config.json", b"[]"), ("config.json", b"{")],
    ids=["nothing", "half of it", "no object", "half a text"],
)
def test_files_that_are_not_whole_are_named(copy, name, content) -> None:
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(
        DataError, match=f"{copy}: .* cannot be read|{copy}: cannot be loaded as a llama model|{copy}/config"
    ):
        load(copy)


def test_code_inside_a_checkpoint_is_not_run(copy, tmp_path) -> None:
    trace = tmp_path / "ran"
    (copy / "evil.py").write_text(f"open({str(trace)!r}, 'w')\n")
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        UsageError, match=r"config\.json names code of its own, evil\.C, .*--trust-remote-code"
    ):
        load(copy)
    assert not trace.exists()


def test_unknown_dtype(bare) -> None:
    with pytest.raises(UsageError, match="float32, bfloat16, float16"):
        load(bare, dtype="int3")


@pytest.mark.parametrize("architecture", ["bert", "qwen2", "gemma3", "mpnet", "llama"])
def test_a_folder_without_a_tokenizer_is_refused(tmp_path, architecture) -> None:
    folder = save_checkpoint(tmp_path / "model", architecture)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(DataError, match="tokenizer"):
        load(folder)


def test_a_token_id_without_a_row_in_the_embedding_matrix_is_named(tmp_path) -> None:
    folder = save_checkpoint(tmp_path / "model")
    grown = make_tokenizer()
    grown.add_tokens([f"<new{number}>" for number in range(100)])
    grown.save_pretrained(folder)
    encoder = load(folder, dtype="float32")
    assert encoder.encode(["a plain text"], "document").shape == (1, 32)
    with pytest.raises(DataError, match=r"the token id \d+ in 'with <new99>.*has 300 rows"):
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
    limit = Checkpoint(bare).config.max_position_embeddings
    assert load(bare, LoadOptions(changes={"max_length": limit})).templates.document.max_length == limit
    with pytest.raises(UsageError, match=f"max_length {limit + 1:,} is more than .* positions: {limit:,}"):
        load(bare, LoadOptions(changes={"max_length": limit + 1}))


@pytest.mark.parametrize("architecture", ["xlm-roberta", "mpnet", "bert", "llama"])
def test_a_text_that_fills_all_positions_is_encoded(tmp_path, architecture) -> None:
    """Some models count positions from the padding token's id on, and so have fewer positions."""
    folder = save_checkpoint(tmp_path / "model", architecture)
    encoder = load(folder, LoadOptions(text_length=1_000), dtype="float32")
    limit = {"xlm-roberta": 126, "mpnet": 126}.get(architecture, 128)
    assert encoder.templates.document.max_length == limit
    assert load(folder, dtype="float32").templates.document.max_length == limit
    assert encoder.encode(["word " * 200], "document").shape == (1, 32)
    with pytest.raises(UsageError, match="more than the model has positions"):
        load(folder, LoadOptions(changes={"max_length": limit + 1}))


def test_limits_above_the_positions_of_the_model_are_lowered(copy) -> None:
    limit = Checkpoint(copy).config.max_position_embeddings
    Templates(Template(max_length=limit - 1), Template(max_length=limit + 1)).save(copy)
    templates = load(copy).templates
    assert (templates.query.max_length, templates.document.max_length) == (limit - 1, limit)


def test_the_language_model_of_a_model_that_also_reads_pictures_is_read(tmp_path) -> None:
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
    adapted = add_lora(
        read_model(Checkpoint(tmp_path), dtype=torch.float32), LoRA(rank=4, alpha=8, dropout=0.0)
    )
    assert adapted.peft_config["default"].base_model_name_or_path == str(tmp_path)


def test_a_model_of_encoder_and_decoder_is_refused(tmp_path) -> None:
    T5Config().save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="t5 is an encoder and a decoder"):
        load(tmp_path)


def test_what_neither_the_checkpoint_nor_the_user_says_is_warned_of(tmp_path) -> None:
    folder = save_checkpoint(tmp_path / "plain", "bert")
    make_tokenizer(slots=0).save_pretrained(folder)

    def warning(folder: Path = folder, **given: Any) -> str:
        return " ".join(settle_templates(Checkpoint(folder), LoadOptions(**given))[1].warnings)

    options = ("-o pooling", "-o normalize", "--query-prompt", "--max-length")
    assert all(option in warning() for option in options)
    for given, option in (
        ({"changes": {"pooling": "first"}}, "-o pooling"),
        ({"changes": {"normalize": False}}, "-o normalize"),
        ({"changes": {"max_length": 64}}, "--max-length"),
        ({"changes": {"query_length": 64, "document_length": 64}}, "--max-length"),
        ({"prompts": PromptOptions(query="q: ")}, "--query-prompt"),
    ):
        assert [one for one in options if one not in warning(**given)] == [option]
    every = {"pooling": "mean", "normalize": True, "max_length": 64}
    assert warning(changes=every, prompts=PromptOptions(query="")) == ""


@pytest.mark.parametrize(
    ("similarity", "normalizes", "assumed"),
    [(None, False, True), (None, True, False), ("cosine", False, False), ("dot", False, False)],
)
def test_a_similarity_that_a_folder_does_not_name_is_warned_of(
    tmp_path, similarity, normalizes, assumed
) -> None:
    folder = make_sentence_transformer(
        tmp_path / "model", config_sentence_transformers={"similarity_fn_name": similarity}
    )
    if not normalizes:
        modules = json.loads((folder / "modules.json").read_text())
        (folder / "modules.json").write_text(json.dumps(modules[:-1]))
    _, origin = settle_templates(Checkpoint(folder))
    assert origin.warnings == (
        (
            "model does not say everything about its vectors; assumed here: cosine (-o normalize); its "
            "authors may mean others",
        )
        if assumed
        else ()
    )
    assert not settle_templates(Checkpoint(folder), LoadOptions(changes={"normalize": True}))[1].warnings
