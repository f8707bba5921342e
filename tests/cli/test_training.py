"""The commands that train: plans, runs from end to end, settings, and what they refuse."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import make_tokenizer
from tiny_training import WORDS, make_base, make_rows
from transformers import AutoModelForCausalLM, BloomConfig
from typer.testing import CliRunner

from adapters import repllama
from adapters.llara import verify_joint
from adapters.llara.recipes import contrastive, released
from llara_eval.checkpoints.folder import content_hash
from llara_eval.checkpoints.load import load
from llara_eval.cli import app
from llara_eval.cli.training_options import settled
from llara_eval.core.errors import UsageError
from llara_eval.core.files import sha256_of
from llara_eval.datasets.contamination import declared
from llara_eval.encoding.templates import Templates
from llara_eval.training.checkpoint import RECORD

QUICK = ["--steps", "2", "--batch-size", "4", "--batch-tokens", "600"]


@pytest.fixture(autouse=True)
def quiet_afterwards() -> Iterator[None]:
    """Take away the log handlers that a command leaves on a stream that is closed by then."""
    yield
    for name in ("llara_eval", "adapters"):
        logging.getLogger(name).handlers.clear()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", 12)


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("groups") / "groups.jsonl"
    lines = [{"query": word, "pos": [f"about the {word}"], "neg": ["about bees", "other"]} for word in WORDS]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def call(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "160"})


def message(result) -> str:
    return " ".join(result.stderr.split())


@pytest.mark.parametrize("lora", [True, False])
def test_a_plan_counts_what_would_be_trained_and_writes_nothing(
    tmp_path: Path, base: Path, texts: Path, groups: Path, lora: bool
) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    sizes = {"adapt": model.num_parameters(), "finetune": model.base_model.num_parameters()}
    for command, data in (("adapt", texts), ("finetune", groups)):
        shown = call(
            *(command, "--model", base, "--data", data, "--output", tmp_path / "out", "--dry-run", *QUICK),
            *("--option", f"lora={str(lora).lower()}", *(["--option", "lora_rank=4"] if lora else [])),
        )
        assert shown.exit_code == 0, shown.stderr
        cells = {row[0]: row[1] for row in table_of(shown.stdout)}
        updates = 3 * (2 * 4 * (32 + 32) + 2 * 4 * (32 + 16) + 3 * 4 * (32 + 64))  # q, o; k, v; MLP
        expected = sizes[command] + (updates if lora else 0)
        assert int(cells["parameters"].replace(",", "")) == expected
        assert int(cells["trained"].split()[0].replace(",", "")) == (updates if lora else expected)
        assert cells["optimizer steps"] == "2"
        assert not (tmp_path / "out").exists()


def table_of(text: str) -> list[list[str]]:
    """Return the cells of a table that was shown."""
    return [
        [cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if "│" in line
    ]


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
    assert f"{adapted} is finished" in message(again)
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


def test_low_rank_updates_are_planned_and_go_on_where_they_were_left(
    tmp_path: Path, base: Path, texts: Path, groups: Path
) -> None:
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
    assert record["base"] == content_hash(adapted) != content_hash(tuned)
    assert record["reload_difference"] < 1e-5
    assert call(*finetune[:-8], *QUICK, "--output", tmp_path / "full", "-o", "lora=false").exit_code == 0
    before, after = (load(folder, dtype="float32").model for folder in (adapted, tmp_path / "full"))
    both = zip(before.named_parameters(), after.parameters(), strict=True)
    assert [name for (name, one), other in both if torch.equal(one, other)] == []


def test_slots_are_added_to_low_rank_updates_of_a_full_vocabulary(
    tmp_path: Path, base: Path, texts: Path
) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), make_tokenizer()
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "full")
    file, other = tmp_path / "prompts.json", ("<s17><s18>", "<s19><s20>")
    own = {"prefix": "", "self_suffix": f"it:{other[0]}", "next_suffix": f"next:{other[1]}", "slots": 2}
    file.write_text(json.dumps(own))
    words = ["adapt", "--data", texts, *QUICK, "--option", "lora_rank=4"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert call(*words, "--model", tmp_path / "full", "--output", first).exit_code == 0
    done = call(*words, "--model", first, "--output", second, "--prompts", file)
    assert done.exit_code == 0, done.stderr
    assert load(second).model.get_input_embeddings().num_embeddings == len(tokenizer) + 4


def test_a_base_named_relative_to_here_is_found_from_elsewhere(
    tmp_path: Path, base: Path, groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base.parent)
    done = call("finetune", "--model", base.name, "--data", groups, "--output", tmp_path / "out", *QUICK)
    assert done.exit_code == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    assert load(tmp_path / "out").encode(["sun"], "query").shape == (1, 32)


@pytest.mark.parametrize("command", ["adapt", "finetune"])
def test_a_finished_run_is_kept_refused_or_started_again(
    tmp_path: Path, base: Path, texts: Path, groups: Path, command: str
) -> None:
    out, data = tmp_path / "out", {"adapt": texts, "finetune": groups}[command]
    words = [command, "--model", base, "--data", data, "--output", out, *QUICK]
    assert call(*words).exit_code == 0
    made = (out / RECORD).stat().st_mtime_ns
    again = call(*words)
    assert again.exit_code == 0
    assert f"{out} is finished; --on-existing always starts again" in message(again)
    never = call(*words, "--on-existing", "never")
    assert never.exit_code == 2
    assert "choose another --output" in message(never)
    other = call(*words, "--learning-rate", "0.5")
    assert other.exit_code == 2
    assert "holds a finished run with other schedule.learning_rate (" in message(other)
    assert " there, 0.5 now); give the same command again, --on-existing always" in message(other)
    assert (out / RECORD).stat().st_mtime_ns == made
    assert call(*words, "--on-existing", "always").exit_code == 0
    assert (out / RECORD).stat().st_mtime_ns > made


@pytest.mark.parametrize("command", ["adapt", "finetune"])
def test_what_is_not_a_training_run_is_never_removed(
    tmp_path: Path, base: Path, texts: Path, groups: Path, command: str
) -> None:
    model = tmp_path / "all" / "model"
    shutil.copytree(base, model)
    kept = sorted(model.iterdir())
    words = [command, "--model", model, "--data", {"adapt": texts, "finetune": groups}[command], *QUICK]
    (foreign := tmp_path / "thesis").mkdir()
    (foreign / "thesis.tex").write_text("years of work")
    refused = call(*words, "--output", foreign, "--on-existing", "always")
    assert (refused.exit_code, "exists and holds thesis.tex" in message(refused)) == (2, True)
    for output in (model, model.parent):
        refused = call(*words, "--output", output, "--on-existing", "always")
        assert (refused.exit_code, "holds the model itself" in message(refused)) == (2, True)
    assert (foreign / "thesis.tex").read_text() == "years of work"
    assert sorted(model.iterdir()) == kept


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


def test_an_existing_folder_is_never_written_over_unasked(tmp_path: Path, base: Path, texts: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    words = ["adapt", "--model", base, "--data", texts, "--output", out, *QUICK]
    refused = call(*words)
    assert refused.exit_code == 2
    assert "holds thesis.tex; choose another --output" in message(refused)


def test_prompts_and_slots_reach_the_checkpoint(tmp_path: Path, base: Path, texts: Path) -> None:
    own = {"prefix": "[", "self_suffix": "] it:<s1><s2>", "next_suffix": "] next:<s3><s4>", "slots": 2}
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps(own))
    words = ["adapt", "--model", base, "--data", texts, *QUICK, "--prompts", file, "--slots", 1]
    done = call(*words, "--output", tmp_path / "out", "--option", "language_model=false")
    assert done.exit_code == 0, done.stderr
    made = Templates.load(tmp_path / "out")
    assert made is not None
    assert (made.query.suffix, made.query.slots) == (("] next:<s3>",), 1)
    entry = json.loads((tmp_path / "out" / "log.jsonl").read_text().splitlines()[0])
    assert entry["language_model"] == 0
    file.write_text(json.dumps({**own, "slot": 2}))
    refused = call(*words, "--output", tmp_path / "other")
    assert refused.exit_code == 3
    assert "prompts.json: expected a JSON object with prefix, self_suffix" in message(refused)


def test_the_papers_recipe_has_its_own_prompts(tmp_path: Path, base: Path, texts: Path) -> None:
    words = ["adapt", "--model", base, "--data", texts, "--output", tmp_path / "out", *QUICK]
    assert call(*words, "--recipe", "llara-paper").exit_code == 0
    made = Templates.load(tmp_path / "out")
    assert made is not None
    assert (made.document.suffix, made.document.slots) == (("The original sentence: </s>",), 1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["adapt", "--recipe", "nllama"], "recipe 'nllama' is not one of llara, llara-paper"),
        (["finetune", "--recipe", "nllama"], "recipe 'nllama' is not one of llara, repllama"),
        (["adapt", "--option", "ebax=false"], "no option 'ebax'; it has ebae, ebar"),
        (["adapt", "--option", "prompts=own.json"], "read from a file, use --prompts"),
        (["finetune", "--option", "prompts=own.json"], "this recipe has no option 'prompts'"),
        (["adapt", "--steps", "3", "-o", "epochs=2"], "steps and epochs both say how long"),
        (["adapt", "-o", "lora=false", "-o", "lora_rank=8"], "lora=false contradicts lora_rank"),
        (["finetune", "--option", "lora_rnk=3"], "no option 'lora_rnk'"),
        (["finetune", "--option", "temperature=hot"], "temperature=hot: expected float"),
        (["finetune", "--option", "lora=maybe"], "expected true or false"),
        (["adapt", "--option", "ebae=false", "--option", "ebar=false"], "needs EBAE or EBAR"),
        (["adapt", "--eval-split", "dev"], "--eval-split dev is of --eval-dataset, which is not given"),
        (["adapt", "--option", "ebae"], "'ebae': expected KEY=VALUE"),
        (["adapt", "--slots", "9"], "has 8 slot tokens"),
        (["adapt", "--option", "lora_targets=c_attn"], "(name some of them with -o lora_targets="),
        (["adapt", "--option", "lora_rank=0"], "a rank and an alpha of at least 1"),
        (["adapt", "--option", "lora_dropout=1.5"], "a dropout from 0 to below 1"),
        (["adapt", "--option", "weight_decay=-1"], "weight_decay must not be negative"),
        (["adapt", "--dtype", "float16"], "training computes in float32 or bfloat16"),
    ],
)
def test_what_makes_no_sense_exits_2(
    tmp_path: Path, base: Path, texts: Path, words: list[str], says: str
) -> None:
    refused = call(*words, "--model", base, "--data", texts, "--output", tmp_path / "out")
    assert refused.exit_code == 2
    assert says in message(refused)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("last", [["--dry-run"], []], ids=["planned", "run"])
def test_what_a_run_would_refuse_its_plan_refuses(
    tmp_path: Path, base: Path, texts: Path, groups: Path, last: list[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    adapt = ["adapt", "--model", base, "--data", texts, *QUICK, *last]
    finetune = ["finetune", "--model", base, "--data", groups, *QUICK, *last]
    out = ["--output", tmp_path / "out"]
    for words, code, says in (
        ([*adapt, *out, "--held-out", 1000], 3, "1000 to be held out"),
        ([*adapt, *out, "--eval-dataset", "nothere"], 3, "'nothere' is neither a folder"),
        ([*adapt, "--output", tmp_path / "file"], 2, "is a file; name a folder"),
        ([*adapt, "--output", base], 2, "holds the model itself"),
        ([*adapt, *out, "--batch-size", 500], 2, "rows are fewer than one batch of 500"),
        ([*adapt, *out, "--max-length", 513], 2, "max_length 513 is more than the model has positions: 512"),
        ([*finetune, "--output", tmp_path / "file"], 2, "is a file; name a folder"),
        ([*finetune, *out, "-o", "distillation=1"], 2, "no row has them"),
    ):
        refused = call(*words)
        assert refused.exit_code == code, refused.output
        assert says in message(refused)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["adapt", "finetune"])
def test_a_folder_is_no_training_data(tmp_path: Path, base: Path, command: str) -> None:
    refused = call(command, "--model", base, "--data", tmp_path, "--output", tmp_path / "out")
    assert refused.exit_code == 2
    assert "is a directory" in message(refused)


def test_data_of_the_other_stage_exit_3(tmp_path: Path, base: Path, texts: Path) -> None:
    refused = call("finetune", "--model", base, "--data", texts, "--output", tmp_path / "out")
    assert refused.exit_code == 3
    assert f"{texts.name}:1: query: expected text" in message(refused)


def test_settings_replace_those_of_the_recipe() -> None:
    contrast, schedule = contrastive()
    _, plain = settled(contrast, schedule, {"lora": "false"})
    assert plain.lora is None
    contrast, small = settled(contrast, schedule, {"lora_rank": "4", "group_size": "2", "warmup": "0.2"})
    assert small.lora is not None
    assert (small.lora.rank, small.lora.alpha, small.warmup, contrast.group_size) == (4, 16, 0.2, 2)
    _, longer = settled(*released(), {"epochs": "2"})
    assert (longer.steps, longer.total_steps(2560)) == (None, 2 * 2560 // longer.batch_size)
    _, added = settled(*released(), {"lora_targets": "q_proj, v_proj"})
    assert added.lora is not None
    assert added.lora.targets == ("q_proj", "v_proj")
    with pytest.raises(UsageError, match="no option 'rank'"):
        settled(contrast, schedule, {"rank": "4"})


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("the moon passes\n\nbetween the sun\nand the earth " + "sun " * 40, encoding="utf-8")
    return path


def test_verify_joint_compares_one_pass_with_two(base: Path, text_file: Path) -> None:
    shown = call("verify-joint", "--model", base, "--text-file", text_file, "--json")
    assert shown.exit_code == 0, shown.stderr
    found = json.loads(shown.stdout)
    assert found["texts"] == 3
    assert found["isolation_error"] < 1e-5
    assert found["leaked_attention"] == 0
    assert found["holds"]
    assert found["cost_ratio"] == found["joint_tokens"] / found["separate_tokens"] < 1
    assert found["time_ratio"] == found["joint_seconds"] / found["separate_seconds"]
    table = call("verify-joint", "--model", base, "--text-file", text_file, "--variant", "paper")
    assert table.exit_code == 0
    assert "two passes" in table.stdout


def test_verify_joint_says_why_a_model_takes_no_joint_sequence(tmp_path: Path, text_file: Path) -> None:
    config = BloomConfig(hidden_size=32, n_layer=2, n_head=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    refused = call("verify-joint", "--model", tmp_path, "--text-file", text_file)
    assert refused.exit_code == 2
    assert "BloomModel cannot be adapted: it takes no joint sequence" in message(refused)


def test_verify_joint_exits_4_where_next_sees_self(
    base: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.llara.joint.joint_mask", causal_only)
    shown = call("verify-joint", "--model", base, "--text-file", text_file, "--json")
    assert shown.exit_code == 4
    found = json.loads(shown.stdout)
    assert not found["holds"]
    assert found["isolation_error"] > verify_joint.LARGEST_ERROR
    assert "cannot be adapted with joint sequences" in message(shown)


def causal_only(segments: torch.Tensor) -> torch.Tensor:
    """Let NEXT see SELF."""
    length = segments.shape[1]
    seen = torch.ones(length, length, dtype=torch.bool).tril() & (segments > 0)[:, None, :]
    return (seen | torch.eye(length, dtype=torch.bool))[:, None]


def test_verify_joint_needs_text_and_a_known_variant(base: Path, tmp_path: Path, text_file: Path) -> None:
    words = ["verify-joint", "--model", base, "--text-file", text_file]
    unknown = call(*words, "--variant", "nope")
    assert unknown.exit_code == 2
    assert "'nope' is not one of released, paper, paper-acl" in message(unknown)
    (tmp_path / "empty.txt").write_text("\n")
    assert call("verify-joint", "--model", base, "--text-file", tmp_path / "empty.txt").exit_code == 3
    text_file.write_bytes("the moon\ncrème brûlée\n".encode("latin-1"))
    unreadable = call(*words)
    assert unreadable.exit_code == 3
    assert "texts.txt:2: not UTF-8" in message(unreadable)


def test_the_weights_that_are_trained_move(tmp_path: Path, base: Path, texts: Path) -> None:
    words = ["adapt", "--model", base, "--data", texts, *QUICK, "--learning-rate", "0.01"]
    assert call(*words, "--output", tmp_path / "out").exit_code == 0
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tmp_path / "out"))
    assert all(not torch.equal(before[name], after[name]) for name in before)
