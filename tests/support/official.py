"""Small made-up files in the exact formats of MS MARCO and TREC Deep Learning."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from llara_eval.core.types import Document
from llara_eval.datasets import known as catalogue

ODD = [
    'a "quoted" word, an \'apostrophe\' and one that "never ends',
    "a tab\there and\tthere",
    "mojibake: donâ\x80\x99t, Ã©tÃ©, a next-line \x85 and a line separator \u2028 inside",
    "carriage\rreturn inside",
    "back\\slash, comma, <b>markup</b> & </TEXT>",
    "  space around  ",
    "",
]
"""Texts with the oddities of the official files, and more."""

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
    """Pin the counts of the files written here, so that they count as the public data sets."""
    counts = {"dev": (40, 40), "trec-dl-2019": (2, 4), "trec-dl-2020": (2, 4)}
    small = {
        name: replace(
            known,
            documents=200 if known.is_documents else 300,
            queries=counts[known.split][0],
            judgements=counts[known.split][1],
        )
        for name, known in catalogue.KNOWN.items()
        if known.files
    }
    monkeypatch.setattr(catalogue, "KNOWN", {**catalogue.KNOWN, **small})
