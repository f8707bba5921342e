"""Nothing of a checkpoint runs and nobody is asked, whatever its files name; any error names the file."""

import io
import json
import struct
import sys

import numpy as np
import pytest
from checkpoint_kinds import change
from gguf_files import write_gguf
from tiny_models import make_sentence_transformer, save_checkpoint

from llara_eval.checkpoints import libraries, load
from llara_eval.checkpoints.folder import Checkpoint, resolve
from llara_eval.checkpoints.load import LoadOptions
from llara_eval.checkpoints.own_code import Permissions
from llara_eval.core.errors import DataError, MissingPartError, UsageError

NOTHING = Permissions()
CANARY = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n"
OWN = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model", "AutoTokenizer": ["evil.Tokenizer", None]}


class Asked(io.StringIO):
    """A terminal that nobody may read from."""

    def readline(self, *_):
        raise AssertionError("the terminal is read")

    read = readline


@pytest.fixture(autouse=True)
def terminal(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", Asked())
    monkeypatch.setattr("builtins.input", Asked().readline)


def open_all(folder, allowed=NOTHING) -> None:
    """Open a checkpoint by every loader, one after the other."""
    checkpoint = Checkpoint(resolve(str(folder)), allowed=allowed)
    load.load(checkpoint, dtype="float32")
    load.load(checkpoint, LoadOptions(engine="sentence-transformers"), dtype="float32")


@pytest.mark.parametrize(
    ("file", "setting", "value"),
    [
        ("config.json", "auto_map", OWN),
        ("config.json", "auto_map", {"AutoModelForSequenceClassification": "evil.Model"}),
        ("config.json", "text_config", {"auto_map": OWN}),
        ("config.json", "_attn_implementation", "evil/kernel"),
        ("config.json", "attn_implementation", {"": "sdpa", "text_config": "evil/kernel@main:code"}),
        ("tokenizer_config.json", "auto_map", OWN),
        ("tokenizer_config.json", "auto_map", ["evil.Tokenizer", None]),
        ("generation_config.json", "custom_generate", "evil"),
        ("processor_config.json", "auto_map", {"AutoProcessor": "evil.Processor"}),
        ("sentence_bert_config.json", "model_args", {"attn_implementation": "evil/kernel"}),
        ("1_Pooling/config.json", "auto_map", OWN),
    ],
)
def test_every_setting_that_names_code_is_refused_before_anything_is_loaded(
    tmp_path, file, setting, value
) -> None:
    folder = make_sentence_transformer(tmp_path / "st")
    (folder / "evil.py").write_text(CANARY)
    if not (folder / file).is_file():
        (folder / file).write_text("{}")
    change(folder / file, **{setting: value})
    for read in (
        lambda: open_all(folder),
        lambda: libraries.read_config(folder, trusted=False),
        lambda: libraries.read_modules(folder, device="cpu", dtype=None, trusted=False),
        lambda: libraries.read_tokenizer(folder, None, trusted=False),
    ):
        with pytest.raises(UsageError, match=r"code of its own|kernel of the hub"):
            read()
    assert not (folder / "ran").exists()
    if "kernel" in json.dumps(value):  # is never run
        with pytest.raises(UsageError, match="compiled kernel"):
            open_all(folder, Permissions(code=True))


@pytest.mark.parametrize("beside", ["config.json", "tokenizer_config.json", "processor_config.json"])
def test_files_beside_a_gguf_file_are_not_read(tmp_path, monkeypatch, beside) -> None:
    monkeypatch.setenv("LLARA_EVAL_HOME", str(tmp_path / "home"))
    folder = tmp_path / "folder"
    folder.mkdir()
    write_gguf(folder / "model.gguf", pooling_type=None)
    (folder / "evil.py").write_text(CANARY)
    (folder / beside).write_text(json.dumps({"auto_map": OWN}))
    converted = resolve(str(folder / "model.gguf"))
    assert Checkpoint(converted).config.model_type == "llama"
    assert not (folder / "ran").exists()


def test_the_backend_sentence_transformers_reads_a_converted_gguf_file(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LLARA_EVAL_HOME", str(tmp_path / "home"))
    write_gguf(tmp_path / "model.gguf", pooling_type=1)
    checkpoint = Checkpoint(resolve(str(tmp_path / "model.gguf")))
    ours, theirs = (
        load.load(checkpoint, LoadOptions(engine=engine), dtype="float32").encode(
            ["a text", "another"], "document"
        )
        for engine in ("transformers", "sentence-transformers")
    )
    assert np.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (AssertionError("first\n  second"), (DataError, "AssertionError: first$")),
        (TypeError(), (DataError, "TypeError: no reason is given$")),
        (ValueError("\x1b[31mred"), (DataError, r"ValueError: \\x1b\[31mred$")),
        (ImportError("no package"), (MissingPartError, "cannot be read: no package$")),
        (UsageError("ours"), (UsageError, "^ours$")),
    ],
)
def test_any_error_of_a_library_names_the_file(tmp_path, error, expected) -> None:
    kind, message = expected
    with pytest.raises(kind, match=message), libraries.reading(tmp_path, "cannot be read"):
        raise error


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("config.json", {"hidden_size": "x"}),
        ("config.json", {"num_attention_heads": 0}),
        ("config.json", {"num_hidden_layers": 10**6}),
        ("config.json", {"num_hidden_layers": 10**30}),
        ("config.json", {"text_config": {"num_hidden_layers": 10**6}}),
        ("config.json", {"pad_token_id": 10**9}),
        ("config.json", {"transformers_weights": "../x.safetensors"}),
        ("tokenizer_config.json", {"bos_token": 7}),
        ("tokenizer_config.json", {"padding_side": "x"}),
    ],
)
def test_a_damaged_value_is_an_error_of_the_data(tmp_path, file, values) -> None:
    folder = save_checkpoint(tmp_path / "model", "bert")
    change(folder / file, **values)
    with pytest.raises(DataError, match="model"):
        load.load(folder, dtype="float32")


def test_a_gguf_file_of_no_tensors_is_refused_before_a_model_is_built(tmp_path, monkeypatch) -> None:
    import gguf

    monkeypatch.setenv("LLARA_EVAL_HOME", str(tmp_path / "home"))
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(DataError, match="0 tensors"):
        resolve(str(tmp_path / "model.gguf"))


def test_a_gguf_file_that_lacks_a_tensor_is_refused_without_a_report_of_the_library(
    tmp_path, monkeypatch, capfd
) -> None:
    import gguf

    monkeypatch.setenv("LLARA_EVAL_HOME", str(tmp_path / "home"))
    add_tensor = gguf.GGUFWriter.add_tensor

    def add_others(self, name, *rest):
        if name != "blk.0.attn_q.weight":
            add_tensor(self, name, *rest)

    monkeypatch.setattr(gguf.GGUFWriter, "add_tensor", add_others)
    write_gguf(tmp_path / "model.gguf", pooling_type=1)
    with pytest.raises(
        DataError, match=r"model\.gguf lacks model\.layers\.0\.self_attn\.q_proj\.weight: its weights are not"
    ):
        resolve(str(tmp_path / "model.gguf"))
    assert "LOAD REPORT" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "value",
    [
        struct.pack("<IIQ", 9, 4, 2**40),  # an array of numbers
        struct.pack("<IIQ", 9, 8, 2**40),  # of strings
        struct.pack("<IIQ", 9, 9, 2**40),  # of arrays
        struct.pack("<IQ", 8, 2**40),  # a string
        struct.pack("<I", 77),  # of no type
    ],
)
def test_a_gguf_header_that_does_not_end_in_its_file_is_refused_at_once(tmp_path, monkeypatch, value) -> None:
    monkeypatch.setenv("LLARA_EVAL_HOME", str(tmp_path / "home"))
    key = struct.pack("<Q", 1) + b"x"
    content = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + key + value + bytes(64)
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(DataError, match=r"model\.gguf"):
        resolve(str(tmp_path / "model.gguf"))
