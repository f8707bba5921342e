"""An exported folder gives the token ids and the vectors of our encoder, or is not written."""

import functools
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import TEXTS, make_tokenizer, save_checkpoint
from transformers import AutoModel, AutoTokenizer

from adapters import repllama
from adapters.llara.templates import PAPER
from adapters.llara.templates import templates as llara
from llara_eval.checkpoints import load as checkpoints
from llara_eval.checkpoints import st_write
from llara_eval.checkpoints.export import export
from llara_eval.core.errors import CheckFailedError, MissingPartError, UsageError
from llara_eval.encoding.templates import Template, Templates

SIDES = ("query", "document")
TOKENIZER = make_tokenizer()
ROWS = 300
"""Rows of the tiny models' embedding matrix."""

RELEASED = llara(TOKENIZER).cut_to(90, 100)
PLAIN = Templates(*[Template(prefix=("<s>",), max_length=40)] * 2)
TEMPLATES = {
    "released": RELEASED,
    "paper": llara(TOKENIZER, PAPER).cut_to(60, 70),
    "repllama": repllama.templates(TOKENIZER).cut_to(50, 50),
    "repllama, two lengths": repllama.templates(TOKENIZER).cut_to(32, 50),
    "mean": PLAIN,
    "long texts cut at their start": Templates(
        *[Template(prefix=("<s>",), prompt="p: ", suffix=("</s>",), max_length=40, cut="start")] * 2
    ),
    "first, not normalised": Templates(
        *[Template(prefix=("[CLS]",), suffix=("[SEP]",), pooling="first", normalize=False, max_length=60)] * 2
    ),
    "each its own": Templates(
        query=Template(prompt="q: ", suffix=("</s></s></s>",), pooling="last", slots=3, max_length=30),
        document=Template(prefix=("<s>",), prompt="d: ", max_length=40),
    ),
}
MIXED = [
    *TEXTS,
    "",
    " \n\t ",
    "…日本 🌘 e\u0301\u200b\x07 ﬁn",
    "x" * 500,
    "literal <s3> and <s9><s10> and </s> and [SEP] and <pad>",
]


def make_checkpoint(folder: Path, templates: Templates, architecture: str = "llama") -> Path:
    save_checkpoint(folder, architecture)
    templates.save(folder)
    return folder


def load(folder: Path, **options):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True, **options)


def encode(model, texts, side):
    return {"query": model.encode_query, "document": model.encode_document}[side](texts)


def ids_of(model, texts, side):
    """Return the ids sentence-transformers gives to the language model, without padding."""
    features = model.preprocess(texts, prompt=model.prompts[side], task=side)
    mask = features["attention_mask"]
    assert (mask.diff(dim=1) <= 0).all(), "padding is on the right"
    return [row[kept.bool()].tolist() for row, kept in zip(features["input_ids"], mask, strict=True)]


def original(ids, template):
    """Return the token ids of the template, of which an export replaces those of several pooled tokens."""
    if not template.pools_slots:
        return ids
    assert min(ids[-template.slots :]) >= ROWS > max(ids[: -template.slots])
    return [*ids[: -template.slots], *template.suffix_ids(TOKENIZER)[-template.slots :]]


def cosine(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(
    scope="module",
    params=[
        *(("llama", name) for name in TEMPLATES),
        *((architecture, name) for architecture in ("qwen2", "gemma2") for name in ("released", "repllama")),
        ("bert", "first, not normalised"),
    ],
    ids=lambda param: f"{param[0]}, {param[1]}",
)
def both(request, tmp_path_factory):
    """Return our encoder of a checkpoint and sentence-transformers' model of its export."""
    architecture, name = request.param
    folder = tmp_path_factory.mktemp("export")
    checkpoint = make_checkpoint(folder / "checkpoint", TEMPLATES[name], architecture)
    export(checkpoint, folder / "exported")
    return checkpoints.load(checkpoint, dtype="float32"), load(folder / "exported")


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    folder = tmp_path_factory.mktemp("released")
    export(make_checkpoint(folder / "checkpoint", RELEASED), folder / "exported")
    return folder / "exported"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("plain") / "checkpoint", PLAIN)


def test_token_ids_are_those_of_the_template(both) -> None:
    encoder, model = both
    for side in SIDES:
        template = encoder.templates.of(side)
        token_ids = [original(ids, template) for ids in ids_of(model, MIXED, side)]
        assert token_ids == template.token_ids(encoder.tokenizer, MIXED)


def test_vectors_are_those_of_our_encoder(both) -> None:
    encoder, model = both
    for side in SIDES:
        ours, theirs = encoder.encode(MIXED, side), encode(model, MIXED, side)
        assert cosine(ours, theirs).min() > 0.9999
        assert np.allclose(ours, theirs, atol=1e-4)
        assert model.similarity_fn_name == ("cosine" if encoder.templates.of(side).normalize else "dot")
        assert np.allclose(encode(model, [""], side), theirs[MIXED.index("")], atol=1e-4)


def test_a_text_without_a_side_is_a_document(both) -> None:
    _, model = both
    assert np.allclose(model.encode(TEXTS), model.encode_document(TEXTS), atol=1e-6)


load_once = functools.cache(load)


@settings(max_examples=20, deadline=None)
@given(texts=st.lists(st.text(max_size=120), min_size=1, max_size=4))
def test_any_text_becomes_the_same_token_ids(released, texts) -> None:
    model = load_once(released)
    for side in SIDES:
        template = RELEASED.of(side)
        assert [original(ids, template) for ids in ids_of(model, texts, side)] == template.token_ids(
            TOKENIZER, texts
        )


def test_weights_exist_once_on_disk_and_in_memory(released) -> None:
    router = load(released)[0]
    assert router.sub_modules["query"][1] is router.sub_modules["document"][0]
    sizes = {path.parent.name: path.stat().st_size for path in released.rglob("*.safetensors")}
    assert sizes.keys() == {"model", "query"}
    assert sizes["query"] < sizes["model"] / 20


def test_nothing_but_json_safetensors_and_text_is_written(released) -> None:
    assert {path.suffix for path in released.rglob("*") if path.is_file()} == {".json", ".safetensors", ".md"}
    assert load(released, trust_remote_code=False)


def test_equal_checkpoints_give_equal_files(released, tmp_path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", RELEASED)
    torch.manual_seed(1)
    export(checkpoint, tmp_path / "exported")
    names = {path.relative_to(released) for path in released.rglob("*") if path.is_file()}
    assert names == {p.relative_to(tmp_path / "exported") for p in (tmp_path / "exported").rglob("*.*")}
    assert [n for n in names if (released / n).read_bytes() != (tmp_path / "exported" / n).read_bytes()] == []


def test_a_model_saved_again_by_sentence_transformers_is_the_same(released, tmp_path) -> None:
    model = load(released)
    model.save_pretrained(str(tmp_path / "again"))
    again = load(tmp_path / "again")
    for side in SIDES:
        assert np.array_equal(encode(again, TEXTS, side), encode(model, TEXTS, side))


def test_the_card_says_how_to_load_it_and_which_templates_it_applies(released) -> None:
    card = (released / "README.md").read_text(encoding="utf-8")
    assert 'SentenceTransformer("exported")' in card
    assert "summarize the above passage" in card
    assert "predict the following passage" in card


def test_an_export_with_one_template_is_read_by_our_own_loader(plain, tmp_path) -> None:
    export(plain, tmp_path / "exported")
    ours, theirs = (checkpoints.load(folder, dtype="float32") for folder in (plain, tmp_path / "exported"))
    assert theirs.templates == ours.templates
    assert np.allclose(theirs.encode(MIXED, "query"), ours.encode(MIXED, "query"), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_keep_the_dtype_they_were_stored_in(tmp_path, dtype) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", RELEASED)
    AutoModel.from_pretrained(checkpoint, dtype=dtype).save_pretrained(checkpoint)
    export(checkpoint, tmp_path / "exported")
    assert load(tmp_path / "exported").dtype == dtype


def test_the_chat_template_of_a_tokenizer_is_not_applied(tmp_path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", PLAIN)
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{% for message in messages %}USER {{ message.content }}{% endfor %}"
    tokenizer.save_pretrained(checkpoint)
    export(checkpoint, tmp_path / "exported")
    assert AutoTokenizer.from_pretrained(tmp_path / "exported").chat_template is None
    assert ids_of(load(tmp_path / "exported"), TEXTS, "query") == PLAIN.query.token_ids(TOKENIZER, TEXTS)


def test_a_tokenizer_without_padding_token_pads_on_the_right_with_its_end_token(tmp_path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", PLAIN)
    config = json.loads((checkpoint / "tokenizer_config.json").read_text())
    config |= {"pad_token": None, "padding_side": "left"}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(config))
    assert AutoTokenizer.from_pretrained(checkpoint).padding_side == "left"
    assert AutoTokenizer.from_pretrained(checkpoint).pad_token is None
    export(checkpoint, tmp_path / "exported")
    model = load(tmp_path / "exported")
    assert model.tokenizer.pad_token == TOKENIZER.eos_token
    assert ids_of(model, TEXTS, "query") == PLAIN.query.token_ids(TOKENIZER, TEXTS)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (Template(), "adds nothing"),
        (Template(suffix=("</s>",), pooling="last", slots=2), "its suffix has 1"),
    ],
)
def test_a_template_that_sentence_transformers_cannot_apply_is_refused(tmp_path, template, reason) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", Templates(template, template))
    with pytest.raises(UsageError, match=reason):
        export(checkpoint, tmp_path / "exported")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_other_vectors_leave_no_folder(plain, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(st_write, "_MODES", {"mean": "lasttoken"})
    with pytest.raises(CheckFailedError, match="another query vector"):
        export(plain, tmp_path / "exported")
    assert list(tmp_path.iterdir()) == []


def test_other_vectors_leave_an_earlier_export_as_it_was(plain, tmp_path, monkeypatch) -> None:
    export(plain, tmp_path / "exported")
    monkeypatch.setattr(st_write, "_MODES", {"mean": "lasttoken"})
    with pytest.raises(CheckFailedError):
        export(plain, tmp_path / "exported", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]
    assert (tmp_path / "exported" / "pooling_mean").is_dir()


def test_a_vector_of_another_length_fails_the_check(tmp_path, monkeypatch) -> None:
    templates = TEMPLATES["first, not normalised"]
    checkpoint = make_checkpoint(tmp_path / "checkpoint", templates)
    parts = st_write._parts
    monkeypatch.setattr(st_write, "_parts", lambda *arguments: {**parts(*arguments), "normalize": {}})
    with pytest.raises(CheckFailedError):
        export(checkpoint, tmp_path / "exported")


def test_without_sentence_transformers_the_way_to_it_is_named(plain, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingPartError, match="pip install sentence-transformers"):
        export(plain, tmp_path / "exported")


def test_only_an_export_that_is_as_it_was_written_is_replaced(plain, tmp_path) -> None:
    output = tmp_path / "exported"
    export(plain, output)
    export(plain, output, overwrite=True)
    (output / "notes.txt").write_text("mine")
    (output / "README.md").write_text("changed")
    with pytest.raises(UsageError, match=r"exported holds README\.md, notes\.txt, which no export wrote"):
        export(plain, output, overwrite=True)
    assert (output / "notes.txt").read_text() == "mine"
    other = shutil.copytree(plain, tmp_path / "other")
    (other / "modules.json").write_text("[]")
    with pytest.raises(UsageError, match="not an earlier export"):
        export(plain, other, overwrite=True)


def test_the_checkpoint_itself_is_never_replaced(plain) -> None:
    for output in (plain, plain.parent):
        with pytest.raises(UsageError, match="holds the checkpoint itself"):
            export(plain, output, overwrite=True)
    assert (plain / "model.safetensors").is_file()
