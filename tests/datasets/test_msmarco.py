"""MS MARCO: files in the exact official formats, data sets that are what they claim, FirstP and MaxP."""

import gzip
import hashlib
import json
import logging
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import fakes
import numpy as np
import pytest
from checkout import ROOT
from fakes import FakeRetriever, WordOverlap
from typer.testing import CliRunner

import adapters
from adapters import System
from adapters.maxp import MaxP, Windows
from llara_eval.cli import app
from llara_eval.core.errors import DataError
from llara_eval.core.types import Document, Query
from llara_eval.datasets import inventory, msmarco
from llara_eval.datasets import load as datasets
from llara_eval.datasets.corpus import Corpus
from llara_eval.datasets.msmarco_sets import MSMARCO_SETS, SOURCES
from llara_eval.evaluation import audit
from llara_eval.evaluation.evaluate import evaluate
from llara_eval.evaluation.record import load, load_run
from llara_eval.scoring.measures import DEFAULT_MEASURES

ODD = [
    'a "quoted" word, an \'apostrophe\' and one that "never ends',
    "a tab\there and\tthere",
    "mojibake: donâ\x80\x99t, Ã©tÃ©, a next-line \x85 and a line separator \u2028 inside",
    "carriage\rreturn inside",
    "back\\slash, comma, <b>markup</b> & </TEXT>",
    "  space around  ",
    "",
]
"""Texts as the official files have them, and worse."""

PASSAGES = {str(row): ODD[row] if row < len(ODD) else f"passage number {row} of many" for row in range(300)}
PAGES = [
    Document(
        f"D{row * 7}",
        "" if row % 5 == 0 else f"Title {row}",
        ODD[row] if row < len(ODD) else f"page {row}. " * (row % 9),
        f"http://example.org/{row}?q=a b",
    )
    for row in range(200)
]
QUERIES = {str(row): f"what is passage number {row}" for row in range(100, 140)}


def write(path: Path, text: str, *, gz: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path = path.with_name(f"{path.name}.gz") if gz else path
    path.write_bytes(gzip.compress(text.encode()) if gz else text.encode())
    return path


def collection_tsv(passages=PASSAGES) -> str:
    return "".join(f"{pid}\t{text}\n" for pid, text in passages.items())


def docs_tsv(pages=PAGES) -> str:
    return "".join(f"{page.doc_id}\t{page.url}\t{page.title}\t{page.text}\n" for page in pages)


def docs_trec(pages=PAGES) -> str:
    return "".join(
        f"<DOC>\n<DOCNO>{page.doc_id}</DOCNO>\n<TEXT>\n{page.url}\n{page.title}\n{page.text}\n</TEXT>\n</DOC>\n"
        for page in pages
    )


def write_official(data_dir: Path, *, gz: bool = False) -> None:
    """Write both folders as Microsoft and NIST distribute them."""
    passage, document = data_dir / "msmarco-passage", data_dir / "msmarco-document"
    queries = "".join(f"{query_id}\t{text}\n" for query_id, text in QUERIES.items())
    write(passage / "collection.tsv", collection_tsv(), gz=gz)
    titled = [{"docid": pid, "title": f"T{pid}", "text": text} for pid, text in PASSAGES.items()]
    write(passage / "corpus.jsonl", "".join(f"{json.dumps(row)}\n" for row in titled), gz=gz)
    write(passage / "queries.dev.small.tsv", queries, gz=gz)
    write(passage / "qrels.dev.small.tsv", "".join(f"{q}\t0\t{q}\t1\n" for q in QUERIES), gz=gz)
    write(document / "msmarco-docs.tsv", docs_tsv(), gz=gz)
    write(document / "msmarco-docdev-queries.tsv", queries, gz=gz)
    write(
        document / "msmarco-docdev-qrels.tsv",
        "".join(f"{q} 0 D{7 * (int(q) - 90)} 1\n" for q in QUERIES),
        gz=gz,
    )
    graded = [("100", "100", 1), ("100", "101", 2), ("101", "101", 3), ("101", "7", 0)]
    for year in ("2019", "2020"):
        for folder, ending, mark in ((passage, "pass", ""), (document, "docs", "D")):
            write(folder / f"msmarco-test{year}-queries.tsv", queries, gz=gz)
            rows = "".join(f"{q} Q0 {mark}{d} {grade}\n" for q, d, grade in graded)
            write(folder / f"{year}qrels-{ending}.txt", rows, gz=gz)


@pytest.fixture
def official(tmp_path) -> Path:
    write_official(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def pinned(monkeypatch) -> None:
    """Pin the counts of the files written here, so that they are the public sets."""
    counts = {"dev": (40, 40), "trec-dl-2019": (2, 4), "trec-dl-2020": (2, 4)}
    small = {
        name: known._replace(
            documents=200 if known.is_documents else 300,
            queries=counts[known.split][0],
            judgements=counts[known.split][1],
        )
        for name, known in MSMARCO_SETS.items()
    }
    monkeypatch.setattr(datasets, "MSMARCO_SETS", small)


def read(path: Path) -> list[Document]:
    return list(Corpus(path, msmarco.READERS[path.name.removesuffix(".gz")]))


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
    with pytest.raises(DataError, match=r"corpus\.jsonl:1: the field 'docid' is missing; found _id, text"):
        read(write(path, '{"_id": "3", "text": "x"}\n'))


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
    ("name", "text", "says"), [(name, *case) for name, cases in BROKEN.items() for case in cases]
)
def test_a_broken_file_names_its_line(tmp_path, name, text, says):
    with pytest.raises(DataError, match=says):
        Corpus(write(tmp_path / name, text), msmarco.READERS[name]).scan()


def test_bytes_that_are_not_text_and_files_that_end_too_early_name_their_line(tmp_path):
    path = tmp_path / "collection.tsv"
    path.write_bytes(b"1\tone\n2\tcaf\xe9\n")
    with pytest.raises(DataError, match=r"collection\.tsv:2: not UTF-8"):
        read(path)
    cut = tmp_path / "collection.tsv.gz"
    cut.write_bytes(gzip.compress(collection_tsv().encode())[:-20])
    with pytest.raises(DataError, match=r"collection\.tsv\.gz:\d+: cannot be read on"):
        read(cut)


def test_queries_are_read_as_they_stand_and_named_once(tmp_path):
    path = write(tmp_path / "queries.tsv", '7\twho said "no\ttab"\n8\t\n')
    assert list(msmarco.read_queries(path).values()) == [
        Query("7", 'who said "no\ttab"'),
        Query("8", ""),
    ]
    with pytest.raises(DataError, match=r"queries\.tsv:3: query id '7' occurs twice"):
        msmarco.read_queries(write(path, "7\ta\n8\tb\n7\tc\n"))


@pytest.mark.parametrize("name", MSMARCO_SETS)
@pytest.mark.parametrize("gz", [False, True])
def test_every_set_loads_from_the_official_files(tmp_path, pinned, name, gz):
    write_official(tmp_path, gz=gz)
    dataset = datasets.load(name, data_dir=tmp_path, offline=True)
    known = datasets.MSMARCO_SETS[name]
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
    ("file", "says"),
    [
        ("collection.tsv", "299 documents, not 300"),
        ("qrels.dev.small.tsv", "39 judged queries, not 40"),
    ],
)
def test_other_counts_are_another_data_set(official, pinned, file, says):
    path = official / "msmarco-passage" / file
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]), newline="")
    if file == "collection.tsv":
        path.write_text(collection_tsv(dict(list(PASSAGES.items())[:-1])), newline="")
    dataset = datasets.load("msmarco-passage/dev", data_dir=official, offline=True)
    assert dataset.name == "data/msmarco-passage/dev"
    assert any(says in text and "filed under 'data/msmarco-passage/dev'" in text for text in dataset.warnings)


def test_the_official_counts_are_the_published_ones():
    counts = {
        name: (known.documents, known.queries, known.judgements) for name, known in MSMARCO_SETS.items()
    }
    assert counts["msmarco-passage/dev"] == counts["msmarco-passage-titled/dev"] == (8_841_823, 6_980, 7_437)
    assert counts["msmarco-document/dev"] == (3_213_835, 5_193, 5_193)
    judged = [
        counts[f"msmarco-{corpus}/trec-dl-{year}"][1]
        for corpus in ("passage", "document")
        for year in (2019, 2020)
    ]
    assert judged == [43, 54, 43, 45]
    assert len(counts) == 9


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
    with pytest.raises(DataError, match=r"39 judged queries of split 'dev' are not there \('101'"):
        datasets.load("msmarco-passage/dev", data_dir=official, offline=True)


def test_contents_are_the_fields_that_are_there_joined_by_single_spaces():
    assert Document("D1", "title", "text", "http://x").contents == "http://x title text"
    assert Document("D1", "", "text", "http://x").contents == "http://x text"
    assert Document("d1", "title", "text").contents == "title text"
    assert Document("d1", "", "", "").contents == ""


def test_urls_leave_the_fingerprints_of_other_collections_as_they_were(make_collection):
    folder = make_collection({"d1": ("T", "one"), "d2": "two"}, {"q": "x"}, {"q": {"d1": 1}})
    expected = hashlib.sha256(b"d1\x1fT\x1fone\x1ed2\x1f\x1ftwo\x1e").hexdigest()
    assert Corpus(folder / "corpus.jsonl").fingerprint == expected


def test_the_fingerprint_sees_the_url(tmp_path):
    prints = {
        Corpus(
            write(tmp_path / "msmarco-docs.tsv", f"D1\t{url}\tT\tx\n"), msmarco.read_documents_tsv
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
    retriever = MaxP(words, Windows(words=5, stride=2))
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
        query: {page.doc_id: -float(place) for place, page in enumerate(PAGES) if page.doc_id not in grades}
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
    known = MSMARCO_SETS["msmarco-passage/trec-dl-2019"]
    dataset = datasets.load(known.name, data_dir=official, offline=True)
    run = FakeRetriever({"100": {"100": 2.0, "101": 1.0}, "101": {"101": 1.0}})
    result = evaluate(run, dataset, runs_dir=tmp_path, measures=known.measures, depth=known.depth).result
    assert result.means["RR(rel=2)@10"] == 0.75
    assert result.means["AP(rel=2)@1000"] == 0.75
    assert result.means["R(rel=2)@1000"] == 1.0
    ideal, found = 2 + 1 / np.log2(3), 1 + 2 / np.log2(3)
    assert result.means["nDCG@10"] == pytest.approx((found / ideal + 1) / 2), "all grades count here"


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


def make_archive(members: dict[str, bytes]) -> bytes:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def remote(monkeypatch, tmp_path) -> SimpleNamespace:
    """Stand in for the network below ir_datasets: url → bytes, checksums of our own."""
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "ir_datasets"))
    from ir_datasets.util import DownloadConfig, RequestsDownload

    state = SimpleNamespace(files={}, asked=[])
    records = {
        corpus: dict(DownloadConfig.contents()[corpus]) for corpus in ("msmarco-passage", "msmarco-document")
    }

    def serve(self) -> Iterator[bytes]:
        state.asked.append(self.url)
        if self.url not in state.files:
            raise ConnectionError("no route to host")
        yield state.files[self.url]

    def pin(content: dict[str, bytes]) -> None:
        state.files = content
        for corpus in records.values():
            for key, record in corpus.items():
                if record.get("url") in content:
                    md5 = hashlib.md5(content[record["url"]], usedforsecurity=False).hexdigest()
                    corpus[key] = {**record, "expected_md5": md5, "size_hint": 1}

    state.pin = pin
    monkeypatch.setattr(RequestsDownload, "__iter__", serve)
    monkeypatch.setattr(DownloadConfig, "_contents", records)
    return state


def test_what_is_missing_is_downloaded_and_only_that(remote, official, pinned):
    folder = official / "msmarco-passage"
    plain = datasets.load("msmarco-passage/trec-dl-2019", data_dir=official).fingerprint
    content = {name: (folder / name).read_bytes() for name in ("collection.tsv", "queries.dev.small.tsv")}
    topics = gzip.compress((folder / "msmarco-test2019-queries.tsv").read_bytes())
    remote.pin(
        {
            SOURCES["collection.tsv"].url: make_archive(content),
            SOURCES["msmarco-test2019-queries.tsv"].url: topics,
        }
    )
    for name in ("collection.tsv", "queries.dev.small.tsv", "msmarco-test2019-queries.tsv"):
        (folder / name).unlink()
    assert datasets.load("msmarco-passage/trec-dl-2019", data_dir=official).fingerprint == plain
    assert remote.asked == [SOURCES["collection.tsv"].url, SOURCES["msmarco-test2019-queries.tsv"].url]
    assert (folder / "msmarco-test2019-queries.tsv.gz").is_file()
    assert not (folder / "queries.dev.small.tsv").exists(), "this task does not need it"
    assert not list((official / ".ir_datasets").rglob("*.tar.gz")), "the archive is not kept twice"


def test_a_download_of_another_content_is_refused(remote, official, pinned):
    url = SOURCES["msmarco-docdev-qrels.tsv"].url
    remote.files[url] = gzip.compress(b"100 0 D0 1\n")
    (official / "msmarco-document" / "msmarco-docdev-qrels.tsv").unlink()
    with pytest.raises(DataError, match=r"docdev-qrels\.tsv\.gz by ir_datasets failed: Expected md5"):
        datasets.load("msmarco-document/dev", data_dir=official)
    assert not list(official.rglob("*docdev-qrels*"))


def test_a_download_that_fails_says_what_to_do(remote, tmp_path):
    with pytest.raises(DataError, match=r"no route to host; try again, or put the file into"):
        datasets.load("msmarco-document/dev", data_dir=tmp_path)
    with pytest.raises(
        DataError, match=r"corpus\.jsonl cannot be downloaded.*Tevatron/msmarco-passage-corpus"
    ):
        datasets.load("msmarco-passage-titled/dev", data_dir=tmp_path)
    remote.pin({SOURCES["collection.tsv"].url: make_archive({"collection.tsv": b"1\tx\n"})})
    with pytest.raises(DataError, match=r"qrels\.dev\.small\.tsv, queries\.dev\.small\.tsv is not in it"):
        datasets.load("msmarco-passage/dev", data_dir=tmp_path)


def test_addresses_and_checksums_are_those_of_ir_datasets(monkeypatch, tmp_path):
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path))
    from ir_datasets.util import DownloadConfig

    records = DownloadConfig.contents()
    checked = set()
    for known in MSMARCO_SETS.values():
        for name in (name for names in known.files for name in names if SOURCES[name].record):
            record = records[known.folder][SOURCES[name].record]
            assert (record["url"], record["expected_md5"]) == SOURCES[name][:2]
            checked.add(name)
    assert checked == set(SOURCES) - {"corpus.jsonl", "msmarco-docs.tsv"}
    assert SOURCES["msmarco-docs.trec"].md5 == "d4863e4f342982b51b9a8fc668b2d0c0"
    assert SOURCES["collection.tsv"].md5 == "31644046b18952c1386cd4564ba2ae69"


@pytest.fixture
def call(monkeypatch, official, tmp_path):
    """Return a function that runs ``llara-eval msmarco`` with a system of our own."""
    table = {"words": System("fakes:open_words", "words"), "bm25": System("fakes:open_words", "a stand-in")}
    monkeypatch.setattr(adapters, "SYSTEMS", MappingProxyType(table))

    def go(*words: object):
        common = ["--data-dir", official, "--runs-dir", tmp_path / "runs", "--offline"]
        arguments = ["msmarco", *words, *([] if "-m" in words else ["-m", "words"]), *common]
        return CliRunner().invoke(app, list(map(str, arguments)))

    yield go
    for name in ("llara_eval", "adapters"):
        logging.getLogger(name).handlers.clear()


@pytest.mark.parametrize(
    ("words", "system", "dataset", "measure"),
    [
        (["--task", "passage"], "words", "msmarco-passage/dev", "RR@10"),
        (["--task", "passage", "--titled"], "words", "msmarco-passage-titled/dev", "RR@10"),
        (["--task", "document"], "words", "msmarco-document/dev", "RR@100"),
        (
            ["--task", "document", "--documents", "maxp"],
            "words,passages=maxp",
            "msmarco-document/dev",
            "RR@100",
        ),
        (["--task", "trec-dl-2019"], "words", "msmarco-passage/trec-dl-2019", "nDCG@10"),
        (["--task", "trec-dl-2020", "--titled"], "words", "msmarco-passage-titled/trec-dl-2020", "nDCG@10"),
        (["--task", "trec-dl-2020-document"], "words", "msmarco-document/trec-dl-2020", "nDCG@10"),
    ],
)
def test_each_task_is_one_data_set(call, pinned, words, system, dataset, measure):
    done = call(*words, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["system"], found["dataset"], next(iter(found["measures"]))) == (system, dataset, measure)
    assert ("R@1000" in found["measures"]) is (dataset.endswith("dev") and "passage" in dataset)


def test_only_documents_that_are_one_text_are_read_at_length(call, pinned, monkeypatch):
    seen, original = [], fakes.open_words
    monkeypatch.setattr(fakes, "open_words", lambda *given: seen.append(given[-1]) or original(*given))
    for words in (["passage"], ["document"], ["document", "--documents", "maxp"]):
        assert call("--task", *words).exit_code == 0
    assert [(context.text_length, context.maxp) for context in seen] == [
        (None, False),
        (2_048, False),
        (None, True),
    ]


def test_evaluate_reads_a_data_set_as_msmarco_does(call, pinned, monkeypatch, official, tmp_path):
    """Else one system's name would stand for two numbers, whichever command came first."""
    seen, original = [], fakes.open_words
    monkeypatch.setattr(fakes, "open_words", lambda *given: seen.append(given[-1]) or original(*given))
    names = ["msmarco-passage/dev", "demo", "msmarco-document/dev", "msmarco-document/trec-dl-2019", "demo"]
    words = ["evaluate", "-m", "words", *(word for name in names for word in ("-d", name))]
    folders = ["--data-dir", str(official), "--runs-dir", str(tmp_path / "runs")]
    done = CliRunner().invoke(app, [*words, *folders, "--measures", "RR@100", "--offline"])
    assert done.exit_code == 0, done.output
    assert [context.text_length for context in seen] == [None, 2_048], "opened anew only where it must"


@pytest.mark.parametrize("command", ["evaluate", "beir"])
@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("trec-dl-2019", "msmarco-passage/trec-dl-2019"),
        ("trec-dl-2020-document", "msmarco-document/trec-dl-2020"),
        ("document", "msmarco-document/dev"),
    ],
)
def test_other_commands_measure_a_data_set_as_msmarco_does(
    request, call, official, tmp_path, command, real, task, name
):
    if real:
        request.getfixturevalue("pinned")
    folders = ["--data-dir", str(official), "--runs-dir", str(tmp_path / "runs"), "--offline"]
    done = CliRunner().invoke(app, [command, "-m", "words", "-d", f"demo,{name}", *folders, "--json"])
    assert done.exit_code == 0, done.output
    demo, found = map(json.loads, done.stdout.splitlines())
    assert found["dataset"] == (name if real else f"data/{name}")
    assert list(demo["measures"]) == list(DEFAULT_MEASURES)
    known = MSMARCO_SETS[name]
    assert list(found["measures"]) == [item for item in known.measures if item != "R@1000"]
    assert load(Path(found["run"]).parent).depth == known.depth
    again = call("--task", task)
    assert again.exit_code == 0, again.output
    assert "(kept from an earlier run)" in again.stderr


def test_measures_and_depth_that_are_asked_for_count(call, pinned, official, tmp_path):
    words = ["evaluate", "-m", "words", "-d", "msmarco-passage/trec-dl-2019", "--measures", "R@5,R@50"]
    folders = ["--data-dir", str(official), "--runs-dir", str(tmp_path / "runs"), "--offline", "--json"]
    done = CliRunner().invoke(app, [*words, "--depth", "20", *folders])
    assert list(json.loads(done.stdout)["measures"]) == ["R@5"]


def test_the_table_stands_beside_published_values(call, pinned):
    untitled = call("--task", "passage").stdout
    assert "0.1840*" in untitled
    assert "0.1875*" in untitled
    assert "BM25: Lucene, k1=0.9, b=0.4" in untitled
    assert "0.4120*§" in untitled, "published with titles"
    titled = call("--task", "passage", "--titled").stdout
    assert "0.4120*" in titled
    assert "§" not in titled.split("published")[0]
    assert "0.1840" not in titled, "BM25 was published without titles"
    trec = call("--task", "trec-dl-2019").stdout
    assert "0.7501*" in trec, "published recall is that of grade 2"


def test_the_table_prefers_what_was_measured(call, pinned):
    assert call("--task", "document", "-m", "bm25", "--quiet").exit_code == 0
    shown = call("--task", "document").stdout
    assert "0.2299*" not in shown
    assert "0.2778*" in shown


def test_nothing_published_stands_beside_another_data_set(call):
    shown = call("--task", "passage")
    assert "data/msmarco-passage/dev" in shown.stdout
    assert "*" not in shown.stdout.split("published")[0].removesuffix("* ")
    assert "8,841,823" in shown.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--task", "document", "--titled"], "--titled is of passages"),
        (["--task", "trec-dl-2019", "--documents", "maxp"], "--documents maxp is of documents"),
    ],
)
def test_what_makes_no_sense_is_refused(call, words, says):
    done = call(*words)
    assert done.exit_code == 2
    assert says in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("real", "name"),
    [
        (True, "msmarco-document/dev"),
        (False, "msmarco-document/dev"),
        (False, "data/msmarco-document/dev"),
    ],
)
def test_two_results_can_be_compared_by_the_name_of_the_set(request, call, official, tmp_path, real, name):
    if real:
        request.getfixturevalue("pinned")
    call("--task", "document")
    call("--task", "document", "-m", "bm25")
    folders = ["--runs-dir", tmp_path / "runs", "--data-dir", official]
    words = ["compare", "words", "bm25", "-d", name, *folders, "--json"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["n_queries"] == 40


def test_the_datasets_command_knows_and_verifies_them(official, pinned):
    described = inventory.describe("msmarco-document/dev", official)
    assert described["licence"] == "non-commercial research"
    assert "msmarco-docs.tsv or msmarco-docs.trec" in described["note"]
    assert described["at_hand"]
    assert inventory.verify("msmarco-document/dev", official).problem is None
    (official / "msmarco-document" / "msmarco-docdev-qrels.tsv").unlink()
    assert "msmarco-docdev-qrels.tsv" in str(inventory.verify("msmarco-document/dev", official).problem)
