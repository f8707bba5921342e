import copy
import shutil
from math import log2

import numpy as np
import pytest
import pytrec_eval

from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.types import as_ids
from llara_eval.scoring import measures as measure
from llara_eval.scoring.inputs import as_run
from llara_eval.scoring.measures import DEFAULT_MEASURES, parse_measures, score, within_depth


def run_of(rankings):
    """Make a run from query → document ids, best first."""
    return as_run({query: {doc: -rank for rank, doc in enumerate(docs)} for query, docs in rankings.items()})


def value_of(qrels, ranking, measure) -> float:
    """Measure a single query."""
    scores = score({"q": qrels}, run_of({"q": ranking}), [measure])
    return scores.values[measure][0]


def ids(start, end) -> list[str]:
    return [f"d{i:04}" for i in range(start, end)]


def test_a_judged_query_missing_from_the_run_scores_zero_and_counts() -> None:
    scores = score({"q1": {"a": 1}, "q2": {"b": 1}}, run_of({"q1": ["a"]}), ["nDCG@10", "RR@10", "R@100"])
    assert list(scores.query_ids) == ["q1", "q2"]
    assert {name: column.tolist() for name, column in scores.values.items()} == {
        "nDCG@10": [1.0, 0.0],
        "RR@10": [1.0, 0.0],
        "R@100": [1.0, 0.0],
    }
    assert scores.means == {"nDCG@10": 0.5, "RR@10": 0.5, "R@100": 0.5}


def test_a_judged_query_without_hits_scores_zero_and_counts() -> None:
    scores = score({"q1": {"a": 1}, "q2": {"b": 1}}, run_of({"q1": ["a"], "q2": []}), DEFAULT_MEASURES)
    assert set(scores.means.values()) == {0.5}


def test_queries_without_judgements_are_ignored() -> None:
    run = run_of({"q0": ["a"], "q1": ["b", "a"], "q2": ["a"]})
    scores = score({"q1": {"a": 1}}, run, ["RR@10"])
    assert list(scores.query_ids) == ["q1"]
    assert scores.means == {"RR@10": 0.5}


def test_a_query_judged_with_zeros_only_counts_as_zero() -> None:
    scores = score({"q1": {"a": 1}, "q2": {"a": 0}}, run_of({"q1": ["a"], "q2": ["a"]}), DEFAULT_MEASURES)
    assert scores.means == dict.fromkeys(DEFAULT_MEASURES, 0.5) | {"Judged@10": 1.0}


def test_values_stand_beside_their_query() -> None:
    qrels = {f"q{i}": {f"d{i}": 1} for i in (3, 1, 2)}
    run = run_of({"q2": ["d0", "d2"], "q1": ["d0", "x", "d1"], "q3": ["d3"]})
    scores = score(qrels, run, ["RR@10"])
    assert dict(zip(scores.query_ids, scores.values["RR@10"], strict=True)) == {
        "q1": 1 / 3,
        "q2": 1 / 2,
        "q3": 1,
    }


@pytest.mark.parametrize("grade", [0, -1, -2])
def test_grades_of_zero_and_below_are_judged_and_not_relevant(grade) -> None:
    qrels = {"bad": grade, "good": 1}
    ranking = ["bad", "unknown", "good", "unknown too"]
    assert value_of(qrels, ranking, "RR@10") == 1 / 3
    assert value_of(qrels, ranking, "nDCG@10") == pytest.approx(1 / log2(4), abs=1e-15)
    assert value_of(qrels, ["bad"], "R@100") == 0
    assert value_of(qrels, ranking, "Judged@10") == 0.5


def test_judged_counts_the_first_ten_only() -> None:
    ranking = ids(0, 30)
    qrels = dict.fromkeys(ids(0, 3), -1) | dict.fromkeys(ids(3, 5), 0) | dict.fromkeys(ids(9, 25), 1)
    assert value_of(qrels, ranking, "Judged@10") == 0.6


def test_ndcg_has_linear_gains() -> None:
    qrels = {"a": 3, "b": 2, "c": 1, "missed": 1}
    value = value_of(qrels, ["c", "x", "a", "b"], "nDCG@10")
    gain = 1 + 3 / log2(4) + 2 / log2(5)
    best = 3 + 2 / log2(3) + 1 / log2(4) + 1 / log2(5)
    assert value == pytest.approx(gain / best, abs=1e-15)
    assert value == pytest.approx(3.361353 / 5.192536, abs=1e-6)


def test_ndcg_is_cut_on_both_sides() -> None:
    qrels = dict.fromkeys(ids(0, 20), 1)
    assert value_of(qrels, ids(0, 20), "nDCG@10") == 1.0
    assert value_of({"d0010": 1}, ids(0, 20), "nDCG@10") == 0.0
    assert value_of({"d0009": 1}, ids(0, 20), "nDCG@10") == pytest.approx(1 / log2(11), abs=1e-15)


@pytest.mark.parametrize(
    ("measure", "cutoff"), [("RR@10", 10), ("RR@100", 100), ("R@100", 100), ("R@1000", 1000)]
)
def test_cut_offs_look_no_deeper_however_long_the_run(measure, cutoff) -> None:
    ranking = ids(1, 1201)
    assert value_of({f"d{cutoff:04}": 1}, ranking, measure) == (1 / cutoff if "RR" in measure else 1)
    assert value_of({f"d{cutoff + 1:04}": 1}, ranking, measure) == 0


def test_recall_is_a_share_of_all_relevant_documents() -> None:
    assert value_of(dict.fromkeys(ids(98, 106), 2) | {"d0000": 0}, ids(0, 200), "R@100") == 2 / 8


def test_grades_may_be_demanded() -> None:
    qrels = {"a": 1, "b": 2}
    assert value_of(qrels, ["a", "b"], "RR(rel=2)@10") == 0.5
    assert value_of(qrels, ["a", "b"], "R(rel=2)@10") == 1.0
    assert value_of(qrels, ["a"], "R(rel=2)@10") == 0.0


def test_nothing_is_rounded() -> None:
    qrels = {f"q{i}": {"a": 1} for i in range(3)}
    scores = score(qrels, run_of({"q0": ["a"], "q1": ["x", "y", "a"]}), ["RR@10"])
    assert scores.values["RR@10"].tolist() == [1, 1 / 3, 0]
    assert scores.means["RR@10"] == pytest.approx(4 / 9, abs=1e-16)


def test_means_do_not_depend_on_the_order_of_queries() -> None:
    scores = score({"q": {"a": 1}}, run_of({"q": ["a"]}), ["RR@10"])
    column = np.array([1e16, 1.0, -1e16, 1.0])
    for order in ([0, 1, 2, 3], [1, 3, 0, 2], [0, 2, 1, 3]):
        assert type(scores)(as_ids("abcd"), {"RR@10": column[order]}).means == {"RR@10": 0.5}


def test_no_answer_at_all_is_zero() -> None:
    scores = score({"q1": {"a": 1}, "q2": {"a": 1}}, run_of({"q1": [], "q2": []}), DEFAULT_MEASURES)
    assert set(scores.means.values()) == {0.0}


def test_the_callers_judgements_stay_as_they_are() -> None:
    qrels = {"q2": {"q2": 1, "a": -1}, "q1": {"b": 0}}
    before = copy.deepcopy(qrels)
    score(qrels, run_of({"q2": ["a", "q2"]}), DEFAULT_MEASURES)
    assert qrels == before
    assert list(qrels) == ["q2", "q1"]


def test_judgements_of_other_queries_are_an_error() -> None:
    with pytest.raises(DataError, match=r"no judged query is in the run.*'q1'.*'PLAIN-1'"):
        score({"PLAIN-1": {"a": 1}}, run_of({"q1": ["a"]}), ["RR@10"])


def test_no_judgements_are_an_error() -> None:
    with pytest.raises(DataError, match="no judgements"):
        score({}, run_of({"q1": ["a"]}), ["RR@10"])


def test_mrr_is_another_name_for_rr() -> None:
    assert parse_measures(["MRR@10", " MRR@100 ", "MRR"]) == ["RR@10", "RR@100", "RR"]
    scores = score({"q": {"a": 1}}, run_of({"q": ["x", "a"]}), ["MRR@10"])
    assert scores.means == {"RR@10": 0.5}


def test_measures_keep_their_order_without_repeats() -> None:
    assert parse_measures(["R@100", "nDCG@10", "MRR@10", "RR@10", "R@100"]) == ["R@100", "nDCG@10", "RR@10"]
    assert parse_measures(DEFAULT_MEASURES) == list(DEFAULT_MEASURES)


@pytest.mark.parametrize(
    "name",
    [
        *("foo", "", "nDCG@", "nDCG@x", "ndgc@10", "P@5@6", "nDCG@10,RR@10", "import os", "__class__"),
        *("None", "nDCG@0", "nDCG@-1", "RR@0", "nDCG@10.5", "R", "P", "R(rel=0)@10", "R(rel='x')@10"),
        *("nDCG(foo=1)@10", "RBP"),
    ],
)
def test_what_is_no_measure_is_refused_by_its_name(name) -> None:
    with pytest.raises(UsageError) as caught:
        parse_measures(["nDCG@10", name])
    assert str(caught.value).startswith(repr(name))
    with pytest.raises(UsageError):
        score({"q": {"a": 1}}, run_of({"q": ["a"]}), [name])


def test_the_usual_measures_make_no_dictionaries(monkeypatch) -> None:
    monkeypatch.setattr(measure, "by_ir_measures", None)
    names = [*DEFAULT_MEASURES, "nDCG", "AP(rel=2)@100", "P@5", "Success@5", "MRR"]
    assert score({"q": {"a": 2}}, run_of({"q": ["a"]}), names).means["AP(rel=2)@100"] == 1.0
    with pytest.raises(TypeError):
        score({"q": {"a": 2}}, run_of({"q": ["a"]}), ["Rprec"])


@pytest.mark.parity
def test_other_measures_are_ir_measures_own_and_keep_their_places() -> None:
    qrels = {"q2": {"a": 1, "b": 3}, "q1": {"a": 2, "c": -1}, "q0": {"a": 1}}
    run = run_of({"q1": ["x", "a"], "q2": ["a", "b"], "other": ["a"]})
    names = ["Bpref", "RR@10", "Rprec", "RR(judged_only=True)", "nDCG(gains={1:0,3:1})@10"]
    scores = score(qrels, run, names)
    assert list(scores.values) == parse_measures(names)
    assert [column.tolist() for column in scores.values.values()] == [
        [0, 1, 1],
        [0, 1 / 2, 1],
        [0, 0, 1],
        [0, 1, 1],
        pytest.approx([0, 1 / log2(3), 1 / log2(3)]),
    ]


def test_what_was_pooled_and_not_judged_is_not_judged_irrelevant() -> None:
    """TREC's sampled judgements mark such documents with −1; infAP and bpref are made for them."""
    grades = {f"d{number}": (1, 0, -1, -1)[number % 4] for number in range(40)}
    docs = [f"d{number}" for number in sorted(range(40), key=lambda number: number * 7 % 40)]
    means = score({"1": grades}, run_of({"1": docs}), ["infAP", "Bpref"]).means
    results = {"1": {doc: float(-rank) for rank, doc in enumerate(docs)}}
    expected = pytrec_eval.RelevanceEvaluator({"1": grades}, {"infAP", "bpref"}).evaluate(results)["1"]
    assert means == {"infAP": pytest.approx(expected["infAP"]), "Bpref": pytest.approx(expected["bpref"])}


def test_measures_beyond_the_depth_of_a_run_are_left_out() -> None:
    names = ["nDCG@10", "R@1000", "AP", "RR@100", "R(rel=2)@100", "R@101"]
    assert within_depth(names, 100) == ["nDCG@10", "AP", "RR@100", "R(rel=2)@100"]
    assert within_depth(names, 99) == ["nDCG@10", "AP"]
    assert within_depth(names, 1000) == names


@pytest.mark.skipif(shutil.which("perl") is None, reason="gdeval is a Perl script")
def test_measures_of_gdeval_take_any_identifiers() -> None:
    numbered = {"1": {"d1": 3, "d2": 0, "d3": 1}, "2": {"d2": 2, "d4": 1}}
    ranked = {"1": ["d2", "d3", "d1"], "2": ["d4", "d2"]}
    names = ["ERR@10", "nDCG(dcg='exp-log2')@10"]
    expected = score(numbered, run_of(ranked), names)
    assert 0 < expected.means["ERR@10"] < 1
    rename = {"1": "PLAIN-1 a", "2": "é", "d1": "doc 1", "d2": "2", "d3": "doc 3", "d4": "#"}
    named = {
        rename[query]: {rename[doc]: grade for doc, grade in docs.items()} for query, docs in numbered.items()
    }
    scores = score(
        named, run_of({rename[q]: [rename[doc] for doc in docs] for q, docs in ranked.items()}), names
    )
    for name in names:
        assert scores.values[name].tolist() == expected.values[name].tolist()
