"""``llara-eval compare``: systems, folders and run files side by side, and what is not comparable."""

import json
import shutil
from pathlib import Path

import pytest
from commands import DOCUMENTS, QRELS, QUERIES, RUN, call, qrels_file, run_file, text_of

pytestmark = pytest.mark.usefixtures("systems")


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
@pytest.mark.parametrize("form", ["{folder}", "scifact", "beir/scifact", "{link}"])
def test_compare_finds_what_evaluate_was_told(
    request, make_collection, monkeypatch, tmp_path, evaluate, real, form
):
    """The data set is named by its path or by either name; it is the public set, or only has its name."""
    folder = (
        request.getfixturevalue("like_scifact") / "scifact"
        if real
        else make_collection(DOCUMENTS, QUERIES, QRELS, name="scifact")
    )
    (tmp_path / "link").symlink_to(folder)
    assert evaluate(models=["words", "stems"], data=folder).exit_code == 0
    named = form.format(folder=folder, link=tmp_path / "link")
    words = ["words", "stems", "-d", named, "--runs-dir", tmp_path / "runs"]
    result = call("compare", *words, "--data-dir", tmp_path)
    assert result.exit_code == 0, result.stderr


def test_compare_takes_all_systems_under_one_name(like_scifact, evaluate, tmp_path):
    """Otherwise, a public set would be compared with a folder that only has its name."""
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
    ("options", "message"),
    [
        (["--qrels", "nothere"], "--qrels is for run files, and no run file is named"),
        (["--dataset", "tiny"], "--dataset and --split are for systems"),
        (["--split", "dev"], "--dataset and --split are for systems"),
    ],
)
def test_compare_drops_nothing_that_was_asked_for(two, options, message):
    refused = call("compare", two / "words" / "tiny", two / "stems" / "tiny", *options)
    assert refused.exit_code == 2
    assert message in text_of(refused)


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
    ("words", "code", "message"),
    [
        (["words"], 2, "name at least two"),
        (["words", "stems"], 2, "if it is a system, name --dataset too"),
        (["words", "stems", "-d", "tiny", "-d", "other"], 2, "one data set at a time, not on tiny, other"),
        (["words", "nobody", "-d", "tiny"], 3, "the folder has no result"),
        (["words", "stems", "-d", "tiny", "--measure", "P@3"], 2, "has no P@3; it has nDCG@10"),
        (["words", "stems", "-d", "tiny", "--measure", "best"], 2, "'best' is not a measure"),
        (["words/tiny/run.trec.gz", "stems/tiny"], 2, "name its judgements with --qrels"),
    ],
)
def test_compare_refuses(two, monkeypatch, words, code, message):
    monkeypatch.chdir(two)
    result = call("compare", *words, "--runs-dir", ".")
    assert result.exit_code == code
    assert message in text_of(result)


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


@pytest.mark.parametrize("value", ["1e308", "nan", "inf", "-1e308", "x"])
@pytest.mark.parametrize("third", [False, True])
def test_a_damaged_result_is_left_out_unless_nothing_remains(two, tiny, value, third, tmp_path):
    runs = Path(shutil.copytree(two, tmp_path / "damaged"))
    shutil.copytree(runs / "stems", runs / "same")
    table = runs / "stems" / "tiny" / "per_query.tsv"
    header, first, *lines = table.read_text().splitlines()
    query, _, *others = first.split("\t")
    table.write_text("\n".join([header, "\t".join([query, value, *others]), *lines]) + "\n")
    systems = ["words", "stems", *(["same"] if third else [])]
    result = call("compare", *systems, "--dataset", "tiny", "--runs-dir", runs, "--json")
    assert result.exit_code == (6 if third else 3)
    assert "per_query.tsv:2: expected" in text_of(result)
    assert "NaN" not in result.stdout
    if third:
        assert [row["system"] for row in json.loads(result.stdout)["systems"]] == ["words", "same"]
    assert call("compare", *reversed(systems[:2]), "--dataset", "tiny", "--runs-dir", runs).exit_code == 3
