"""Folders of one small data set, in every layout that people have."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

DOCUMENTS = [
    {"_id": "d1", "title": "Title", "text": "one"},
    {"_id": "2", "title": "", "text": "two"},
    {"_id": "d3", "title": "", "text": "three"},
]
QUERIES = [{"_id": "q1", "text": "first"}, {"_id": "2", "text": "second"}]
TEST = [("q1", "d1", 2), ("q1", "d3", 0), ("2", "2", 1)]
TRAIN = [("2", "d3", 1)]


def put(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
        return
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def put_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def graded(judgements, kind=int) -> list[dict]:
    return [{"query-id": q, "corpus-id": d, "score": kind(grade)} for q, d, grade in judgements]


def tsv(judgements) -> str:
    rows = "".join(f"{q}\t{d}\t{grade}\n" for q, d, grade in judgements)
    return f"query-id\tcorpus-id\tscore\n{rows}"


def renamed(rows, **names) -> list[dict]:
    return [{names.get(key, key): value for key, value in row.items()} for row in rows]


def beir(folder: Path, ending: str = "") -> None:
    put(folder / f"corpus.jsonl{ending}", DOCUMENTS)
    put(folder / f"queries.jsonl{ending}", QUERIES)
    put_text(folder / f"qrels/test.tsv{ending}", tsv(TEST))
    put_text(folder / f"qrels/train.tsv{ending}", tsv(TRAIN))


def beir_with_trec_judgements(folder: Path) -> None:
    beir(folder)
    put_text(folder / "qrels/test.tsv", "# pooled\n" + "".join(f"{q} 0 {d} {g}\n" for q, d, g in TEST))


def hub_jsonl(folder: Path) -> None:
    put(folder / "corpus.jsonl", renamed(DOCUMENTS, _id="id"))
    put(folder / "queries.jsonl", renamed(QUERIES, _id="id"))
    for split, judgements in (("test", TEST), ("train", TRAIN)):
        put(folder / f"qrels/{split}.jsonl", graded(judgements, float))


def hub_parquet(folder: Path) -> None:
    put(folder / "corpus/corpus-00000-of-00001.parquet", DOCUMENTS)
    put(folder / "queries/queries-00000-of-00001.parquet", QUERIES)
    for split, judgements in (("test", TEST), ("train", TRAIN)):
        put(folder / f"data/{split}-00000-of-00001.parquet", graded(judgements, float))


def hub_split_for_split(folder: Path) -> None:
    for split, judgements in (("test", TEST), ("train", TRAIN)):
        put(folder / f"corpus/{split}-00000-of-00001.parquet", DOCUMENTS)
        put(folder / f"queries/{split}-00000-of-00001.parquet", QUERIES)
        put(folder / f"qrels/{split}-00000-of-00001.parquet", graded(judgements))
    put(folder / "corpus/train-00000-of-00001.parquet", DOCUMENTS[2:])


def hub_converted(folder: Path) -> None:
    put(folder / "corpus/corpus/0000.parquet", DOCUMENTS[:1])
    put(folder / "corpus/corpus/0001.parquet", DOCUMENTS[1:])
    put(folder / "queries/queries/0000.parquet", QUERIES)
    for split, judgements in (("test", TEST), ("train", TRAIN)):
        put(folder / f"default/{split}/0000.parquet", graded(judgements))


def several_files(folder: Path) -> None:
    put(folder / "corpus/part-0.jsonl", DOCUMENTS[:2])
    put(folder / "corpus/part-1.jsonl", DOCUMENTS[2:])
    put(folder / "queries/part-0.jsonl", QUERIES[:1])
    put(folder / "queries/part-1.jsonl", QUERIES[1:])
    put(folder / "qrels/test-00000-of-00002.parquet", graded(TEST[:1]))
    put(folder / "qrels/test-00001-of-00002.parquet", graded(TEST[1:]))
    put(folder / "qrels/train-00000-of-00001.parquet", graded(TRAIN))


CARD = """---
license: mit
configs:
- config_name: corpus
  data_files:
  - split: corpus
    path: tables/documents*.parquet
- config_name: queries
  data_files: tables/questions.parquet
- config_name: default
  default: true
  data_files:
  - split: test
    path:
    - tables/answers-test.parquet
  - split: train
    path: tables/answers-train.parquet
---
# A data set
"""


def by_card(folder: Path) -> None:
    put(folder / "tables/documents.parquet", DOCUMENTS)
    put(folder / "tables/questions.parquet", QUERIES)
    put(folder / "tables/answers-test.parquet", graded(TEST))
    put(folder / "tables/answers-train.parquet", graded(TRAIN))
    put_text(folder / "README.md", CARD)


def plain_parquet(folder: Path) -> None:
    put(folder / "corpus.parquet", renamed(DOCUMENTS, _id="doc_id"))
    put(folder / "queries.parquet", renamed(QUERIES, _id="query_id"))
    for split, judgements in (("test", TEST), ("train", TRAIN)):
        rows = [{"query_id": q, "doc_id": d, "relevance": grade} for q, d, grade in judgements]
        put(folder / f"qrels/{split}.parquet", rows)


def json_judgements(folder: Path) -> None:
    """Rows with numbers for ids, as other tools write them."""
    hub_jsonl(folder)
    put(folder / "corpus.jsonl", [DOCUMENTS[0], {"id": 2, "text": "two"}, DOCUMENTS[2]])
    put(folder / "queries.jsonl", [QUERIES[0], {"id": 2, "text": "second"}])


def by_language(folder: Path) -> None:
    """Configurations as mteb's data sets have them, listed by the README."""
    card = ""
    for language, documents in (("de", DOCUMENTS), ("fr", DOCUMENTS[:2])):
        parts = {"corpus": documents, "queries": QUERIES, "qrels": graded(TEST)}
        for part, rows in parts.items():
            put(folder / f"{language}-{part}/test-00000-of-00001.parquet", rows)
            splits = ["test", "train"] if part == "qrels" else ["test"]
            files = "".join(
                f"\n  - split: {split}\n    path: {language}-{part}/{split}-*" for split in splits
            )
            card += f"- config_name: {language}-{part}\n  data_files:{files}\n"
        put(folder / f"{language}-qrels/train-00000-of-00001.parquet", graded(TRAIN))
    put_text(folder / "README.md", f"---\nconfigs:\n{card}---\n")


def one_corpus(folder: Path) -> None:
    """One corpus, and queries and judgements for each language."""
    put(folder / "corpus/corpus-00000-of-00001.parquet", DOCUMENTS)
    for language in ("de", "fr"):
        put(folder / f"queries-{language}/test-00000-of-00001.parquet", QUERIES)
        for split, judgements in (("test", TEST), ("train", TRAIN)):
            put(folder / f"qrels-{language}/{split}-00000-of-00001.parquet", graded(judgements))


def judgements_beside(folder: Path) -> None:
    """Two repositories, as BEIR has them on the hub."""
    put(folder / "corpus.jsonl.gz", DOCUMENTS)
    put(folder / "queries.jsonl.gz", QUERIES)
    for split, judgements in (("test", TEST), ("train", TRAIN)):
        put_text(folder.with_name(f"{folder.name}-qrels") / f"{split}.tsv", tsv(judgements))


def splits_by_part(folder: Path) -> None:
    """Splits called corpus and queries in one configuration, and judgements with other columns beside it."""
    put(folder / "data/corpus-00000-of-00001-0123456789abcdef.parquet", renamed(DOCUMENTS, _id="id"))
    put(folder / "data/queries-00000-of-00001-0123456789abcdef.parquet", renamed(QUERIES, _id="id"))
    for split, judgements in (("test", TEST), ("train", TRAIN)):
        rows = [{"qid": q, "pid": d, "score": grade} for q, d, grade in judgements]
        put(folder.with_name(f"{folder.name}-qrels") / f"data/{split}-00000-of-00001-0123.parquet", rows)


LAYOUTS = {
    "BEIR": (beir, ""),
    "BEIR, gzipped": (lambda folder: beir(folder, ".gz"), ""),
    "BEIR with TREC's judgements": (beir_with_trec_judgements, ""),
    "JSON Lines of the hub": (hub_jsonl, ""),
    "Parquet of the hub": (hub_parquet, ""),
    "documents by split": (hub_split_for_split, ""),
    "Parquet as the hub converts it": (hub_converted, ""),
    "several files": (several_files, ""),
    "by the README's configs": (by_card, ""),
    "Parquet files": (plain_parquet, ""),
    "numbers for ids": (json_judgements, ""),
    "a configuration for each language": (by_language, "de"),
    "one corpus for all languages": (one_corpus, "de"),
    "judgements in a folder of their own": (judgements_beside, ""),
    "splits called corpus and queries": (splits_by_part, ""),
}
"""What a layout is called in the documentation → how it is written, and the configuration that is read."""
