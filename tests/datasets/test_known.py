"""Spot checks of what is pinned about the public sets."""

import re

import pytest

from llara_eval.datasets.known import AVERAGES, BEIR_13, CQADUPSTACK, KNOWN_SETS, LICENSED, expand, find

SPOTS = {
    "msmarco": (8_841_823, 6_980, 7_437, "444067daf65d982533ea17ebd59501e4"),
    "trec-covid": (171_332, 50, 66_336, "ce62140cb23feb9becf6270d0d1fe6d1"),
    "arguana": (8_674, 1_406, 1_406, "8ad3e3c2a5867cdced806d6503f29b99"),
    "webis-touche2020": (382_545, 49, 2_214, "46f650ba5a527fc69e0a6521c5a23563"),
    "climate-fever": (5_416_593, 1_535, 4_681, "8b66f0a9126c521bae2bde127b4dc99d"),
    "scifact": (5_183, 300, 339, "5f7d1de60b170fc8027bb7898e2efca1"),
}


@pytest.mark.parametrize("name", SPOTS)
def test_counts_and_checksums(name):
    known = KNOWN_SETS[f"beir/{name}"]
    assert (known.documents, known.queries, known.judgements, known.md5) == SPOTS[name]
    assert known.url.endswith(f"/{name}.zip")
    assert known.folder == name


LICENSED_COUNTS = {
    "beir/bioasq": (14_914_603, 500),
    "beir/signal1m": (2_866_316, 97),
    "beir/trec-news": (594_977, 57),
    "beir/robust04": (528_155, 249),
}


def test_there_are_fourteen_public_sets_twelve_forums_and_four_licensed_sets():
    assert len(KNOWN_SETS) == 14 + 12 + 4
    assert all(name == known.name for name, known in KNOWN_SETS.items())


def test_beir_13_has_thirteen_known_sets_without_msmarco_and_cqadupstack():
    assert len(set(BEIR_13)) == 13
    assert set(KNOWN_SETS) - set(BEIR_13) - set(CQADUPSTACK) - set(LICENSED) == {"beir/msmarco"}


def test_the_licensed_sets_say_how_to_obtain_them_and_have_no_archive():
    found = {name: (KNOWN_SETS[name].documents, KNOWN_SETS[name].queries) for name in LICENSED}
    assert found == LICENSED_COUNTS
    for known in (KNOWN_SETS[name] for name in LICENSED):
        assert (known.url, known.md5, known.archive_bytes, known.judgements) == (None, None, None, None)
        assert re.fullmatch(r"[A-Z].*https?://.*\.", known.obtain)
    assert [known.name for known in KNOWN_SETS.values() if known.obtain] == list(LICENSED)


def test_the_averages_have_as_many_members_as_their_names_say():
    assert {name: len(set(members)) for name, members in AVERAGES.items()} == {
        "beir-13": 13,
        "beir-14": 14,
        "beir-15": 15,
        "beir-18": 18,
        "beir/cqadupstack": 12,
    }
    assert set(AVERAGES["beir-15"]) - set(AVERAGES["beir-14"]) == {"beir/msmarco"}
    assert set(AVERAGES["beir-18"]) - set(AVERAGES["beir-14"]) == set(LICENSED_COUNTS)
    assert set(AVERAGES["beir-14"]) - set(AVERAGES["beir-13"]) == {"beir/cqadupstack"}


def test_an_average_expands_to_data_sets_that_are_known():
    for name in AVERAGES:
        assert set(expand(name)) <= set(KNOWN_SETS), name
    assert expand("BEIR-13") == BEIR_13
    assert len(expand("beir-15")) == 13 + 12 + 1
    public = {name for name, known in KNOWN_SETS.items() if known.url}
    assert set(expand("beir-15")) == public


def test_every_set_has_a_licence_that_fits_a_column():
    assert all(0 < len(known.licence) <= 18 for known in KNOWN_SETS.values())


def test_the_twelve_forums_have_13145_queries_and_one_archive():
    forums = [KNOWN_SETS[name] for name in CQADUPSTACK]
    assert len(forums) == 12
    assert sum(forum.queries for forum in forums) == 13_145
    assert sum(forum.documents for forum in forums) == 457_199
    assert {(forum.archive, forum.md5) for forum in forums} == {
        ("cqadupstack", "4e41456d7df8ee7760a7f866133bda78")
    }
    assert find("cqadupstack/tex").folder == "cqadupstack/tex"


def test_checksums_are_md5_and_belong_to_one_archive_each():
    md5 = {known.archive: known.md5 for known in KNOWN_SETS.values() if known.url}
    assert all(re.fullmatch("[0-9a-f]{32}", value) for value in md5.values())
    assert len(set(md5.values())) == len(md5) == 15


def test_arguana_and_quora_alone_drop_own_ids():
    assert {name for name, known in KNOWN_SETS.items() if known.drop_own_ids} == {
        "beir/arguana",
        "beir/quora",
    }


def test_only_msmarco_is_scored_on_dev():
    assert {name for name, known in KNOWN_SETS.items() if known.split != "test"} == {"beir/msmarco"}
    assert KNOWN_SETS["beir/msmarco"].split == "dev"


def test_names_are_found_with_and_without_beir_and_cqadupstack_stands_for_its_forums():
    assert find("scifact") is find("beir/scifact") is KNOWN_SETS["beir/scifact"]
    assert find("robust05") is None
    assert expand("cqadupstack") == expand("beir/cqadupstack") == CQADUPSTACK
    assert expand("scifact") == ("scifact",)
