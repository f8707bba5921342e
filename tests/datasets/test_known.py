"""Spot checks of what is pinned about the public sets."""

import re

import pytest

from llara_eval.datasets.known import (
    ALIASES,
    AVERAGES,
    BEIR,
    CQADUPSTACK,
    KNOWN,
    expand,
    find,
    titled,
)
from llara_eval.scoring.measures import DEFAULT_MEASURES, parse_measures

MSMARCO = [name for name, known in KNOWN.items() if known.files]
LIMIT = ("limit", "limit-small")
LICENSED = tuple(name for name, known in KNOWN.items() if known.obtain)

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
    known = KNOWN[f"beir/{name}"]
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
    assert len(BEIR) == 14 + 12 + 4
    assert all(name == known.name for name, known in KNOWN.items())
    assert {*BEIR, *MSMARCO, *AVERAGES["nanobeir"], *LIMIT} == set(KNOWN)


def test_the_licensed_sets_say_how_to_obtain_them_and_have_no_archive():
    counts = {name: (KNOWN[name].documents, KNOWN[name].queries) for name in LICENSED}
    assert counts == LICENSED_COUNTS
    for known in (KNOWN[name] for name in LICENSED):
        assert (known.url, known.md5, known.archive_bytes, known.judgements) == (None, None, None, None)
        assert re.fullmatch(r"[A-Z].*https?://.*\.", known.obtain)


def test_the_averages_have_as_many_members_as_their_names_say():
    assert {name: len(set(members)) for name, members in AVERAGES.items()} == {
        "beir-13": 13,
        "beir-14": 14,
        "beir-15": 15,
        "beir-18": 18,
        "beir/cqadupstack": 12,
        "nanobeir": 13,
    }
    assert set(AVERAGES["beir-15"]) - set(AVERAGES["beir-14"]) == {"beir/msmarco"}
    assert set(AVERAGES["beir-18"]) - set(AVERAGES["beir-14"]) == set(LICENSED_COUNTS)
    assert set(AVERAGES["beir-14"]) - set(AVERAGES["beir-13"]) == {"beir/cqadupstack"}


def test_an_average_expands_to_data_sets_that_are_known():
    for name in AVERAGES:
        members = set(expand(name))
        assert members <= set(KNOWN), name
        assert (name == "nanobeir") == members.isdisjoint(BEIR)
    assert expand("BEIR-13") == AVERAGES["beir-13"]
    assert len(expand("beir-15")) == 13 + 12 + 1
    public = {name for name, known in KNOWN.items() if known.url}
    assert set(expand("beir-15")) == public


def test_every_set_has_a_licence_that_fits_a_column():
    assert all(0 < len(KNOWN[name].licence) <= 18 for name in BEIR)


def test_the_twelve_forums_have_13145_queries_and_one_archive():
    forums = [KNOWN[name] for name in CQADUPSTACK]
    assert len(forums) == 12
    assert sum(forum.queries for forum in forums) == 13_145
    assert sum(forum.documents for forum in forums) == 457_199
    assert {(forum.archive, forum.md5) for forum in forums} == {
        ("cqadupstack", "4e41456d7df8ee7760a7f866133bda78")
    }
    assert find("cqadupstack/tex").folder == "cqadupstack/tex"


def test_checksums_are_md5_and_belong_to_one_archive_each():
    md5 = {known.archive: known.md5 for known in KNOWN.values() if known.url}
    assert all(re.fullmatch("[0-9a-f]{32}", value) for value in md5.values())
    assert len(set(md5.values())) == len(md5) == 15


def test_arguana_and_quora_alone_drop_own_ids():
    assert {name for name, known in KNOWN.items() if known.drop_own_ids} == {
        "beir/arguana",
        "beir/quora",
    }


def test_only_msmarco_is_scored_on_dev():
    assert {name for name in BEIR if KNOWN[name].split != "test"} == {"beir/msmarco"}
    assert KNOWN["beir/msmarco"].split == "dev"


def test_names_are_found_with_and_without_beir_and_cqadupstack_stands_for_its_forums():
    assert find("scifact") is find("beir/scifact") is KNOWN["beir/scifact"]
    assert find("robust05") is None
    assert expand("cqadupstack") == expand("beir/cqadupstack") == CQADUPSTACK
    assert expand("scifact") == ("scifact",)


def test_names_are_found_in_any_case_and_by_their_usual_aliases():
    assert find("SciFact") is find("BEIR/SCIFACT") is KNOWN["beir/scifact"]
    assert find("trec-dl-2019") is KNOWN["msmarco-passage/trec-dl-2019"]
    assert expand("beir") == expand("BEIR-15")
    assert expand("My-Collection") == ("My-Collection",)
    for alias, name in ALIASES.items():
        assert alias not in KNOWN, "an alias must not hide a name"
        assert find(alias) or len(expand(alias)) > 1, name


def test_a_data_set_says_how_it_is_measured():
    for name, known in KNOWN.items():
        assert parse_measures(known.measures) == list(known.measures), name
    for name in BEIR:
        known = KNOWN[name]
        usual = tuple(measure for measure in known.measures if measure != "R_cap@100")
        assert (usual, known.depth, known.text_length) == (DEFAULT_MEASURES, 1_000, None), name
    usual = {name: (KNOWN[name].measures[0], KNOWN[name].depth, KNOWN[name].text_length) for name in MSMARCO}
    assert usual["msmarco-passage/dev"] == usual["msmarco-passage-titled/dev"] == ("RR@10", 1_000, None)
    assert usual["msmarco-document/dev"] == ("RR@100", 100, 2_048)
    assert usual["msmarco-passage/trec-dl-2019"] == ("nDCG@10", 1_000, None)
    assert usual["msmarco-document/trec-dl-2020"] == ("nDCG@10", 100, 2_048)


def test_trec_covid_alone_has_the_capped_recall_of_beirs_paper_beside_the_recall():
    assert {name for name in KNOWN if "R_cap@100" in KNOWN[name].measures} == {"beir/trec-covid"}
    assert "R@100" in KNOWN["beir/trec-covid"].measures


def test_limit_is_measured_as_in_its_paper_and_is_in_no_mean():
    assert KNOWN["limit"].measures == ("R@2", "R@10", "R@100", "nDCG@10", "Judged@10")
    assert KNOWN["limit-small"].measures == ("R@2", "R@10", "R@20", "nDCG@10", "Judged@10")
    for known in (KNOWN[name] for name in LIMIT):
        assert (known.queries, known.judgements, known.groups) == (1_000, 2_000, ())
        assert re.fullmatch(r"orionweller/LIMIT(-small)?@[0-9a-f]{40}", known.hub)
    assert not {member for group in AVERAGES for member in expand(group)}.intersection(LIMIT)


def test_the_official_counts_of_ms_marco_are_the_published_ones():
    counts = {name: (KNOWN[name].documents, KNOWN[name].queries, KNOWN[name].judgements) for name in MSMARCO}
    assert counts["msmarco-passage/dev"] == counts["msmarco-passage-titled/dev"] == (8_841_823, 6_980, 7_437)
    assert counts["msmarco-document/dev"] == (3_213_835, 5_193, 5_193)
    judged = [
        counts[f"msmarco-{corpus}/trec-dl-{year}"][1]
        for corpus in ("passage", "document")
        for year in (2019, 2020)
    ]
    assert judged == [43, 54, 43, 45]
    assert len(counts) == 9


def test_a_variant_with_titles_is_another_data_set_of_the_same_folder():
    variants = {name: known.titled for name, known in KNOWN.items() if known.titled}
    assert variants["msmarco-passage/dev"] == titled("msmarco-passage/dev") == "msmarco-passage-titled/dev"
    assert len(variants) == 3
    for name, variant in variants.items():
        assert KNOWN[name].folder == KNOWN[variant].folder
        assert KNOWN[name].files[1:] == KNOWN[variant].files[1:]
        assert KNOWN[name].files[0] != KNOWN[variant].files[0]
    for name in ("msmarco-document/dev", "msmarco-passage-titled/dev", "msmarco-passage/unknown", "beir/nq"):
        assert titled(name) == name


def test_data_sets_of_one_corpus_share_its_documents():
    for corpus in {known.corpus for known in KNOWN.values()} - {"beir/cqadupstack"}:
        assert len({known.documents for known in KNOWN.values() if known.corpus == corpus}) == 1, corpus


def test_nanobeir_has_a_part_of_each_of_its_thirteen_sets_at_a_pinned_revision():
    for name in AVERAGES["nanobeir"]:
        part, whole = KNOWN[name], KNOWN[name.replace("nanobeir/", "beir/")]
        assert re.fullmatch(r"zeta-alpha-ai/Nano\w+@[0-9a-f]{40}", part.hub)
        assert part.documents <= whole.documents
        assert part.queries in (49, 50)
        assert (part.split, part.drop_own_ids, part.is_public, part.url) == ("train", False, True, None)
    assert len({KNOWN[name].hub for name in AVERAGES["nanobeir"]}) == 13
