"""``llara-eval check``: the template in use, and exit 4 where a checkpoint does not do what it says."""

import gzip
import json
import re
from pathlib import Path

import pytest
import torch
from checkpoint_kinds import change
from commands import text_of
from tiny_models import TEXTS, make_model, make_sentence_transformer, make_tokenizer, save_checkpoint
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from adapters.llara.templates import PAPER, templates
from llara_eval.cli import app
from llara_eval.core.errors import DataError
from llara_eval.core.lines import read_texts


@pytest.fixture
def texts(tmp_path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n\n".join(TEXTS[:4]) + "\n", encoding="utf-8")
    return path


def check(folder: Path, texts: Path, *words: str):
    command = ["check", "--model", str(folder), "--text-file", str(texts), *words]
    return CliRunner().invoke(app, command, env={"COLUMNS": "160"})


def test_the_template_a_checkpoint_carries_is_shown_with_the_pooled_tokens(tmp_path, texts) -> None:
    folder = save_checkpoint(tmp_path / "model")
    templates(make_tokenizer(), PAPER).save(folder)
    shown = check(folder, texts)
    assert shown.exit_code == 0, shown.stderr
    assert "template.json" in shown.stdout
    assert "'The next sentence: </s>'" in shown.stdout
    assert "«</s>»" in shown.stdout
    assert "all checks passed on 4 texts" in shown.stderr


def test_json_is_one_object_with_templates_tokens_and_cosines(tmp_path, texts) -> None:
    shown = check(save_checkpoint(tmp_path / "model"), texts, "--json")
    assert shown.exit_code == 0
    report = json.loads(shown.stdout)
    assert report["ok"]
    assert report["problem"] is None
    assert report["source"] == "recognised by adapters.llara.templates"
    for side, first in (("query", "<s9>"), ("document", "<s1>")):
        example = report["examples"][side]
        start, end = example["pooled"]
        assert example["tokens"][start] == first
        assert end - start == report["templates"][side]["slots"] == 8
    assert set(report["cosines"]) == {"batch of one", "left padding"}
    assert min(report["cosines"].values()) > 0.9999


def test_a_chosen_template_is_the_one_that_is_checked(tmp_path, texts) -> None:
    shown = check(save_checkpoint(tmp_path / "model"), texts, "--json", "--option", "template=repllama")
    assert json.loads(shown.stdout)["templates"]["query"]["prompt"] == "query: "


def test_prompts_are_shown_as_they_are_stored_and_used(tmp_path, texts) -> None:
    stored = {"search_query": "q: ", "clustering": "c: ", "qa_document": "d: "}
    folder = make_sentence_transformer(tmp_path / "model", config_sentence_transformers={"prompts": stored})
    unclear = check(folder, texts)
    assert unclear.exit_code == 4
    assert "a document under the names qa_document" in text_of(unclear)
    shown = check(folder, texts, "--prompt-name", "search_query", "--json")
    assert shown.exit_code == 4, "a document has still no prompt that is clear"
    words = ["--query-prompt", r"Find:\n", "--document-prompt", ""]
    report = json.loads(check(folder, texts, *words, "--json").stdout)
    assert report["stored_prompts"] == stored
    assert report["prompts_from"] == {"query": "--query-prompt", "document": "--document-prompt"}
    assert report["templates"]["query"]["prompt"] == "Find:\n"
    del stored["qa_document"]
    folder = make_sentence_transformer(tmp_path / "clear", config_sentence_transformers={"prompts": stored})
    table = check(folder, texts).stdout
    assert "search_query of config_sentence_transformers.json" in table
    assert "│ search_query │ 'q: ' │ query    │" in table
    assert "│ clustering   │ 'c: ' │          │" in table


def test_a_set_of_prompts_is_shown_for_a_data_set(tmp_path, texts) -> None:
    folder = make_sentence_transformer(tmp_path / "model")
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps({"scifact": "claim: "}))
    unnamed = check(folder, texts, "--prompts", str(file))
    assert unnamed.exit_code == 4
    assert "name one with --dataset" in text_of(unnamed)
    report = json.loads(check(folder, texts, "--prompts", str(file), "-d", "beir/scifact", "--json").stdout)
    assert report["templates"]["query"]["prompt"] == "claim: "
    assert report["prompts_from"]["query"] == "scifact of prompts.json"


def test_a_checkpoint_that_does_not_say_how_it_makes_vectors_is_warned_of(tmp_path, texts) -> None:
    folder = save_checkpoint(tmp_path / "model", "bert")
    make_tokenizer(slots=0).save_pretrained(folder)
    shown = check(folder, texts)
    assert shown.exit_code == 0
    assert "note: model does not say everything about its vectors" in text_of(shown)


def test_slots_that_are_no_tokens_exit_4_and_are_shown(tmp_path, texts) -> None:
    folder = save_checkpoint(tmp_path / "model")
    templates(make_tokenizer()).save(folder)
    other = json.loads(make_tokenizer().backend_tokenizer.to_str())
    for number in range(1, 17):  # as if the model had been stored with the tokenizer of its base
        other["model"]["vocab"][f"unused{number}"] = other["model"]["vocab"].pop(f"<s{number}>")
    other["added_tokens"] = [token for token in other["added_tokens"] if not token["content"][2:-1].isdigit()]
    bare = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(other)), pad_token="<pad>", eos_token="</s>"
    )
    bare.save_pretrained(folder)
    shown = check(folder, texts, "--json")
    assert shown.exit_code == 4
    assert "is this the tokenizer the model was adapted with?" in text_of(shown)
    report = json.loads(shown.stdout)
    assert not report["ok"]
    assert "8 added tokens" in report["problem"]


def test_vectors_that_are_not_numbers_exit_4(tmp_path, texts) -> None:
    folder = save_checkpoint(tmp_path / "model")
    model = make_model("llama")
    with torch.no_grad():
        model.norm.weight.fill_(float("nan"))
    model.save_pretrained(folder)
    shown = check(folder, texts)
    assert shown.exit_code == 4
    assert "NaN or infinity" in shown.stderr


def test_bm25_and_empty_files_are_refused(tmp_path, texts) -> None:
    shown = CliRunner().invoke(app, ["check", "--model", "bm25"])
    assert shown.exit_code == 2
    assert "not a dense retriever" in shown.stderr
    texts.write_text("\n \n", encoding="utf-8")
    shown = check(save_checkpoint(tmp_path / "model"), texts)
    assert shown.exit_code == 3
    assert "holds no text" in shown.stderr


def test_texts_may_be_compressed_or_have_a_byte_order_mark_and_a_damaged_file_is_named(tmp_path) -> None:
    path = tmp_path / "texts.gz"
    path.write_bytes(whole := gzip.compress(b"\xef\xbb\xbf one \r\n\ntwo\nthree"))
    assert read_texts(path, 2) == ["one", "two"]
    path.write_bytes(whole[:-9])
    for broken in (path, tmp_path):
        with pytest.raises(DataError, match=f"{broken}.*(cannot be read|not a regular file)"):
            read_texts(broken, 9)


def test_options_of_a_checkpoint_reach_it(tmp_path, texts) -> None:
    folder = save_checkpoint(tmp_path / "model")
    words = ["--query-length", "100", "--document-length", "110", "--name", "mine", "-o", "normalize=false"]
    shown = check(folder, texts, "--json", *words)
    assert shown.exit_code == 0, shown.stderr
    templates = json.loads(shown.stdout)["templates"]
    assert [templates[side]["max_length"] for side in ("query", "document")] == [100, 110]
    assert not templates["query"]["normalize"]
    refused = check(folder, texts, "--revision", "v2")
    assert (refused.exit_code, "is no name on the hub" in refused.stderr) == (2, True)
    change(folder / "config.json", auto_map={"AutoModel": "own.Model"})
    refused = check(folder, texts)
    assert (refused.exit_code, "it runs with --trust-remote-code only" in refused.stderr) == (2, True)
    (folder / "own.py").write_text("raise RuntimeError('own code was run')\n")
    assert check(folder, texts, "--trust-remote-code").exit_code == 3


def test_the_side_at_which_a_text_is_cut_is_shown_where_it_is_not_the_end(tmp_path, texts) -> None:
    folder = make_sentence_transformer(tmp_path / "model")
    assert "│ cut " not in check(folder, texts).stdout
    file = next(folder.rglob("tokenizer_config.json"))
    file.write_text(json.dumps({**json.loads(file.read_text()), "truncation_side": "left"}))
    assert re.search(r"│ cut +│ start +│ start +│", check(folder, texts).stdout)
