"""MS MARCO: files in the exact official formats, data sets that are what they claim, FirstP and MaxP."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT
from fakes import FakeRetriever, WordOverlap
from official import ODD, PAGES, PASSAGES, collection_tsv, docs_trec, docs_tsv, write, write_official

from adapters.maxp import MaxP
from llara_eval.core.errors import DataError
from llara_eval.core.types import Document, Query
from llara_eval.datasets import inventory, msmarco
from llara_eval.datasets import known as catalogue
from llara_eval.datasets import load as datasets
from llara_eval.datasets.corpus import Corpus
from llara_eval.datasets.folder import corpus_of
from llara_eval.datasets.known import KNOWN
from llara_eval.evaluation import audit
from llara_eval.evaluation.evaluate import evaluate
from llara_eval.evaluation.record import load, load_run

MSMARCO = [name for name, known in KNOWN.items() if known.files]


def read(path: Path) -> list[Document]:
    return list(Corpus([path], msmarco.READERS[path.name.removesuffix(".gz")]))


@pytest.mark.parametrize("gz", [False, True])
def test_passages_are_read_as_they_stand(tmp_path, gz):
    path = write(tmp_path / "collection.tsv", collection_tsv(), gz=gz)
    assert read(path) == [Document(pid, "", text) for pid, text in PASSAGES.items()]


@pytest.mark.parametrize("gz", [False, True])
def test_pages_are_read_as_they_stand(tmp_path, gz):
    tsv = write(tmp_path / "msmarco-docs.tsv", docs_tsv(), gz=gz)
    trec = write(tmp_path / "msmarco-docs.trec", docs_trec(), gz=gz)
    assert read(tsv) == PAGES
    assert read(trec) == PAGES


def test_the_body_of_a_page_keeps_its_lines(tmp_path):
    lines = "one\n\n<DOC>\nnot </TEXT> yet\n</TEXT>\nthe end"
    page = Document("D1", "", lines, "http://x")
    assert read(write(tmp_path / "msmarco-docs.trec", docs_trec([page]))) == [page]


def test_a_page_without_title_and_body_is_a_page(tmp_path):
    text = "<DOC>\n<DOCNO>D1</DOCNO>\n<TEXT>\nhttp://x\n</TEXT>\n</DOC>\n"
    assert read(write(tmp_path / "msmarco-docs.trec", text)) == [Document("D1", "", "", "http://x")]
    assert read(write(tmp_path / "msmarco-docs.tsv", "D1\thttp://x\t\t\n")) == [
        Document("D1", "", "", "http://x")
    ]


def test_windows_line_ends_and_a_byte_order_mark_are_not_text(tmp_path):
    path = write(tmp_path / "collection.tsv", "\ufeff1\tone\r\n2\ttwo\r\n")
    assert read(path) == [Document("1", "", "one"), Document("2", "", "two")]


def test_titled_passages_are_objects_with_a_docid(tmp_path):
    path = write(
        tmp_path / "corpus.jsonl", '{"docid": "3", "title": "-", "text": "x"}\n{"docid": 4, "text": "y"}\n'
    )
    assert read(path) == [Document("3", "-", "x"), Document("4", "", "y")]
    with pytest.raises(DataError, match=r"corpus\.jsonl:1: the field '_id' is missing; found number, text"):
        read(write(path, '{"number": "3", "text": "x"}\n'))


BROKEN = {
    "collection.tsv": [
        ("1\tone\n2", r"collection\.tsv:2: 1 of 2 tab-separated columns: '2'; is it cut short\?"),
        ("1\tone\n\ttwo\n", r"collection\.tsv:2: 'id' '' is empty"),
        ("1\tone\n 2\ttwo\n", r"collection\.tsv:2: 'id' ' 2' is empty or has a tab.*outer space"),
        ("1\tone\n2\ttwo\n1\tthree\n", r"collection\.tsv:3: document id '1' is already on line 1"),
        ("", r"collection\.tsv: the corpus is empty"),
    ],
    "msmarco-docs.tsv": [
        ("D1\thttp://x\tT\tbody\nD2\thttp://y\tT\n", r"msmarco-docs\.tsv:2: 3 of 4 tab-separated columns"),
    ],
    "msmarco-docs.trec": [
        (docs_trec(PAGES[:1])[:-8], r"msmarco-docs\.trec:1: the document that begins here has no </DOC>"),
        (docs_trec(PAGES[:2]).replace("</DOC>\n", "", 1), r"<DOC> before the </DOC> of the one on line 1"),
        ("<DOC>\n<TEXT>\nx\n</TEXT>\n</DOC>\n", r"msmarco-docs\.trec:1: the document has no <DOCNO>"),
        ("<DOC>\n</DOC>\n", r"msmarco-docs\.trec:1: the document has no <DOCNO>"),
        ("D1\thttp://x\tT\tbody\n", r"msmarco-docs\.trec:1: expected <DOC>, found 'D1"),
        ("<DOC>\n<DOCNO></DOCNO>\n<TEXT>\n</TEXT>\n</DOC>\n", r"msmarco-docs\.trec:2: 'id' '' is empty"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "message"), [(name, *case) for name, cases in BROKEN.items() for case in cases]
)
def test_a_broken_file_names_its_line(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        Corpus([write(tmp_path / name, text)], msmarco.READERS[name]).scan()


def test_bytes_that_are_not_text_and_files_that_end_too_early_name_their_line(tmp_path):
    path = tmp_path / "collection.tsv"
    path.write_bytes(b"1\tone\n2\tcaf\xe9\n")
    with pytest.raises(DataError, match=r"collection\.tsv:2: not UTF-8"):
        read(path)
    cut = tmp_path / "collection.tsv.gz"
    cut.write_bytes(gzip.compress(collection_tsv().encode())[:-20])
    with pytest.raises(DataError, match=r"collection\.tsv\.gz:\d+: cannot be read further"):
        read(cut)


def test_queries_are_read_as_they_stand_and_named_once(tmp_path):
    path = write(tmp_path / "queries.tsv", '7\twho said "no\ttab"\n8\t\n')
    assert list(msmarco.read_queries(path).values()) == [
        Query("7", 'who said "no\ttab"'),
        Query("8", ""),
    ]
    with pytest.raises(DataError, match=r"queries\.tsv:3: query id '7' occurs twice"):
        msmarco.read_queries(write(path, "7\ta\n8\tb\n7\tc\n"))


@pytest.mark.parametrize("name", MSMARCO)
@pytest.mark.parametrize("gz", [False, True])
def test_every_set_loads_from_the_official_files(tmp_path, pinned, name, gz):
    write_official(tmp_path, gz=gz)
    dataset = datasets.load(name, data_dir=tmp_path, offline=True)
    known = catalogue.KNOWN[name]
    assert (dataset.name, dataset.split, dataset.drop_own_ids) == (name, name.rpartition("/")[2], False)
    assert len(dataset.corpus) == known.documents
    assert [query.query_id for query in dataset.queries] == list(dataset.qrels)
    assert dataset.mismatch is None


def test_titled_and_untitled_passages_are_two_data_sets(official, pinned):
    plain, titled = (
        datasets.load(f"msmarco-passage{mark}/dev", data_dir=official, offline=True)
        for mark in ("", "-titled")
    )
    assert plain.fingerprint != titled.fingerprint
    assert next(iter(titled.corpus)).contents == f"T0 {ODD[0]}"


def test_only_judged_queries_of_trec_are_searched(official, pinned):
    dataset = datasets.load("msmarco-passage/trec-dl-2019", data_dir=official, offline=True)
    assert [query.query_id for query in dataset.queries] == ["100", "101"]
    assert dataset.qrels["100"] == {"100": 1, "101": 2}


def test_compression_and_line_ends_do_not_change_the_fingerprint(tmp_path, pinned):
    seen = set()
    for gz in (False, True):
        write_official(tmp_path / str(gz), gz=gz)
        seen.add(datasets.load("msmarco-document/dev", data_dir=tmp_path / str(gz), offline=True).fingerprint)
    path = tmp_path / "False" / "msmarco-document" / "msmarco-docdev-queries.tsv"
    path.write_text(path.read_text().replace("\n", "\r\n"), newline="")
    seen.add(datasets.load("msmarco-document/dev", data_dir=tmp_path / "False", offline=True).fingerprint)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("collection.tsv", "299 documents, not 300"),
        ("qrels.dev.small.tsv", "39 judged queries, not 40"),
    ],
)
def test_other_counts_are_another_data_set(official, pinned, file, message):
    path = official / "msmarco-passage" / file
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]), newline="")
    if file == "collection.tsv":
        path.write_text(collection_tsv(dict(list(PASSAGES.items())[:-1])), newline="")
    dataset = datasets.load("msmarco-passage/dev", data_dir=official, offline=True)
    assert dataset.name == "data/msmarco-passage/dev"
    assert any(
        message in text and "filed under 'data/msmarco-passage/dev'" in text for text in dataset.warnings
    )


def test_missing_files_are_named_with_their_source(official):
    (official / "msmarco-document" / "msmarco-docs.tsv").unlink()
    (official / "msmarco-document" / "msmarco-docdev-qrels.tsv").unlink()
    with pytest.raises(DataError) as caught:
        datasets.load("msmarco-document/dev", data_dir=official, offline=True)
    message = str(caught.value)
    assert "msmarco-docs.tsv or msmarco-docs.trec, gzipped or not, from https://msmarco" in message
    assert "msmarco-docdev-qrels.tsv, gzipped" in message
    assert "queries" not in message, "what is there is not asked for"


def test_a_set_has_one_split(official, pinned):
    with pytest.raises(DataError, match="has no split 'test'"):
        datasets.load("msmarco-passage/dev", data_dir=official, split="test", offline=True)


def test_a_judged_query_without_text_is_an_error(official, pinned):
    path = official / "msmarco-passage" / "queries.dev.small.tsv"
    write(path, "100\tonly this\n")
    with pytest.raises(DataError, match=r"39 judged queries of split 'dev' are missing \('101'"):
        datasets.load("msmarco-passage/dev", data_dir=official, offline=True)


def test_contents_are_the_fields_that_are_there_joined_by_single_spaces():
    assert Document("D1", "title", "text", "http://x").contents == "http://x title text"
    assert Document("D1", "", "text", "http://x").contents == "http://x text"
    assert Document("d1", "title", "text").contents == "title text"
    assert Document("d1", "", "", "").contents == ""


def test_urls_leave_the_fingerprints_of_other_collections_as_they_were(make_collection):
    folder = make_collection({"d1": ("T", "one"), "d2": "two"}, {"q": "x"}, {"q": {"d1": 1}})
    expected = hashlib.sha256(b"d1\x1fT\x1fone\x1ed2\x1f\x1ftwo\x1e").hexdigest()
    assert corpus_of(folder).fingerprint == expected


def test_the_fingerprint_sees_the_url(tmp_path):
    prints = {
        Corpus(
            [write(tmp_path / "msmarco-docs.tsv", f"D1\t{url}\tT\tx\n")], msmarco.read_documents_tsv
        ).fingerprint
        for url in ("", "http://x", "http://y")
    }
    assert len(prints) == 3


@pytest.mark.real
@pytest.mark.parametrize("name", ["scifact", "arguana"])
def test_stored_runs_are_still_of_the_same_data(real_data, name):
    stored = load(ROOT / "runs" / "bm25" / f"beir--{name}")
    assert datasets.load(name, data_dir=real_data, offline=True).fingerprint == stored.dataset_fingerprint


def test_maxp_says_so_and_searches_passages(official, pinned, tmp_path):
    dataset = datasets.load("msmarco-document/dev", data_dir=official, offline=True)
    words = WordOverlap()
    retriever = MaxP(words, words=5, stride=2)
    outcome = evaluate(retriever, dataset, runs_dir=tmp_path / "runs", depth=100)
    assert outcome.result.system == "words,passages=maxp"
    assert outcome.result.settings["passages"] == {"maxp": {"words": 5, "stride": 2}}
    assert outcome.result.n_documents == 200
    assert len(words.documents) > 200
    assert all("#" in passage for passage in words.documents)
    assert {doc.partition("#")[0] for doc in load_run(outcome.folder).doc_ids} <= {p.doc_id for p in PAGES}


def test_a_deeper_run_does_not_inflate_rr_at_100(official, pinned, tmp_path):
    dataset = datasets.load("msmarco-document/dev", data_dir=official, offline=True)
    scores = {
        query: {
            page.doc_id: -float(position) for position, page in enumerate(PAGES) if page.doc_id not in grades
        }
        | {doc_id: -120.5 for doc_id in grades}
        for query, grades in dataset.qrels.items()
    }
    means = []
    for depth in (100, 1000):
        result = evaluate(FakeRetriever(scores), dataset, runs_dir=tmp_path / str(depth), depth=depth).result
        means.append(result.means["RR@100"])
        assert ("R@1000" in result.means) is (depth == 1000)
    assert means == [0.0, 0.0]


def test_a_passage_of_trec_is_relevant_from_grade_2_on(official, pinned, tmp_path):
    dataset = datasets.load("msmarco-passage/trec-dl-2019", data_dir=official, offline=True)
    run = FakeRetriever({"100": {"100": 2.0, "101": 1.0}, "101": {"101": 1.0}})
    result = evaluate(run, dataset, runs_dir=tmp_path).result
    assert result.means["RR(rel=2)@10"] == 0.75
    assert result.means["AP(rel=2)@1000"] == 0.75
    assert result.means["R(rel=2)@1000"] == 1.0
    ideal, gain = 2 + 1 / np.log2(3), 1 + 2 / np.log2(3)
    assert result.means["nDCG@10"] == pytest.approx((gain / ideal + 1) / 2), "all grades count here"


def test_a_result_lies_where_its_name_says_and_can_be_audited(official, pinned, tmp_path):
    for name in ("msmarco-passage/dev", "msmarco-passage/trec-dl-2020"):
        dataset = datasets.load(name, data_dir=official, offline=True)
        outcome = evaluate(WordOverlap(), dataset, runs_dir=tmp_path / "runs", depth=10)
        assert outcome.folder == tmp_path / "runs" / "words" / name.replace("/", "--")
        (official / "msmarco-passage" / "collection.tsv").rename(tmp_path / "away")
        verdict = audit.audit(outcome.folder, outcome.result, official)
        (tmp_path / "away").rename(official / "msmarco-passage" / "collection.tsv")
        assert (verdict.scored, verdict.problems) == (True, ()), "the judgements are enough"


def test_a_result_of_another_data_set_can_be_audited(official, tmp_path):
    dataset = datasets.load("msmarco-document/dev", data_dir=official, offline=True)
    outcome = evaluate(WordOverlap(), dataset, runs_dir=tmp_path / "runs", depth=10)
    assert outcome.folder.name == "data--msmarco-document--dev"
    assert audit.audit(outcome.folder, outcome.result, official).scored


def test_the_datasets_command_knows_and_verifies_them(official, pinned):
    described = inventory.describe("msmarco-document/dev", official)
    assert described["licence"] == "non-commercial research"
    assert described["files"][0] == "msmarco-docs.tsv or msmarco-docs.trec"
    assert described["at_hand"]
    assert inventory.verify("msmarco-document/dev", official).problem is None
    (official / "msmarco-document" / "msmarco-docdev-qrels.tsv").unlink()
    assert "msmarco-docdev-qrels.tsv" in str(inventory.verify("msmarco-document/dev", official).problem)
