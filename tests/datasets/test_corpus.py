"""Reading corpora and queries: streamed, and every defect named with file and line."""

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest

from llara_eval.core.errors import DataError
from llara_eval.core.types import Document, Query
from llara_eval.datasets.corpus import Corpus
from llara_eval.datasets.folder import read_documents, read_queries

GOOD = b'{"_id": "d1", "title": "T", "text": "one"}\n'


def write(path: Path, content: bytes) -> Path:
    """Write bytes, compressed if the name says so."""
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def corpus_of(folder: Path, content: bytes, name: str = "corpus.jsonl") -> Corpus:
    return Corpus([write(folder / name, content)], read_documents)


def lines(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz"])
def test_plain_and_gzipped_corpora_read_the_same(tmp_path, name):
    corpus = corpus_of(
        tmp_path, lines({"_id": "d1", "title": "T", "text": "x"}, {"_id": 2, "text": "y"}), name
    )
    assert list(corpus) == [Document("d1", "T", "x"), Document("2", "", "y")]
    assert list(corpus) == list(corpus), "a corpus can be streamed again"
    assert len(corpus) == 2


def test_a_corpus_that_changes_while_it_is_in_use_is_refused(tmp_path):
    corpus = corpus_of(tmp_path, lines({"_id": "d1", "text": "x"}))
    corpus.scan()
    assert len(list(corpus)) == 1
    corpus.paths[0].write_bytes(lines({"_id": "d1", "text": "x"}, {"_id": "d2", "text": "y"}))
    with pytest.raises(DataError, match="has changed since it was first read"):
        list(corpus)
    corpus.scan()
    assert len(list(corpus)) == 2


def test_queries_keep_file_order_gzipped_or_not(tmp_path):
    rows = lines({"_id": "q2", "text": "b"}, {"_id": "q1", "text": "a", "metadata": {}})
    for name in ("queries.jsonl", "queries.jsonl.gz"):
        assert list(read_queries(write(tmp_path / name, rows)).values()) == [
            Query("q2", "b"),
            Query("q1", "a"),
        ]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b'{"key": "d2", "text": "x"}', "'_id' is missing; found key, text"),
        (b"{}", "'_id' is missing; found nothing"),
        (b'{"_id": "d2"}', "'text' is missing; id 'd2'"),
        (b'{"_id": "d2", "text": 5}', "'text' must be a string; id 'd2'"),
        (b'{"_id": "d2", "text": ["a"]}', "'text' must be a string"),
        (b'{"_id": "d2", "title": 5, "text": "x"}', "'title' must be a string"),
        (b'{"_id": "", "text": "x"}', "'_id' must be a non-empty string"),
        (b'{"_id": "  ", "text": "x"}', "'_id' must be a non-empty string"),
        (b'{"_id": null, "text": "x"}', "'_id' must be a non-empty string, found None"),
        (b'{"_id": true, "text": "x"}', "'_id' must be a non-empty string, found True"),
        (b'{"_id": 1.5, "text": "x"}', "'_id' must be a non-empty string, found 1.5"),
        (b'{"_id": "d\\t2", "text": "x"}', "has a tab"),
        (b'{"_id": "d\\n2", "text": "x"}', "has a tab"),
        (b'{"_id": " d2", "text": "x"}', "outer space"),
        (b'{"_id": "d2 ", "text": "x"}', "outer space"),
        (b'{"_id": "d\\u2028", "text": "x"}', "has a tab"),
        (b'{"_id": "d\\ud800", "text": "x"}', "has a tab"),
        (b'{"_id": "d2", "text": "half \\ud83d"}', "half a surrogate pair"),
        (b'{"_id": "d2", "title": "\\udc00", "text": "x"}', "half a surrogate pair"),
    ],
)
def test_a_bad_line_is_named_with_file_and_line(tmp_path, bad, message):
    corpus = corpus_of(tmp_path, GOOD + b"\n" + bad + b"\n" + GOOD)
    with pytest.raises(DataError) as caught:
        corpus.scan()
    assert str(caught.value).startswith(f"{corpus.paths[0]}:3: ")
    assert message in str(caught.value)


def test_lenient_where_nothing_is_lost(tmp_path):
    content = (
        b'\xef\xbb\xbf{"_id": 7, "title": null, "text": null}\r\n'
        b'\r\n   \n{"text": "b", "_id": "d 2", "extra": [1]}\r\n\n{"_id": "d3", "text": "c"}'
    )
    assert list(corpus_of(tmp_path, content)) == [
        Document("7", "", ""),
        Document("d 2", "", "b"),
        Document("d3", "", "c"),
    ]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_corpus_is_refused(tmp_path, content):
    with pytest.raises(DataError, match="the corpus is empty"):
        corpus_of(tmp_path, content).scan()


def test_a_repeated_document_id_names_both_lines(tmp_path):
    corpus = corpus_of(
        tmp_path, lines({"_id": "1", "text": "a"}, {"_id": "2", "text": "b"}) + b'\n{"_id": 1, "text": "c"}\n'
    )
    with pytest.raises(DataError) as caught:
        corpus.scan()
    assert str(caught.value).startswith(f"{corpus.paths[0]}:4: ")
    assert "'1' is already on line 1" in str(caught.value)


def test_equal_hashes_of_different_ids_are_no_repeat(tmp_path, monkeypatch):
    monkeypatch.setattr("llara_eval.datasets.corpus.hash64", lambda text: 0)
    assert (
        corpus_of(tmp_path, lines({"_id": "1", "text": "a"}, {"_id": "2", "text": "b"})).scan().documents == 2
    )


def test_the_scan_takes_nine_bytes_a_document(tmp_path):
    count = 30_000
    corpus = corpus_of(tmp_path, lines(*({"_id": str(i), "text": "x"} for i in range(count))))
    tracemalloc.start()
    corpus.scan()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * count + 100_000  # an eighth more while the array grows; buffers


def test_a_repeated_query_id_is_refused(tmp_path):
    path = write(tmp_path / "queries.jsonl", lines({"_id": "q", "text": "a"}, {"_id": "q", "text": "a"}))
    with pytest.raises(DataError, match=r"queries\.jsonl:2: query id 'q' occurs twice"):
        read_queries(path)


def test_a_scan_counts_empty_documents_and_unknown_judged_ones(tmp_path):
    content = lines(
        {"_id": "a", "title": " ", "text": "\n"},
        {"_id": "b", "title": "only a title", "text": ""},
        {"_id": "c", "text": "x"},
    )
    facts = corpus_of(tmp_path, content).scan(frozenset(["c", "z", "y"]))
    assert (facts.documents, facts.empty, facts.judged_unknown) == (3, 1, ("y", "z"))


def test_a_corpus_is_never_held_in_memory(tmp_path):
    path = tmp_path / "corpus.jsonl"
    with path.open("w") as file:
        for i in range(50_000):
            file.write(f'{{"_id": "d{i}", "title": "", "text": "{str(i) * 60}"}}\n')
    tracemalloc.start()
    try:
        facts = Corpus([path], read_documents).scan()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = path.stat().st_size
    assert facts.documents == 50_000
    assert size > 15_000_000
    assert peak < size / 6, f"{peak:,} bytes held of a corpus of {size:,}"
