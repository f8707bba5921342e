"""The Python face: what it offers, that it is light and typed, and what it refuses."""

import ast
import subprocess
import sys
import warnings
from pathlib import Path
from types import MappingProxyType

import mypy.api
import numpy as np
import pandas as pd
import pytest
from checkout import ROOT
from commands import DOCUMENTS, QRELS, QUERIES
from face_models import Words
from fakes import WordOverlap

import adapters
import llara_eval as le
from adapters import System
from llara_eval.core.errors import DataError, LlaraEvalError, UsageError
from llara_eval.core.frames import SHOWN

RUN = {"q1": {"d1": 2.0, "d2": 1.0}, "q2": {"d1": 2.0, "d4": 2.0, "d2": 0.5}}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """Work in an empty folder, with word overlap in the place of named systems."""
    table = {
        "bm25": System("fakes:open_words", "words"),
        "broken": System("fakes:open_broken", "corrupt"),
    }
    monkeypatch.setattr(adapters, "SYSTEMS", MappingProxyType(table))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_package_is_imported_without_any_library():
    code = (
        "import sys, llara_eval as le; dir(le); "
        "print(*{'numpy', 'pandas', 'torch', 'scipy', 'msgspec', 'adapters'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_score_and_a_comparison_need_no_torch():
    code = "import sys, llara_eval as le; le.score, le.compare, le.results; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_the_names_are_those_that_type_checkers_see():
    tree = ast.parse((ROOT / "llara_eval" / "__init__.py").read_text(encoding="utf-8"))
    (guard,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {node.module: tuple(alias.name for alias in node.names) for node in guard.body}
    assert typed == le._HOMES
    assert sorted(name for names in typed.values() for name in names) == sorted(le.__all__)
    assert set(le.__all__) <= set(dir(le))
    for name in le.__all__:
        assert (getattr(le, name).__doc__ or "").strip(), name
    with pytest.raises(AttributeError, match="no attribute 'evalute'"):
        _ = le.evalute


@pytest.mark.slow
def test_the_face_is_typed(monkeypatch):
    monkeypatch.setenv("MYPYPATH", str(ROOT))  # mypy does not follow an editable install
    out, err, code = mypy.api.run(
        ["--strict", "--config-file", str(ROOT / "pyproject.toml"), str(ROOT / "tests/face/example.py")]
    )
    assert code == 0, out + err


def test_one_system_on_one_data_set_is_an_outcome(here):
    dataset = le.Dataset.from_memory(DOCUMENTS, QUERIES, QRELS, name="fruit")
    outcome = le.evaluate("bm25", dataset)
    assert isinstance(outcome, le.Outcome)
    assert outcome.folder.resolve() == (here / "runs" / "bm25" / "fruit").resolve()
    frame = outcome.to_frame()
    assert list(frame.columns) == ["system", "dataset", "split", "measure", "mean", "low", "high"]
    assert dict(zip(frame["measure"], frame["mean"], strict=True)) == outcome.means
    assert "<td" in outcome._repr_html_()
    assert "3 judged queries" in outcome._repr_html_()


def test_lists_of_both_are_outcomes_and_groups_stand_in_lists():
    dataset = le.Dataset.from_memory(DOCUMENTS, QUERIES, QRELS, name="fruit")
    outcomes = le.evaluate(["bm25", WordOverlap(name="other")], [dataset, "demo"], offline=True)
    assert [(item.result.system, item.result.dataset) for item in outcomes] == [
        *(("bm25", name) for name in ("fruit", "demo")),
        *(("other", name) for name in ("fruit", "demo")),
    ]
    frame = outcomes.to_frame()
    assert len(frame) == len(outcomes) == 4
    assert frame["nDCG@10"][1] == outcomes[1].means["nDCG@10"]
    kept = le.results().to_frame().sort_values(["system", "dataset"], ignore_index=True)
    assert kept.equals(frame.sort_values(["system", "dataset"], ignore_index=True))
    assert [item.result.dataset for item in outcomes.of(system="other")] == ["fruit", "demo"]
    assert len(outcomes[1:]) == 3
    with pytest.raises(UsageError, match=r"beir-13 is a group of 13 data sets: put it into a list"):
        le.evaluate("bm25", "beir-13")
    with pytest.raises(UsageError, match="is empty"):
        le.evaluate([], "demo")


def test_a_tilde_is_the_home_folder_wherever_a_path_is_taken(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here / "home"))
    dataset = le.Dataset.from_memory(DOCUMENTS, QUERIES, QRELS, name="fruit")
    outcome = le.evaluate("bm25", dataset, runs_dir="~/runs")
    assert outcome.folder == here / "home/runs/bm25/fruit"
    assert [item.means for item in le.results("~/runs")] == [outcome.means]
    by_name = le.compare("bm25", "bm25", dataset="fruit", runs_dir="~/runs")
    by_folder = le.compare("~/runs/bm25/fruit", "~/runs/bm25/fruit")
    assert by_name.systems[1].difference == by_folder.systems[1].difference


@pytest.mark.parametrize("number", ["depth", "limit"])
def test_a_depth_and_a_limit_are_at_least_one(number):
    with pytest.raises(UsageError, match=f"{number}=0 is below 1"):
        le.evaluate("bm25", "demo", offline=True, **{number: 0})


def test_what_failed_is_warned_of_and_kept_with_the_outcomes():
    with pytest.warns(UserWarning, match=r"broken on demo failed: vectors.npy: the checksum is wrong"):
        outcomes = le.evaluate(["bm25", "broken"], ["demo"], offline=True)
    assert [failure.system for failure in outcomes.failures] == ["broken"]
    assert "broken on demo failed" in outcomes._repr_html_()
    with pytest.raises(DataError, match="the checksum is wrong"):
        le.evaluate("broken", "demo", offline=True)


def test_a_python_object_is_measured_again_unless_it_says_what_it_is():
    class Better(Words):
        pass

    dataset = le.Dataset.from_memory(DOCUMENTS, QUERIES, QRELS, name="fruit")
    first = le.evaluate(Words(), dataset)
    assert (first.fresh, le.evaluate(Better(), dataset).fresh) == (True, True)
    assert not le.evaluate(Words(), dataset, on_existing="never").fresh
    known = type("Known", (Words,), {"name": "known", "settings": {"version": 1}})
    assert le.evaluate(known(), dataset).fresh
    assert not le.evaluate(known(), dataset).fresh
    known.settings = {"version": 2}
    with pytest.raises(UsageError, match=r"version \(1 before, 2 now\)"):
        le.evaluate(known(), dataset)


def test_options_are_of_systems_that_are_named_and_not_of_objects():
    dataset = le.load_dataset("demo", offline=True)
    outcomes = le.evaluate([Words(), "bm25"], [dataset], options={"letters": 2}, offline=True)
    assert [item.result.settings.get("letters") for item in outcomes] == [None, 2]
    with pytest.raises(UsageError, match="options letters: only systems that are named take options"):
        le.evaluate(Words(), dataset, options={"letters": 2})


def test_documents_may_be_searched_by_their_passages():
    outcome = le.evaluate(Words(), le.load_dataset("demo", offline=True), maxp=True)
    assert outcome.result.system == "words,passages=maxp"


def test_what_comes_from_data_is_escaped():
    dataset = le.Dataset.from_memory(DOCUMENTS, QUERIES, QRELS, name="fruit")
    outcome = le.evaluate(WordOverlap(name="<script>alert(1)</script>"), dataset)
    for shown in (outcome, le.results(), le.compare(outcome, outcome)):
        assert "<script>" not in shown._repr_html_()
        assert "&lt;script&gt;" in shown._repr_html_()


def test_what_comes_from_data_has_no_control_and_bidi_characters():
    dataset = le.Dataset.from_memory(DOCUMENTS, QUERIES, QRELS, name="fruit")
    outcome = le.evaluate(WordOverlap(name="\u202egnp.exe\x9b"), dataset)
    for shown in (outcome, le.results(), le.compare(outcome, outcome)):
        assert not {"\u202e", "\x9b"} & set(shown._repr_html_())
        assert r"\u202egnp.exe\x9b" in shown._repr_html_()


def test_a_damaged_result_is_a_failure_among_results():
    dataset = le.Dataset.from_memory(DOCUMENTS, QUERIES, QRELS, name="fruit")
    good, bad = le.evaluate([WordOverlap(name="good"), WordOverlap(name="bad")], dataset)
    (bad.folder / "result.json").write_text("{")
    results = le.results()
    assert [outcome.result for outcome in results] == [good.result]
    (failure,) = results.failures
    assert (failure.system, failure.dataset) == ("bad", bad.folder.name)
    assert "result.json" in results.caption()


def test_results_of_no_folder_are_refused():
    with pytest.raises(DataError, match="no such folder"):
        le.results("nowhere")


def test_systems_are_compared_by_name_and_as_outcomes():
    dataset = le.Dataset.from_memory(DOCUMENTS, QUERIES, QRELS, name="fruit")
    first, second = le.evaluate(["bm25", Words()], dataset)
    comparison = le.compare("bm25", "words", dataset="fruit")
    assert comparison == le.compare(first, second)
    frame = comparison.to_frame()
    assert list(frame["system"]) == ["bm25", "words"]
    assert {"difference", "low", "high", "p_value", "p_holm", "wins", "losses", "ties"} < set(frame.columns)
    assert frame["mean"][1] - frame["mean"][0] == pytest.approx(frame["difference"][1])
    assert "differences from bm25" in comparison._repr_html_()
    with pytest.raises(UsageError, match="name at least two"):
        le.compare("bm25", dataset="fruit")


def frames() -> tuple[pd.DataFrame, pd.DataFrame]:
    hits = [(query, doc, score) for query, docs in RUN.items() for doc, score in docs.items()]
    judged = [(query, doc, grade) for query, docs in QRELS.items() for doc, grade in docs.items()]
    return pd.DataFrame(hits, columns=["qid", "docno", "score"]), pd.DataFrame(
        judged, columns=["query-id", "corpus-id", "score"]
    )


def files(folder: Path) -> tuple[Path, str]:
    run, qrels = folder / "run.trec", folder / "qrels.txt"
    run.write_text("".join(f"{q} Q0 {d} 1 {s} x\n" for q, docs in RUN.items() for d, s in docs.items()))
    qrels.write_text("".join(f"{q} 0 {d} {g}\n" for q, docs in QRELS.items() for d, g in docs.items()))
    return run, str(qrels)


@pytest.mark.parametrize("form", ["dictionaries", "frames", "files"])
def test_a_run_is_scored_in_any_form(here, form):
    run, qrels = {"dictionaries": (RUN, QRELS), "frames": frames(), "files": files(here)}[form]
    scored = le.score(run, qrels, ["MRR@10", "R@1"])
    assert scored.means == {"RR@10": pytest.approx(2 / 3), "R@1": pytest.approx(0.5)}
    assert scored.n_queries == 3
    per_query = scored.per_query.to_frame()
    assert per_query["query_id"].tolist() == ["q1", "q2", "q3"]
    assert per_query["R@1"].tolist() == [1.0, 0.5, 0.0], "of the tied d1 and d4, d4 comes first"
    assert scored.to_frame()["measure"].tolist() == ["RR@10", "R@1"]
    assert "3 judged queries, ties@10 0.0000" in scored._repr_html_()


@pytest.mark.parametrize(
    ("run", "qrels", "message"),
    [
        ({"q1": {"d1": float("nan")}}, QRELS, "run:1: the score nan is not a finite"),
        ({"q1": {"d1": 10**400}}, QRELS, "run:1: the score 1000000000[0-9]*… is not a finite"),
        ({"q1": {"d1": 10**5000}}, QRELS, "run:1: the score of thousands of digits is not a finite"),
        ({"q1": {"d1": 1e300}}, QRELS, "1e\\+300 is not a finite"),
        ({"q1": {"d1": "high"}}, QRELS, "run:1: the score 'high' is not a number"),
        ({"q1": ["d1"]}, QRELS, "run: expected query id → document id → score"),
        (RUN, {"q1": {"d1": 0.5}}, r"qrels:1: the grade 0.5 is not an integer"),
        (RUN, {"q1": {"d1": 2**31}}, "qrels:1: the grade 2147483648 is beyond 2,147,483,647"),
        (RUN, {"q1": {"d1": -(10**5000)}}, "qrels:1: the grade of thousands of digits is beyond"),
        (RUN, {}, "qrels: no judgements"),
        (RUN, {"x": {"d1": 1}}, "no judged query is in the run"),
        (pd.DataFrame({"qid": ["q1"], "score": [1.0]}), QRELS, "run: expected a column doc_id or corpus-id"),
        (pd.DataFrame({"qid": ["q1"] * 2, "docno": ["d"] * 2, "score": [1.0, 2.0]}), QRELS, "more than once"),
    ],
)
def test_what_cannot_be_scored_is_named(run, qrels, message):
    with pytest.raises(DataError, match=message):
        le.score(run, qrels, ["nDCG@10"])


def test_identifiers_that_are_numbers_are_their_digits():
    frame = pd.DataFrame({"query_id": [1, 1], "doc_id": [7, 8], "score": np.array([1, 2], dtype=np.int64)})
    assert le.score(frame, {"1": {"8": 1}}, ["P@1"]).means == {"P@1": 1.0}
    assert le.score({1: {7: 1, "8": 2}, "1": {"9": 3}}, {"1": {"9": 1}}, ["P@1"]).means == {"P@1": 1.0}


def test_a_long_table_says_what_it_leaves_out():
    run = {f"q{number}": {"d": 1.0} for number in range(SHOWN + 5)}
    scored = le.score(run, {query: {"d": 1} for query in run}, ["P@1"])
    assert "5 more rows; to_frame() has all of them" in scored.per_query._repr_html_()
    assert len(scored.per_query.to_frame()) == SHOWN + 5


def test_systems_and_recipes_are_opened_by_name():
    assert le.open_system("bm25", options={"letters": 3}).settings["letters"] == 3
    assert issubclass(le.LlaraEvalError, LlaraEvalError)
    task, schedule = le.adaptation("llara-paper")
    assert isinstance(task, le.Adaptation)
    assert isinstance(schedule, le.Schedule)
    contrast, schedule = le.finetuning("repllama")
    assert isinstance(contrast, le.Contrast)
    assert isinstance(schedule.lora, le.LoRA)
    for recipe in (le.adaptation, le.finetuning):
        with pytest.raises(UsageError, match="'mine' is not one of"):
            recipe("mine")


def test_nothing_warns_where_all_is_well():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert le.evaluate(Words(), le.load_dataset("demo", offline=True)).means["nDCG@10"] > 0.1
