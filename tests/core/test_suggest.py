import pytest

from llara_eval.core.suggest import did_you_mean
from llara_eval.datasets.known import AVERAGES, KNOWN

NAMES = ("demo", *KNOWN, *AVERAGES)


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("beir/sifact", "beir/scifact"),
        ("Beir/Quoraa", "beir/quora"),
        ("android", "beir/cqadupstack/android"),
        ("beir-16", "beir-15"),
        ("msmarco-passage/trec-dl-2021", "msmarco-passage/trec-dl-2020"),
    ],
)
def test_similar_names_are_suggested(name, suggested):
    assert repr(suggested) in did_you_mean(name, NAMES)


def test_nothing_is_suggested_where_nothing_is_similar():
    assert did_you_mean("my-collection-of-letters", NAMES) == ""
