"""``llara-eval export``: what it writes, refuses and replaces, and what its options change."""

import json

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from tiny_models import TEXTS, make_tokenizer, save_checkpoint
from typer.testing import CliRunner

from adapters import open_system
from adapters.llara.templates import templates as llara
from adapters.options import Context
from llara_eval.checkpoints import st_write
from llara_eval.cli import app
from llara_eval.encoding.templates import Template, Templates


@pytest.fixture
def plain(tmp_path):
    folder = save_checkpoint(tmp_path / "plain")
    Templates(*[Template(prefix=("<s>",), max_length=40)] * 2).save(folder)
    return folder


def run(*arguments: object):
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_the_command_writes_refuses_and_overwrites(plain, tmp_path) -> None:
    exported = tmp_path / "exported"
    arguments = ("--model", plain, "--output", exported, "--format", "sentence-transformers")
    assert run(*arguments, "--quiet").exit_code == 0
    assert json.loads((exported / "modules.json").read_text())
    (exported / "left").touch()
    assert run(*arguments).exit_code == 2
    assert (exported / "left").exists()
    refused = run(*arguments, "--overwrite")
    assert refused.exit_code == 2
    assert "holds left, which no export wrote" in " ".join(refused.stderr.split())
    (exported / "left").unlink()
    assert run(*arguments, "--overwrite").exit_code == 0


def test_the_command_exports_as_its_options_say_and_names_what_is_left_open(tmp_path) -> None:
    folder = save_checkpoint(tmp_path / "bare", "bert")
    make_tokenizer(slots=0).save_pretrained(folder)
    words = (
        "--query-prompt",
        "find: ",
        "--document-prompt",
        "text: ",
        "-o",
        "pooling=first",
        "-o",
        "max_length=50",
    )
    done = run("--model", folder, "--output", tmp_path / "exported", *words)
    assert done.exit_code == 0, done.stderr
    expected = {
        "query_prompt": "find: ",
        "document_prompt": "text: ",
        "pooling": "first",
        "max_length": 50,
        "dtype": "float32",
    }
    ours = open_system(str(folder), expected, Context(tmp_path, offline=True)).encoder
    theirs = SentenceTransformer(str(tmp_path / "exported"), device="cpu")
    for side, encode in (("query", theirs.encode_query), ("document", theirs.encode_document)):
        assert np.allclose(ours.encode(TEXTS, side), encode(TEXTS), atol=1e-5)
    assert "assumed here: cosine (-o normalize); its authors" in " ".join(done.stderr.split())


def test_the_command_recognises_the_checkpoints_of_llara(tmp_path) -> None:
    folder = save_checkpoint(tmp_path / "released")
    assert run("--model", folder, "--output", tmp_path / "exported").exit_code == 0
    assert Templates.load(tmp_path / "exported") == llara(make_tokenizer()).within(128)


def test_a_prompt_for_each_data_set_cannot_be_exported(plain, tmp_path) -> None:
    (tmp_path / "own.json").write_text('{"scifact": "claim: "}')
    done = run("--model", plain, "--output", tmp_path / "out", "-o", f"prompts={tmp_path / 'own.json'}")
    assert (done.exit_code, (tmp_path / "out").exists()) == (2, False)


def test_the_command_does_not_replace_what_it_did_not_write(plain, tmp_path) -> None:
    (tmp_path / "thesis.txt").touch()
    assert run("--model", plain, "--output", tmp_path, "--overwrite").exit_code == 2
    assert (tmp_path / "thesis.txt").exists()


def test_the_command_fails_with_4_if_vectors_differ(plain, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(st_write, "_MODES", {"mean": "lasttoken"})
    assert run("--model", plain, "--output", tmp_path / "exported").exit_code == 4
