import json
import shutil
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from checkout import ROOT
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tiny_models import (
    TEXTS,
    make_config,
    make_model,
    make_sentence_transformer,
    make_tokenizer,
    save_checkpoint,
)
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, T5Config

from adapters import checkpoint_folder
from llara_eval.checkpoints.folder import content_hash, resolve
from llara_eval.checkpoints.load import load, read_model, read_model_config, read_tokenizer, special_tokens
from llara_eval.core.errors import DataError, MissingPartError, UsageError
from llara_eval.encoding import devices
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
            read_model(folder, dtype=torch.float32, head=True)
    else:
        model, _ = read_model(folder, dtype=torch.float32, head=True)
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


def test_content_hash_follows_weights_and_not_the_place(bare, copy) -> None:
    assert content_hash(copy) == content_hash(bare)
    make_model("llama", seed=1).save_pretrained(copy)
    assert content_hash(copy) != content_hash(bare)


def test_what_is_neither_folder_nor_hub_name(tmp_path) -> None:
    for name in (str(tmp_path / "nothing"), "./nothing", "a/b/c"):
        with pytest.raises(DataError, match="not a checkpoint folder"):
            resolve(name)


def test_a_folder_without_configuration_is_no_checkpoint(tmp_path) -> None:
    with pytest.raises(DataError, match="not a checkpoint folder: there is no config"):
        resolve(str(tmp_path))
    with pytest.raises(UsageError, match="'' names nothing"):
        resolve("")


def test_a_hub_name_offline_says_so() -> None:
    with pytest.raises(DataError, match="hub"):
        resolve("someone/some-model", offline=True)


def test_of_pickled_files_the_hub_is_asked_for_low_rank_updates_only(tmp_path, monkeypatch) -> None:
    from huggingface_hub.utils import filter_repo_objects

    asked = Mock(return_value=str(tmp_path))
    monkeypatch.setattr("huggingface_hub.snapshot_download", asked)
    assert resolve("someone/some-model") == tmp_path
    files = ["adapter_model.bin", "adapter_model.safetensors", "pytorch_model.bin", "training_args.bin"]
    patterns = asked.call_args.kwargs["allow_patterns"]
    assert list(filter_repo_objects(files, allow_patterns=patterns)) == files[:2]


def test_two_gguf_files_are_ambiguous(tmp_path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(UsageError, match="2 GGUF files"):
        resolve(str(tmp_path))


def test_a_broken_gguf_file_is_a_data_error_and_leaves_nothing(tmp_path, own_home) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(DataError, match="GGUF"):
        resolve(str(tmp_path / "broken.gguf"))
    assert not list((own_home / "models").glob("*broken*"))


def test_without_the_gguf_package_the_message_is_the_command_that_installs_it(tmp_path, monkeypatch) -> None:
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", Mock(side_effect=ImportError))
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(MissingPartError, match=r"model\.gguf needs: pip install gguf"):
        resolve(str(tmp_path / "model.gguf"))


def test_bm25_has_no_checkpoint() -> None:
    with pytest.raises(UsageError, match="bm25 has no checkpoint"):
        checkpoint_folder("bm25")


@pytest.mark.parity
@pytest.mark.parametrize(("mode", "pooling"), [("mean", "mean"), ("cls", "first"), ("lasttoken", "last")])
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_sentence_transformers_folder_gives_its_own_vectors(tmp_path, kind, mode, pooling) -> None:
    from sentence_transformers import SentenceTransformer

    prompts = {"prompts": {"query": "search: ", "document": "text: "}}
    folder = make_sentence_transformer(tmp_path / "st", kind, mode, config_sentence_transformers=prompts)
    encoder = load(folder, dtype="float32")
    assert encoder.templates.document == Template(pooling=pooling, prompt="text: ", max_length=48)
    peer = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    for side, ours in (
        ("query", encoder.encode(TEXTS, "query")),
        ("document", encoder.encode(TEXTS, "document")),
    ):
        theirs = peer.encode(TEXTS, prompt_name=side)
        assert np.allclose(ours, theirs, atol=1e-5)


def test_a_limit_is_found_wherever_sentence_transformers_writes_it(tmp_path) -> None:
    from sentence_transformers import SentenceTransformer

    older = make_sentence_transformer(tmp_path / "st", "bert")
    (older / "sentence_bert_config.json").rename(older / "sentence_roberta_config.json")
    peer = SentenceTransformer(str(older), device="cpu", local_files_only=True)
    newer = tmp_path / "newer"
    peer.max_seq_length = 24
    peer.save(str(newer))
    for folder, limit in ((older, 48), (newer, 24)):
        peer = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        encoder = load(folder, dtype="float32")
        assert peer.max_seq_length == encoder.templates.document.max_length == limit
        long = [" ".join(TEXTS * 3)]
        assert np.allclose(encoder.encode(long, "document"), peer.encode(long), atol=1e-5)


@pytest.mark.parametrize("backend", ["transformers", "sentence-transformers"])
def test_texts_that_sentence_transformers_would_make_lower_case(tmp_path, backend) -> None:
    settings = {"max_seq_length": 48, "do_lower_case": True}
    folder = make_sentence_transformer(tmp_path / "st", "bert", sentence_bert_config=settings)
    with pytest.raises(UsageError, match=r"do_lower_case.* save it again"):
        load(folder, backend=backend)
    peer = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    peer.save(str(tmp_path / "again"))
    texts = ["The Moon And The EARTH"]
    own = load(tmp_path / "again", dtype="float32", backend=backend).encode(texts, "document")
    assert float((own * peer.encode(texts)).sum()) > 0.9999


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"similarity_fn_name": "euclidean"}, "similarity_fn_name 'euclidean'; only cosine and dot"),
        ({"truncate_dim": 8}, "ask for --dims 8"),
    ],
)
def test_what_sentence_transformers_would_do_to_vectors_is_not_passed_over(tmp_path, setting, says) -> None:
    folder = make_sentence_transformer(tmp_path / "st", "bert", config_sentence_transformers=setting)
    with pytest.raises(UsageError, match=says):
        load(folder)


def test_modes_of_pooling_may_be_a_list(tmp_path) -> None:
    folder = make_sentence_transformer(tmp_path / "st", "bert")
    pooling = {"word_embedding_dimension": 32, "pooling_mode": ["cls", "mean"]}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    with pytest.raises(UsageError, match=r"pooling 'cls\+mean'; only"):
        load(folder)


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
    there = read_model_config(bare).max_position_embeddings
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
    there = read_model_config(copy).max_position_embeddings
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
        read_model(tmp_path, dtype=torch.float32, head=True)
    updated = add_lora(read_model(tmp_path, dtype=torch.float32)[0], LoRA(rank=4, alpha=8, dropout=0.0))
    assert updated.peft_config["default"].base_model_name_or_path == str(tmp_path)


def test_a_model_of_encoder_and_decoder_is_refused(tmp_path) -> None:
    T5Config().save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="t5 is an encoder and a decoder"):
        load(tmp_path)


def test_texts_are_cut_at_their_end_whatever_a_tokenizer_was_saved_with(copy) -> None:
    path = copy / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "truncation_side": "left"}))
    tokenizer = read_tokenizer(copy)
    words = tokenizer("one two three", add_special_tokens=False)["input_ids"]
    cut = tokenizer("one two three", add_special_tokens=False, truncation=True, max_length=2)["input_ids"]
    assert cut == words[:2]


@pytest.mark.parametrize("name", ["added_tokens.json", "spiece.model", "bpe.codes", "tokenizer.json"])
def test_the_content_hash_is_of_every_file_of_a_tokenizer(copy, name) -> None:
    hashes = set()
    for content in ("1", "2"):
        (copy / name).write_text(content)
        hashes.add(content_hash(copy))
    assert len(hashes) == 2


def test_the_content_hash_is_of_modules_too_unless_they_take_a_mean_as_those_of_older_records_do(
    bare, tmp_path
) -> None:
    folder = make_sentence_transformer(tmp_path / "st", "llama")
    hashes = [content_hash(folder)]
    assert hashes == [content_hash(bare)]
    for config in ({"pooling_mode": "max"}, {"pooling_mode": "mean", "include_prompt": False}):
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
        hashes.append(content_hash(folder))
    (folder / "3_Dense" / "within").mkdir(parents=True)
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    hashes.append(content_hash(folder))
    for file in ("config.json", "model.safetensors", "within/pytorch_model.bin"):
        for content in (b"1", b"2"):
            (folder / "3_Dense" / file).write_bytes(content)
            hashes.append(content_hash(folder))
    (folder / "3_Dense" / "config.json").rename(folder / "2_Normalize" / "config.json")
    hashes.append(content_hash(folder))
    assert len(set(hashes)) == len(hashes)
    assert content_hash(shutil.copytree(folder, tmp_path / "copy")) == hashes[-1]


def test_the_content_hash_of_a_recorded_model_is_still_that_of_its_record(packaged_model) -> None:
    name = packaged_model("all-minilm-l6-v2")
    record = ROOT / "runs" / name / "demo" / "result.json"
    expected = json.loads(record.read_text())["settings"]["checkpoint_sha256"]
    assert content_hash(checkpoint_folder(name)) == expected


def test_modules_and_poolings_we_cannot_reproduce_are_refused(tmp_path) -> None:
    folder = make_sentence_transformer(tmp_path / "st", pooling="max")
    with pytest.raises(UsageError, match="pooling 'max'"):
        load(folder)
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UsageError, match="Dense"):
        load(folder)


def test_bfloat16_only_where_the_processor_has_it(monkeypatch) -> None:
    cpu = torch.device("cpu")
    for able, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {"avx512_bf16": able})
        assert devices.default_dtype(cpu) is expected


def test_special_tokens_a_tokenizer_adds_become_prefix_and_suffix() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in ("[CLS]", "[SEP]")],
    )
    assert special_tokens(tokenizer) == (("[CLS]",), ("[SEP]",))
    assert special_tokens(make_tokenizer()) == ((), ())
