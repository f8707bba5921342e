"""Training rows in the forms of other tools are the rows of ours, each form written and read."""

import gzip
import json
import logging
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from llara_eval.core.errors import DataError
from llara_eval.core.files import sha256_of
from llara_eval.datasets.load import load
from llara_eval.datasets.overlap import Index, compare, items
from llara_eval.training.pairs import read_pairs

OURS = [
    {"query": "why tides", "pos": ["Moon pulls the water"], "neg": ["A ship", "Sand"]},
    {"query": "why night", "pos": ["Earth turns"], "neg": ["A lamp"]},
]


def passage(text: str) -> dict[str, str]:
    """Divide a text into the title and the text that Tevatron has."""
    title, _, rest = text.partition(" ")
    return {"docid": "7", "title": title if rest else "", "text": rest or title}


TEVATRON = [
    {
        "query_id": str(number),
        "query": row["query"],
        "positive_passages": [passage(text) for text in row["pos"]],
        "negative_passages": [passage(text) for text in row["neg"]],
    }
    for number, row in enumerate(OURS)
]
TRIPLETS = [
    {"anchor": "why tides", "positive": "Moon pulls the water", "negative_1": "A ship", "negative_2": "Sand"},
    {"anchor": "why night", "positive": "Earth turns", "negative_1": "A lamp"},
]
LISTED = [
    {"query": "why tides", "positive": "Moon pulls the water", "negative": ["A ship", "Sand"]},
    {"query": "why night", "positive": "Earth turns", "negative": ["A lamp"]},
]
LABELLED = [
    {"sentence1": row["query"], "sentence2": text, "label": label}
    for row in OURS
    for label, side in ((1, "pos"), (0.0, "neg"))
    for text in row[side]
]
LABEL_LISTS = [
    {
        "query": row["query"],
        "docs": [*row["neg"], *row["pos"]],
        "labels": [0] * len(row["neg"]) + [1] * len(row["pos"]),
    }
    for row in OURS
]
FORMS = {
    "ours": OURS,
    "Tevatron": TEVATRON,
    "triplets": TRIPLETS,
    "triplets with lists": LISTED,
    "labelled pairs": LABELLED,
    "labelled lists": LABEL_LISTS,
}


def write(path: Path, rows) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
        return path
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(path: Path):
    return read_pairs([path], cache=path.parent / "cache")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "parquet"])
def test_rows_of_every_form_are_ours(tmp_path, form, ending):
    path = write(tmp_path / f"rows.{ending}", FORMS[form])
    rows = read(path)
    found = [{name: row[name] for name in ("query", "pos", "neg")} for row in rows]
    assert found == OURS
    assert rows.sources == {sha256_of(path): path.name}, "a checkpoint declares the file that was given"
    assert [row.get("query_id") for row in rows] == (["0", "1"] if form == "Tevatron" else [None, None])


def test_pairs_alone_have_no_negatives(tmp_path):
    for query, positive in (("anchor", "positive"), ("question", "answer"), ("query", "passage")):
        rows = read(write(tmp_path / "rows.jsonl", [{query: "q", positive: "p", "id": 7}]))
        assert [(row["query"], row["pos"], row.get("neg", [])) for row in rows] == [("q", ["p"], [])]


def test_a_prompt_of_a_row_is_kept(tmp_path):
    rows = read(write(tmp_path / "rows.jsonl", [{"anchor": "q", "positive": "p", "prompt": "Find: "}]))
    assert rows[0]["prompt"] == "Find: "


def test_labelled_queries_without_a_positive_are_left_out_with_a_warning(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    more = [{"sentence1": "nothing", "sentence2": "is right", "label": 0}]
    assert len(read(write(tmp_path / "rows.jsonl", [*LABELLED, *more]))) == 2
    assert "1 of 3 queries have no positive and are left out" in caplog.text


@pytest.mark.parametrize("form", ["ours", "ours without negatives", "Tevatron"])
def test_a_score_is_a_label_only_beside_a_single_passage(tmp_path, form):
    rows = FORMS.get(form) or [{"query": row["query"], "pos": row["pos"]} for row in OURS]
    path = write(tmp_path / "rows.parquet", [{**row, "score": 0.5} for row in (*rows, rows[0])])
    assert [(row["query"], row["pos"]) for row in read(path)] == [
        (row["query"], row["pos"]) for row in (*OURS, OURS[0])
    ]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            {"question_text": "q", "body": "p"},
            r"expected query, pos and neg \(FlagEmbedding\); .*; found question_text, body",
        ),
        ({}, "found nothing"),
        (
            {"anchor": "q", "query": "q", "positive": "p"},
            "expected one of query, anchor, .*; found query and anchor",
        ),
        ({"query": "q", "positive": "p", "answer": "a"}, "found positive and answer"),
        ({"query": "q", "positive": " "}, "positive: expected a text that is not empty, found ' '"),
        ({"anchor": 7, "positive": "p"}, "anchor: expected a text that is not empty, found '7'"),
        ({"anchor": "q", "positive": "p", "negative": ["n", ""]}, "negative: expected a text"),
        (
            {"sentence1": "a", "sentence2": "b", "score": 0.7},
            r"score: expected 1 \(relevant\) or 0, found 0\.7",
        ),
        ({"query": "a", "docs": ["b", "c"], "labels": [1]}, "labels: expected one for each of 2 passages"),
        (
            {"query": "q", "positive_passages": [{"title": "", "text": ""}]},
            "positive_passages: expected a text",
        ),
        ({"query": "q", "positive_passages": ["p"]}, "positive_passages: expected title and text, found 'p'"),
        ({"query": "q", "positive_passages": "p"}, "positive_passages: expected a list, found str"),
    ],
)
def test_a_malformed_row_is_named_with_what_was_expected(tmp_path, row, says):
    path = write(tmp_path / "rows.jsonl", [{"anchor": "q", "positive": "p"}, row])
    with pytest.raises(DataError, match=rf"rows\.jsonl:2: .*{says}"):
        read(path)


def test_one_passage_with_both_labels_is_refused(tmp_path):
    rows = [*LABELLED, {**LABELLED[0], "label": 0}]
    with pytest.raises(DataError, match=r"rows\.jsonl:6: a passage of this query has label 1 and 0: 'Moon"):
        read(write(tmp_path / "rows.jsonl", rows))


def test_empty_positives_of_a_folder_are_left_out_with_a_warning(make_collection, caplog, tmp_path):
    caplog.set_level(logging.WARNING)
    qrels = {"q": {"a": 1, "b": 1}, "r": {"b": 1}}
    folder = make_collection({"a": "one", "b": " "}, {"q": "x", "r": "y"}, qrels, split="train")
    rows = read_pairs([folder], cache=tmp_path / "cache")
    assert [(row["query"], row["pos"]) for row in rows] == [("x", ["one"])]
    assert "1 relevant documents have no text and are left out" in caplog.text


@pytest.mark.parametrize("form", FORMS)
def test_overlap_reads_the_same_texts(make_collection, tmp_path, form):
    documents = {"d": "Moon pulls the water", "e": "A lamp"}
    folder = make_collection(documents, {"q": "why tides"}, {"q": {"d": 1, "e": 0}})
    dataset = load(str(folder), data_dir=tmp_path)
    report = compare(write(tmp_path / "rows.jsonl", FORMS[form]), dataset, Index(items(dataset)))
    found = {(match.role, match.id, match.trained_as) for match in report.matches}
    assert found == {("query", "q", "query"), ("relevant", "d", "pos"), ("judged", "e", "neg")}
