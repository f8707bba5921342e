"""``llara-eval finetune``, alone and after ``adapt``: runs from end to end and what they leave."""

import json
from pathlib import Path

import pytest
import torch
from commands import text_of
from model_kinds import own_code
from tiny_models import make_sentence_transformer, make_tokenizer
from tiny_training import WORDS
from training_commands import QUICK, call

from adapters import repllama
from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.checkpoints.load import load
from llara_eval.checkpoints.own_code import Permissions
from llara_eval.core.errors import UsageError
from llara_eval.core.files import sha256_of
from llara_eval.datasets.contamination import declared
from llara_eval.encoding.templates import Templates
from llara_eval.training.checkpoint import RECORD


@pytest.mark.slow
def test_from_a_language_model_to_a_retriever(tmp_path: Path, base: Path, texts: Path, groups: Path) -> None:
    adapted, tuned = tmp_path / "adapted", tmp_path / "tuned"
    adapt = ["adapt", "--model", base, "--data", texts, "--output", adapted, "--held-out", 4, *QUICK]
    adapt += ["--max-length", 300]
    done = call(*adapt)
    assert done.exit_code == 0, done.stderr
    assert "ebae_recall" in done.stderr
    assert Templates.load(adapted) is not None
    again = call(*adapt)
    assert again.exit_code == 0
    assert f"{adapted} is finished" in text_of(again)
    finetune = ["finetune", "--model", adapted, "--data", groups, "--output", tuned, *QUICK]
    done = call(*finetune, "--eval-dataset", "demo", "--option", "passage_length=100")
    assert done.exit_code == 0, done.stderr
    assert "nDCG@10" in done.stderr
    assert (tuned / "adapter_config.json").is_file()
    assert Templates.load(tuned) == Templates.load(adapted)
    merged = tmp_path / "merged"
    assert call(*finetune[:-8], "--output", merged, "--merge", *QUICK[:2], "--batch-size", 4).exit_code == 0
    assert "model.safetensors" in {path.name for path in merged.iterdir()}
    assert not (merged / "adapter_config.json").exists()


def test_training_on_what_is_tested_is_declared_kept_and_marked(
    tmp_path: Path, base: Path, groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    texts, seen = tmp_path / "texts.jsonl", tmp_path / "seen.jsonl"
    texts.write_text(
        "".join(json.dumps({"text": f"The {word} is old. It was new."}) + "\n" for word in WORDS)
    )
    seen.write_text(json.dumps({"query": "TAMBORA, 1815", "pos": ["a volcano"], "neg": ["a bee"]}) + "\n")
    adapt = ["adapt", "--model", base, "--data", texts, "--chunk-words", 4, "--output", "adapted", *QUICK]
    assert call(*adapt).exit_code == 0
    finetune = ["finetune", "--model", "adapted", "--data", groups, "--data", seen, *QUICK]
    assert call(*finetune, "--output", "tuned").exit_code == 0
    files = {sha256_of(path): path.name for path in (texts, groups, seen)}
    assert declared(Path("tuned")) == files, "those of the checkpoint it comes from, too"
    tested = ["--dataset", "demo", "--runs-dir", "runs"]
    assert call("evaluate", "--model", "tuned", *tested).exit_code == 0
    assert call("overlap", "--train", groups, "--train", seen, *tested).exit_code == 0
    before = groups.read_bytes()
    assert call("overlap", "--train", groups, *tested, "--output", groups).exit_code == 2
    assert groups.read_bytes() == before
    assert call("leaderboard").exit_code == 0
    page = Path("leaderboard.md").read_text(encoding="utf-8")
    assert "](runs/tuned/demo/result.json)** ‡ |" in page
    assert [
        line.split(" | ")[2:4] for line in page.splitlines() if line.startswith("| demo, n = 60 | tuned")
    ][1:] == [["texts.jsonl", "not compared"], ["groups.jsonl", "0 of 60"], ["seen.jsonl", "1 of 60"]]
    assert call("leaderboard", "--check").exit_code == 0


def test_a_lora_run_is_planned_and_resumes(tmp_path: Path, base: Path, texts: Path, groups: Path) -> None:
    adapted, tuned = tmp_path / "adapted", tmp_path / "tuned"
    adapt = ["adapt", "--model", base, "--data", texts, *QUICK, "--option", "lora_rank=4"]
    assert call(*adapt, "--output", adapted).exit_code == 0
    finetune = ["finetune", "--model", adapted, "--data", groups, "--output", tuned, *QUICK]
    planned = call(*finetune, "--dry-run")
    assert planned.exit_code == 0, planned.output
    done = call(*finetune)
    assert done.exit_code == 0, done.stderr
    assert json.loads((tuned / "adapter_config.json").read_text())["base_model_name_or_path"] == str(adapted)
    record = json.loads((tuned / RECORD).read_text())
    assert record["base"] == Checkpoint(adapted).content_hash != Checkpoint(tuned).content_hash
    assert record["reload_difference"] < 1e-5
    assert call(*finetune[:-8], *QUICK, "--output", tmp_path / "full", "-o", "lora=false").exit_code == 0
    before, after = (load(folder, dtype="float32").model for folder in (adapted, tmp_path / "full"))
    both = zip(before.named_parameters(), after.parameters(), strict=True)
    assert [name for (name, one), other in both if torch.equal(one, other)] == []


def test_a_relative_path_of_a_base_model_is_found_from_another_folder(
    tmp_path: Path, base: Path, groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base.parent)
    done = call("finetune", "--model", base.name, "--data", groups, "--output", tmp_path / "out", *QUICK)
    assert done.exit_code == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    assert load(tmp_path / "out").encode(["sun"], "query").shape == (1, 32)


def test_repllama_is_trained_by_the_same_fine_tuner(tmp_path: Path, base: Path, groups: Path) -> None:
    out = tmp_path / "out"
    done = call(
        "finetune", "--model", base, "--data", groups, "--output", out, "--recipe", "repllama", *QUICK
    )
    assert done.exit_code == 0, done.stderr
    assert Templates.load(out) == repllama.templates(make_tokenizer())
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], "k_proj" in config["target_modules"]) == (32, 64, False)
    assert load(out).encode(["sun"], "query").shape == (1, 32)
    record = json.loads((out / RECORD).read_text())
    assert record["contrast"]["passage_length"] == 196


def test_a_checkpoint_keeps_its_own_prompts_and_rows_may_have_others(tmp_path: Path, groups: Path) -> None:
    prompts = {"prompts": {"web_search_query": "Instruct: Web\nQuery: "}}
    model = make_sentence_transformer(
        tmp_path / "model", "llama", "lasttoken", config_sentence_transformers=prompts
    )
    rows = [json.loads(line) | {"prompt": "Find it"} for line in groups.read_text().splitlines()]
    data, out = tmp_path / "rows.jsonl", tmp_path / "out"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    quick = [*QUICK, "-o", "passage_length=100", "-o", "query_length=100"]
    done = call("finetune", "--model", model, "--data", data, "--output", out, *quick)
    assert done.exit_code == 0, done.stderr
    saved = Templates.load(out)
    assert saved is not None
    assert (saved.query.prompt, saved.document.prompt) == ("Instruct: Web\nQuery: ", "")
    assert saved.query.pooling == "last"
    plain = make_sentence_transformer(tmp_path / "plain", "llama", "lasttoken")
    refused = call("finetune", "--model", plain, "--data", data, "--output", tmp_path / "other", *quick)
    assert refused.exit_code == 3
    assert "the prompt 'Find it' of a row is an instruction" in text_of(refused)


def test_a_checkpoint_is_saved_with_the_prompts_that_it_was_trained_with(
    tmp_path: Path, base: Path, groups: Path
) -> None:
    stored = {"prompts": {"code_query": "Code: ", "qa_query": "Ask: ", "qa_document": "Text: "}}
    model = make_sentence_transformer(
        tmp_path / "model", "llama", "lasttoken", config_sentence_transformers=stored
    )

    quick = ["--data", groups, *QUICK, "-o", "passage_length=100", "-o", "query_length=100"]

    def trained(folder: Path, *words: str) -> tuple[str, str]:
        out = tmp_path / "-".join(words).replace(" ", "")
        done = call("finetune", "--model", folder, "--output", out, *quick, *words)
        assert done.exit_code == 0, done.stderr
        templates = load(out).templates
        return templates.query.prompt, templates.document.prompt

    unclear = call("finetune", "--model", model, "--output", tmp_path / "out", *quick)
    assert (unclear.exit_code, "choose with --prompt-name" in text_of(unclear)) == (4, True)
    assert trained(model, "--prompt-name", "qa") == ("Ask: ", "Text: ")
    assert trained(model, "--no-prompts") == ("", "")
    assert trained(base, "--query-prompt", "q: ", "--document-prompt", "d: ") == ("q: ", "d: ")
    repllama = ("--recipe", "repllama", "--query-prompt", "ask: ")
    assert trained(base, *repllama) == ("ask: ", "passage: ")


@pytest.mark.parametrize("how", [["--merge"], [], ["-o", "lora=false"]], ids=["merged", "LoRA", "all"])
def test_a_model_with_code_of_its_own_is_trained_saved_and_read_again(
    tmp_path: Path, groups: Path, how: list[str]
) -> None:
    folder = tmp_path / "model"
    own_code(folder)
    quick = [*QUICK, "-o", "passage_length=100", "-o", "query_length=100", "--recipe", "repllama", *how]
    command = ["finetune", "--model", folder, "--data", groups, "--output", tmp_path / "out", *quick]
    refused = call(*command)
    assert (refused.exit_code, "it runs with --trust-remote-code only" in text_of(refused)) == (2, True)
    assert call(*command, "--trust-remote-code", "--dry-run").exit_code == 0
    done = call(*command, "--trust-remote-code")
    assert done.exit_code == 0, done.stderr
    record = json.loads((tmp_path / "out" / RECORD).read_text())
    assert record["code_sha256"] == {"own.py": sha256_of(folder / "own.py")}
    assert record["reload_difference"] < 1e-5
    trained = Checkpoint(tmp_path / "out", allowed=Permissions(code=True))
    assert list(trained.code) == ["own.py"]
    assert type(load(trained).model).__name__ == "Model"
    with pytest.raises(UsageError, match="--trust-remote-code only"):
        load(tmp_path / "out")


def test_data_of_the_other_stage_exit_3(tmp_path: Path, base: Path, texts: Path) -> None:
    refused = call("finetune", "--model", base, "--data", texts, "--output", tmp_path / "out")
    assert refused.exit_code == 3
    assert f"{texts.name}:1: expected query, pos and neg" in text_of(refused)
