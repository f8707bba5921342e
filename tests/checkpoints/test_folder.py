"""How a checkpoint is found, what its files contain, and on which files its content hash depends."""

import hashlib
import json
import shutil
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest
import transformers
from checkout import ROOT
from checkpoint_kinds import change
from tiny_models import (
    make_model,
    make_sentence_transformer,
)
from transformers import AutoConfig, AutoTokenizer
from typer.testing import CliRunner

from adapters import checkpoint_folder
from llara_eval.checkpoints import folder as folder_module
from llara_eval.checkpoints import gguf
from llara_eval.checkpoints.folder import Checkpoint, resolve
from llara_eval.checkpoints.gguf import convert_gguf
from llara_eval.checkpoints.load import load
from llara_eval.checkpoints.own_code import Permissions
from llara_eval.cli import app
from llara_eval.core.errors import DataError, MissingPartError, UsageError
from llara_eval.encoding.templates import Templates


def test_the_content_hash_depends_on_weights_and_not_on_the_folder(bare, copy) -> None:
    assert Checkpoint(copy).content_hash == Checkpoint(bare).content_hash
    make_model("llama", seed=1).save_pretrained(copy)
    assert Checkpoint(copy).content_hash != Checkpoint(bare).content_hash


def test_a_name_of_neither_a_folder_nor_a_hub_model_is_refused(tmp_path) -> None:
    for name in (str(tmp_path / "nothing"), "./nothing", "a/b/c"):
        with pytest.raises(DataError, match="not a checkpoint folder"):
            resolve(name)


def test_a_folder_without_configuration_is_no_checkpoint(tmp_path) -> None:
    with pytest.raises(DataError, match="not a checkpoint folder: it has no config"):
        resolve(str(tmp_path))
    with pytest.raises(UsageError, match="--model is empty"):
        resolve("")


def test_a_hub_name_offline_says_so() -> None:
    with pytest.raises(DataError, match="has not been downloaded"):
        resolve("someone/some-model", offline=True)


def test_the_only_pickled_files_downloaded_from_the_hub_are_lora_adapters(tmp_path, monkeypatch) -> None:
    from huggingface_hub.utils import filter_repo_objects

    download = Mock(return_value=str(tmp_path))
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert resolve("someone/some-model") == tmp_path
    files = ["adapter_model.bin", "adapter_model.safetensors", "pytorch_model.bin", "training_args.bin"]
    patterns = download.call_args.kwargs["allow_patterns"]
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
    monkeypatch.setitem(sys.modules, "gguf", None)
    (tmp_path / "model.gguf").write_bytes(b"GGUF\3" + bytes(19))
    with pytest.raises(MissingPartError, match=r"model\.gguf: needs: pip install gguf"):
        resolve(str(tmp_path / "model.gguf"))


def test_processes_that_need_one_gguf_file_at_once_convert_it_once(tmp_path, monkeypatch) -> None:
    conversions = []

    def read(*_, **__) -> tuple[Mock, dict[str, list[str]]]:
        conversions.append(1)
        time.sleep(0.2)
        model = Mock(save_pretrained=lambda folder, **_: (folder / "config.json").touch())
        return model, {"missing_keys": []}

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", read)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", Mock())
    monkeypatch.setattr(gguf, "_pooling", Mock(return_value=None))
    monkeypatch.setenv("LLARA_EVAL_HOME", str(tmp_path / "home"))
    (tmp_path / "model.gguf").write_bytes(b"weights")
    with ThreadPoolExecutor(3) as threads:  # each takes a lease of its own
        folders = set(threads.map(convert_gguf, [tmp_path / "model.gguf"] * 3))
    assert len(conversions) == 1
    (folder,) = folders
    assert {path for path in (tmp_path / "home").rglob("*.*") if path.is_file()} == {
        folder / "config.json",
        folder / "checksums.json",
    }
    (folder / "config.json").write_text("{}")
    assert convert_gguf(tmp_path / "model.gguf") == folder
    assert len(conversions) == 2, "a damaged conversion is made again"
    assert (folder / "config.json").read_text() == ""


def test_bm25_has_no_checkpoint() -> None:
    with pytest.raises(UsageError, match="bm25 has no checkpoint"):
        checkpoint_folder("bm25")


def test_texts_are_truncated_at_their_end_whatever_the_tokenizer_says(copy) -> None:
    path = copy / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "truncation_side": "left"}))
    tokenizer = Checkpoint(copy).tokenizer
    words = tokenizer("one two three", add_special_tokens=False)["input_ids"]
    cut = tokenizer("one two three", add_special_tokens=False, truncation=True, max_length=2)["input_ids"]
    assert cut == words[:2]


@pytest.mark.parametrize("name", ["added_tokens.json", "spiece.model", "bpe.codes", "tokenizer.json"])
def test_the_content_hash_covers_every_file_of_a_tokenizer(copy, name) -> None:
    hashes = set()
    for content in ("1", "2"):
        (copy / name).write_text(content)
        hashes.add(Checkpoint(copy).content_hash)
    assert len(hashes) == 2


def test_the_content_hash_covers_modules_unless_they_take_a_plain_mean(bare, tmp_path) -> None:
    folder = make_sentence_transformer(tmp_path / "st", "llama")
    hashes = [Checkpoint(folder).content_hash]
    assert hashes == [Checkpoint(bare).content_hash]
    for config in ({"pooling_mode": "max"}, {"pooling_mode": "mean", "include_prompt": False}):
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
        hashes.append(Checkpoint(folder).content_hash)
    (folder / "3_Dense" / "within").mkdir(parents=True)
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    hashes.append(Checkpoint(folder).content_hash)
    for file in ("config.json", "model.safetensors", "within/pytorch_model.bin"):
        for content in (b"1", b"2"):
            (folder / "3_Dense" / file).write_bytes(content)
            hashes.append(Checkpoint(folder).content_hash)
    (folder / "3_Dense" / "config.json").rename(folder / "2_Normalize" / "config.json")
    hashes.append(Checkpoint(folder).content_hash)
    assert len(set(hashes)) == len(hashes)
    assert Checkpoint(shutil.copytree(folder, tmp_path / "copy")).content_hash == hashes[-1]


def test_the_content_hash_of_a_recorded_model_is_still_that_of_its_record(packaged_model) -> None:
    name = packaged_model("all-minilm-l6-v2")
    record = ROOT / "runs" / name / "demo" / "result.json"
    expected = json.loads(record.read_text())["settings"]["checkpoint_sha256"]
    assert Checkpoint(checkpoint_folder(name)).content_hash == expected


@pytest.fixture
def reads(monkeypatch) -> Counter[str]:
    """Count how often each file of a checkpoint is opened by transformers' readers and by ours."""
    counts: Counter[str] = Counter()

    def counting(name: str, read):
        def counted(*words, **options):
            counts[name] += 1
            return read(*words, **options)

        return counted

    for reader in (AutoConfig, AutoTokenizer):
        monkeypatch.setattr(reader, "from_pretrained", counting(reader.__name__, reader.from_pretrained))
    monkeypatch.setattr(Templates, "load", counting("template.json", Templates.load))
    monkeypatch.setattr(folder_module, "sha256_of", counting("hash", folder_module.sha256_of))
    return counts


def test_each_file_is_read_when_it_is_needed_and_once(copy, reads) -> None:
    checkpoint = Checkpoint(copy)
    assert not reads
    for _ in range(2):
        assert checkpoint.config.model_type == "llama"
        assert len(checkpoint.tokenizer) > 200
        assert checkpoint.templates is None
        assert checkpoint.content_hash == Checkpoint(copy).content_hash
    encoder = load(checkpoint, dtype="float32")
    assert encoder.tokenizer is checkpoint.tokenizer
    assert (reads["AutoConfig"], reads["AutoTokenizer"], reads["template.json"]) == (1, 1, 1)


def test_a_plan_opens_a_checkpoint_once(copy, reads) -> None:
    words = ["plan", "--model", str(copy), "--dataset", "demo", "--probe-seconds", "1", "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["probe"]["tokens"] > 0
    assert (reads["AutoConfig"], reads["AutoTokenizer"], reads["template.json"]) == (1, 1, 1)


def test_an_adapter_without_a_tokenizer_has_that_of_its_base_model(bare, tmp_path) -> None:
    config = {"peft_type": "LORA", "base_model_name_or_path": str(bare)}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.tokenizer is checkpoint.base.tokenizer
    assert checkpoint.config is not checkpoint.base.config
    assert checkpoint.has("model*.safetensors")
    assert not Checkpoint(bare).has("*.gguf")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("modules.json", "[]", "expected modules, found none"),
        ("modules.json", "{}", "Expected `array`, got `object`"),
        ("modules.json", '[{"type": 1, "path": ""}]', r"Expected `str`, got `int` - at `\$\[0\]\.type`"),
        ("modules.json", '[{"type": "T"}]', r"required field `path` - at `\$\[0\]`"),
        ("router_config.json", '{"structure": {"document": []}}', r"expected modules in \$\.structure"),
        ("router_config.json", '{"structure": null}', r"Expected `object`, got `null` - at `\$\.structure`"),
    ],
)
def test_errors_in_a_sentence_transformers_folder_are_named(copy, name, content, message) -> None:
    (copy / name).write_text(content)
    with pytest.raises(DataError, match=rf"{name}: .*{message}|{name}: {message}"):
        load(copy)


COMMIT = "0123456789" * 4


@pytest.mark.parametrize(
    ("model", "options", "expected"),
    [
        ("org/name", {}, None),
        ("org/name@v2", {}, "v2"),
        ("org/name", {"revision": "v2"}, "v2"),
        ("org/name@v2", {"revision": "v2"}, "v2"),
        ("org/name", {"revision": COMMIT, "allowed": Permissions(code=True)}, COMMIT),
    ],
)
def test_a_revision_of_a_hub_name_is_what_is_downloaded(
    tmp_path, monkeypatch, model, options, expected
) -> None:
    download = Mock(return_value=str(tmp_path))
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert resolve(model, **options) == tmp_path
    assert download.call_args.args == ("org/name",)
    assert download.call_args.kwargs["revision"] == expected
    code = "*.py" in download.call_args.kwargs["allow_patterns"]
    assert code == ("allowed" in options)


def test_weights_in_pickled_form_are_downloaded_only_if_the_user_says_so(tmp_path, monkeypatch) -> None:
    download = Mock(return_value=str(tmp_path))
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    patterns = []
    for allowed in (Permissions(), Permissions(bin_weights=True)):
        resolve("org/name", allowed=allowed)
        patterns.append(download.call_args.kwargs["allow_patterns"])
    assert ["pytorch_model*.bin" in names for names in patterns] == [False, True]


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        ("org/name@v2", {"revision": "v3"}, "name two revisions"),
        ("org/name", {"allowed": Permissions(code=True)}, "name the commit that you trust"),
        ("org/name@main", {"allowed": Permissions(code=True)}, "name the commit that you trust"),
        (".", {"revision": "v2"}, "is no name on the hub"),
    ],
)
def test_a_revision_that_is_none_is_refused(model, options, says) -> None:
    with pytest.raises(UsageError, match=says):
        resolve(model, **options)


def test_code_that_may_run_is_recorded_and_part_of_the_content_hash(copy) -> None:
    change(copy / "config.json", auto_map={"AutoModel": "own.Model"})
    hashes, recorded = set(), []
    for content in ("1", "2"):
        (copy / "own.py").write_text(content)
        checkpoint = Checkpoint(copy, allowed=Permissions(code=True))
        hashes.add(checkpoint.content_hash)
        recorded.append(checkpoint.code)
    assert len(hashes) == 2
    assert recorded[0] == {"own.py": hashlib.sha256(b"1").hexdigest()}
    (copy / "config.json").write_text((copy / "config.json").read_text().replace("auto_map", "other"))
    assert Checkpoint(copy, allowed=Permissions(code=True)).code == {}
