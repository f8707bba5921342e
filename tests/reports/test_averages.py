"""Macro means: over all members of a group or none, and never across splits."""

import math

import pytest
from stored import make_result

from llara_eval.datasets.known import AVERAGES, CQADUPSTACK, expand
from llara_eval.reports import published
from llara_eval.reports.averages import complete, mean, measured, title
from llara_eval.reports.averages import published as by_system

BEIR_13 = AVERAGES["beir-13"]
WHOLE = {name: 0.01 * i for i, name in enumerate([*expand("beir-18"), *expand("nanobeir")])} | {
    "beir/msmarco": 0.9
}


@pytest.mark.parametrize("name", AVERAGES)
def test_a_mean_needs_every_member(name):
    assert mean(name, WHOLE) is not None
    for lost in expand(name):
        assert mean(name, {member: value for member, value in WHOLE.items() if member != lost}) is None, lost
    assert mean(name, {}) is None


def test_cqadupstack_counts_as_one_data_set_whatever_its_size():
    forums = math.fsum(WHOLE[name] for name in CQADUPSTACK) / 12
    expected = (math.fsum(WHOLE[name] for name in BEIR_13) + forums) / 14
    of_members = mean("beir-14", WHOLE)
    assert of_members is not None
    assert of_members.value == pytest.approx(expected)
    as_published = {name: WHOLE[name] for name in BEIR_13} | {"beir/cqadupstack": forums}
    assert mean("beir-14", as_published) == of_members, "the same where only its own mean was published"


def test_a_mean_that_stands_alone_is_marked_and_yields_to_its_members():
    assert mean("beir-13", {"mean/beir-13": 0.5, "beir/nq": 0.1}) == (0.5, True)
    of_members = mean("beir-13", {**WHOLE, "mean/beir-13": 0.5})
    assert of_members is not None
    assert not of_members.bare


def test_titles_carry_n():
    titles = ["BEIR-13 (n = 13)", "BEIR-14 (n = 14)", "BEIR-15 (n = 15)", "BEIR-18 (n = 18)"]
    assert [title(name) for name in AVERAGES] == [*titles, "CQADupStack (n = 12)", "NanoBEIR (n = 13)"]


def test_complete_looks_at_each_system_by_itself():
    halves = [{name: 0.5 for name in BEIR_13[:6]}, {name: 0.5 for name in BEIR_13[6:]}]
    assert complete(halves) == []
    assert complete([*halves, dict.fromkeys(BEIR_13, 0.5)]) == ["beir-13"]


def test_only_results_of_the_usual_split_count():
    def result(dataset, split, value):
        return make_result(
            system="s",
            dataset=dataset,
            split=split,
            measures={"nDCG@10": {"mean": value, "low": 0, "high": 1}},
        )

    results = [
        result("beir/scifact", "test", 0.1),
        result("beir/scifact", "train", 0.2),
        result("beir/msmarco", "test", 0.3),
        result("beir/msmarco", "dev", 0.4),
        result("own", "test", 0.5),
        result("own", "dev", 0.6),
        result("msmarco-passage/dev", "dev", 0.7),
    ]
    for order in (results, results[::-1]):
        assert measured(order, "nDCG@10") == {
            "s": {"beir/scifact": 0.1, "beir/msmarco": 0.4, "own": 0.5, "msmarco-passage/dev": 0.7}
        }
    assert measured(results, "RR@10") == {}


def test_published_means_agree_with_their_published_parts():
    checked = 0
    for values in by_system(published.load(), "nDCG@10").values():
        for name in AVERAGES:
            bare = values.pop(f"mean/{name}", None)
            of_members = mean(name, values)
            if bare is not None and of_members is not None:
                assert of_members.value == pytest.approx(bare, abs=0.001)
                checked += 1
    assert checked >= 3


def test_the_means_of_bm25_flat_are_those_of_its_regression_files():
    bm25 = by_system(published.load(), "nDCG@10")[published.BM25]
    means = {name: mean(name, bm25) for name in ("beir-13", "beir-14", "beir-18", "beir/cqadupstack")}
    rounded = {name: value and round(value.value, 4) for name, value in means.items()}
    assert rounded == {"beir-13": 0.4370, "beir-14": 0.4274, "beir-18": 0.4244, "beir/cqadupstack": 0.3021}
    assert mean("beir-15", bm25) is None, "nobody publishes its nDCG@10 on MS MARCO dev"
