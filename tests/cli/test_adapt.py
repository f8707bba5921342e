"""``llara-eval adapt``, and what it has in common with ``finetune``: plans, settings, what they refuse."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from commands import text_of
from safetensors.torch import load_file
from tiny_models import make_tokenizer
from training_commands import QUICK, call, table_of
from transformers import AutoModelForCausalLM

from adapters.llara.recipes import contrastive, ours
from adapters.training import with_options
from llara_eval.checkpoints.load import load
from llara_eval.core.errors import UsageError
from llara_eval.encoding.templates import Templates
from llara_eval.training.checkpoint import RECORD


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
        lora_weights = 3 * (2 * 4 * (32 + 32) + 2 * 4 * (32 + 16) + 3 * 4 * (32 + 64))  # q, o; k, v; MLP
        expected = sizes[command] + (lora_weights if lora else 0)
        assert int(cells["parameters"].replace(",", "")) == expected
        assert int(cells["trained"].split()[0].replace(",", "")) == (lora_weights if lora else expected)
        assert cells["optimizer steps"] == "2"
        assert not (tmp_path / "out").exists()


def test_slots_are_added_to_a_lora_adapter_of_a_full_vocabulary(
    tmp_path: Path, base: Path, texts: Path
) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), make_tokenizer()
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "full")
    file, slots = tmp_path / "prompts.json", ("<s17><s18>", "<s19><s20>")
    prompts = {"prefix": "", "self_suffix": f"it:{slots[0]}", "next_suffix": f"next:{slots[1]}", "slots": 2}
    file.write_text(json.dumps(prompts))
    words = ["adapt", "--data", texts, *QUICK, "--option", "lora_rank=4"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert call(*words, "--model", tmp_path / "full", "--output", first).exit_code == 0
    done = call(*words, "--model", first, "--output", second, "--prompts", file)
    assert done.exit_code == 0, done.stderr
    assert load(second).model.get_input_embeddings().num_embeddings == len(tokenizer) + 4


@pytest.mark.parametrize("command", ["adapt", "finetune"])
def test_a_finished_run_is_kept_refused_or_started_again(
    tmp_path: Path, base: Path, texts: Path, groups: Path, command: str
) -> None:
    out, data = tmp_path / "out", {"adapt": texts, "finetune": groups}[command]
    words = [command, "--model", base, "--data", data, "--output", out, *QUICK]
    assert call(*words).exit_code == 0
    written = (out / RECORD).stat().st_mtime_ns
    again = call(*words)
    assert again.exit_code == 0
    assert f"{out} is finished; --on-existing always starts again" in text_of(again)
    refused = call(*words, "--on-existing", "refuse")
    assert refused.exit_code == 2
    assert "choose another --output" in text_of(refused)
    other = call(*words, "--learning-rate", "0.5")
    assert other.exit_code == 2
    assert "holds a finished run with other schedule.learning_rate (" in text_of(other)
    assert " before, 0.5 now); give the same command again, --on-existing always" in text_of(other)
    assert (out / RECORD).stat().st_mtime_ns == written
    assert call(*words, "--on-existing", "always").exit_code == 0
    assert (out / RECORD).stat().st_mtime_ns > written


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
    assert (refused.exit_code, "holds thesis.tex, which no training run wrote" in text_of(refused)) == (
        2,
        True,
    )
    for output in (model, model.parent):
        refused = call(*words, "--output", output, "--on-existing", "always")
        assert (refused.exit_code, "holds the model itself" in text_of(refused)) == (2, True)
    assert (foreign / "thesis.tex").read_text() == "years of work"
    assert sorted(model.iterdir()) == kept


def test_an_existing_folder_is_never_written_over_unasked(tmp_path: Path, base: Path, texts: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    words = ["adapt", "--model", base, "--data", texts, "--output", out, *QUICK]
    refused = call(*words)
    assert refused.exit_code == 2
    assert "holds thesis.tex, which no training run wrote" in text_of(refused)


def test_prompts_and_slots_reach_the_checkpoint(tmp_path: Path, base: Path, texts: Path) -> None:
    prompts = {"prefix": "[", "self_suffix": "] it:<s1><s2>", "next_suffix": "] next:<s3><s4>", "slots": 2}
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps(prompts))
    words = ["adapt", "--model", base, "--data", texts, *QUICK, "--prompts", file, "--slots", 1]
    done = call(*words, "--output", tmp_path / "out", "--option", "language_model=false")
    assert done.exit_code == 0, done.stderr
    saved = Templates.load(tmp_path / "out")
    assert saved is not None
    assert (saved.query.suffix, saved.query.slots) == (("] next:<s3>",), 1)
    entry = json.loads((tmp_path / "out" / "log.jsonl").read_text().splitlines()[0])
    assert entry["language_model"] == 0
    file.write_text(json.dumps({**prompts, "slot": 2}))
    refused = call(*words, "--output", tmp_path / "other")
    assert refused.exit_code == 3
    assert "unknown field `slot` - at `$`; the fields are prefix, self_suffix" in text_of(refused)


def test_the_papers_recipe_has_its_own_prompts(tmp_path: Path, base: Path, texts: Path) -> None:
    words = ["adapt", "--model", base, "--data", texts, "--output", tmp_path / "out", *QUICK]
    assert call(*words, "--recipe", "llara-paper").exit_code == 0
    saved = Templates.load(tmp_path / "out")
    assert saved is not None
    assert (saved.document.suffix, saved.document.slots) == (("The original sentence: </s>",), 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["adapt", "--recipe", "nllama"], "recipe 'nllama' is not one of llara, llara-released, llara-paper"),
        (["finetune", "--recipe", "nllama"], "recipe 'nllama' is not one of llara, llara-released, repllama"),
        (["adapt", "--option", "ebax=false"], "no option 'ebax'; it has ebae, ebar"),
        (["adapt", "--option", "prompts=own.json"], "read from a file, use --prompts"),
        (["finetune", "--option", "prompts=own.json"], "this recipe has no option 'prompts'"),
        (["adapt", "--steps", "3", "-o", "epochs=2"], "steps and epochs both set the length"),
        (["adapt", "-o", "lora=false", "-o", "lora_rank=8"], "lora=false contradicts lora_rank"),
        (["finetune", "--option", "lora_rnk=3"], "no option 'lora_rnk'"),
        (["finetune", "--option", "temperature=hot"], "temperature=hot: expected float"),
        (["finetune", "--option", "lora=maybe"], "expected true or false"),
        (["adapt", "--option", "ebae=false", "--option", "ebar=false"], "needs EBAE or EBAR"),
        (["adapt", "--eval-split", "dev"], "--eval-split dev needs --eval-dataset, which is not given"),
        (["adapt", "--option", "ebae"], "'ebae': expected KEY=VALUE"),
        (["adapt", "--slots", "9"], "has 8 slot tokens"),
        (["adapt", "--option", "lora_targets=c_attn"], "(name some of them with -o lora_targets="),
        (["adapt", "--option", "lora_rank=0"], "a rank and an alpha of at least 1"),
        (["adapt", "--option", "lora_dropout=1.5"], "a dropout from 0 to below 1"),
        (["adapt", "--option", "weight_decay=-1"], "weight_decay must not be negative, found -1.0"),
        (["adapt", "--option", f"seed={2**70}"], "seed must be below 2^63"),
        (["adapt", "--dtype", "float16"], "training computes in float32 or bfloat16"),
    ],
)
def test_what_makes_no_sense_exits_2(
    tmp_path: Path, base: Path, texts: Path, words: list[str], message: str
) -> None:
    refused = call(*words, "--model", base, "--data", texts, "--output", tmp_path / "out")
    assert refused.exit_code == 2
    assert message in text_of(refused)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("last", [["--dry-run"], []], ids=["planned", "run"])
def test_what_a_run_would_refuse_its_plan_refuses(
    tmp_path: Path, base: Path, texts: Path, groups: Path, last: list[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    adapt = ["adapt", "--model", base, "--data", texts, *QUICK, *last]
    finetune = ["finetune", "--model", base, "--data", groups, *QUICK, *last]
    out = ["--output", tmp_path / "out"]
    for words, code, message in (
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
        assert message in text_of(refused)
    assert not (tmp_path / "out").exists()


def test_a_folder_is_no_training_data_of_an_adaptation(tmp_path: Path, base: Path) -> None:
    refused = call("adapt", "--model", base, "--data", tmp_path, "--output", tmp_path / "out")
    assert refused.exit_code == 2
    assert "is a directory" in text_of(refused)


def test_settings_replace_those_of_the_recipe() -> None:
    contrast, schedule = contrastive()
    _, plain = with_options(contrast, schedule, {"lora": "false"})
    assert plain.lora is None
    contrast, small = with_options(contrast, schedule, {"lora_rank": "4", "group_size": "2", "warmup": "0.2"})
    assert small.lora is not None
    assert (small.lora.rank, small.lora.alpha, small.warmup, contrast.group_size) == (4, 16, 0.2, 2)
    _, longer = with_options(*ours(), {"epochs": "2"})
    assert (longer.steps, longer.total_steps(2560)) == (None, 2 * 2560 // longer.batch_size)
    _, added = with_options(*ours(), {"lora_targets": "q_proj, v_proj"})
    assert added.lora is not None
    assert added.lora.targets == ("q_proj", "v_proj")
    with pytest.raises(UsageError, match="no option 'rank'"):
        with_options(contrast, schedule, {"rank": "4"})


def test_the_weights_that_are_trained_move(tmp_path: Path, base: Path, texts: Path) -> None:
    words = ["adapt", "--model", base, "--data", texts, *QUICK, "--learning-rate", "0.01"]
    assert call(*words, "--output", tmp_path / "out").exit_code == 0
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tmp_path / "out"))
    assert all(not torch.equal(before[name], after[name]) for name in before)
