"""Documents, queries and judgements in memory: the same data set as a folder with the same content."""

import subprocess
import sys
from pathlib import Path

import fakes
import numpy as np
import pandas as pd
import pytest

from llara_eval.core.errors import DataError
from llara_eval.core.types import Document, Query
from llara_eval.datasets import known as catalogue
from llara_eval.datasets.dataset import Dataset
from llara_eval.datasets.known import KnownDataset
from llara_eval.datasets.load import load
from llara_eval.evaluation.evaluate import evaluate
from llara_eval.scoring.measures import DEFAULT_MEASURES

DOCUMENTS = {"d1": ("Title", "one"), "2": "two", "d3": ""}
QUERIES = {"q1": "first", "7": "second", "q3": "never judged"}
QRELS = {"7": {"2": 1, "d3": 0}, "q1": {"d1": 2}}

ROWS = [("d1", "Title", "one"), ("2", "", "two"), ("d3", "", "")]
FRAME = pd.DataFrame(ROWS, columns=["doc_id", "title", "text"])
JUDGED = pd.DataFrame(
    [("7", "2", 1), ("7", "d3", 0), ("q1", "d1", 2)], columns=["query_id", "doc_id", "relevance"]
)

FORMS = {
    "texts and pairs": (DOCUMENTS, QUERIES, QRELS),
    "objects": (
        {key: {"title": title, "text": text, "url": "http://x"} for key, title, text in ROWS},
        {key: {"text": text} for key, text in QUERIES.items()},
        {key: {doc: np.int64(grade) for doc, grade in grades.items()} for key, grades in QRELS.items()},
    ),
    "rows of three": (iter(ROWS), list(QUERIES.items()), QRELS),
    "rows of two": (DOCUMENTS.items(), QUERIES.items(), QRELS),
    "rows with names": (
        [{"_id": key, "title": title or None, "text": text} for key, title, text in ROWS],
        [{"id": key, "text": text} for key, text in QUERIES.items()],
        QRELS,
    ),
    "records": ([Document(*row) for row in ROWS], [Query(*item) for item in QUERIES.items()], QRELS),
    "numbers as identifiers": (
        {2 if key == "2" else key: value for key, value in DOCUMENTS.items()},
        {7 if key == "7" else key: value for key, value in QUERIES.items()},
        {7: {np.int64(2): 1, "d3": 0}, "q1": {"d1": 2}},
    ),
    "frames": (FRAME, pd.DataFrame({"query_id": list(QUERIES), "text": list(QUERIES.values())}), JUDGED),
    "frames with gaps": (
        pd.DataFrame(
            {"text": ["one", "two", None], "_id": ["d1", "2", "d3"], "title": ["Title", pd.NA, None]}
        ),
        pd.DataFrame({"_id": list(QUERIES), "text": list(QUERIES.values())}),
        JUDGED.rename(columns={"query_id": "query-id", "doc_id": "corpus-id", "relevance": "score"}).astype(
            {"score": float}
        ),
    ),
}


def from_memory(documents=None, queries=None, qrels=None, **settings) -> Dataset:
    return Dataset.from_memory(
        DOCUMENTS if documents is None else documents,
        QUERIES if queries is None else queries,
        QRELS if qrels is None else qrels,
        **settings,
    )


@pytest.fixture
def in_folder(make_collection) -> Dataset:
    return load(str(make_collection(DOCUMENTS, QUERIES, QRELS)), data_dir=Path("nowhere"), offline=True)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_content_is_the_same_data_set_in_memory_and_in_a_folder(in_folder, form):
    documents, queries, qrels = FORMS[form]
    dataset = Dataset.from_memory(documents, queries, qrels)
    assert dataset.fingerprint == in_folder.fingerprint
    assert dataset.corpus.fingerprint == in_folder.corpus.fingerprint
    assert list(dataset.corpus) == list(dataset.corpus) == list(in_folder.corpus)
    assert len(dataset.corpus) == 3
    assert (dataset.queries, dataset.qrels) == (in_folder.queries, in_folder.qrels)
    assert dataset.warnings == in_folder.warnings == ("1 documents have neither title nor text",)


def test_a_separator_in_a_text_makes_another_data_set():
    """Title and text are divided at another place; vectors of one are not vectors of the other."""
    prints = {
        from_memory(documents={**DOCUMENTS, "d1": document}).corpus.fingerprint
        for document in ({"title": "a\x1fb", "text": "c"}, {"title": "a", "text": "b\x1fc"})
    }
    assert len(prints) == 2


def test_a_data_set_in_memory_has_a_name_and_says_how_it_is_measured():
    usual = from_memory()
    assert (usual.name, usual.split, usual.mismatch) == ("memory", "test", None)
    assert (usual.drop_own_ids, usual.measures, usual.depth, usual.text_length) == (
        False,
        DEFAULT_MEASURES,
        1_000,
        None,
    )
    settings = {"name": "mine", "split": "dev", "measures": ["P@1"], "depth": 5, "text_length": 9}
    dataset = from_memory(**settings, drop_own_ids=True)
    assert {key: getattr(dataset, key) for key in settings} == settings | {"measures": ("P@1",)}
    assert dataset.drop_own_ids
    assert dataset.fingerprint == usual.fingerprint


def test_a_data_set_in_memory_is_evaluated_as_it_says(tmp_path):
    queries = {"q1": "title", "7": "two"}
    dataset = from_memory(queries=queries, measures=["RR@2", "P@1"], depth=2, name="mine/own")
    outcome = evaluate(fakes.WordOverlap(), dataset, runs_dir=tmp_path)
    assert list(outcome.result.means) == ["RR@2", "P@1"]
    assert (outcome.result.depth, outcome.result.n_documents) == (2, 3)
    assert outcome.folder == tmp_path / "words" / "mine--own"


def test_documents_in_memory_can_be_cut_into_passages():
    parts = from_memory().corpus.split(lambda document: [document, document._replace(doc_id="part")])
    assert [part.doc_id for part in parts] == ["d1", "part", "2", "part", "d3", "part"]


def test_urls_of_documents_are_kept(tmp_path):
    document = Document("d", "T", "x", "http://x")
    assert list(from_memory([document], {"q": "?"}, {"q": {"d": 1}}).corpus) == [document]


def test_a_data_set_in_memory_has_the_warnings_of_a_folder():
    dataset = from_memory(queries={"q1": " ", "7": "x"}, qrels={**QRELS, "q1": {"d9": 1, "d8": 1}})
    assert "2 judged documents are not in the corpus ('d8', …)" in dataset.warnings[0]
    assert dataset.warnings[2] == "1 queries have no text ('q1', …)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"documents": {}}, "documents: the corpus is empty"),
        ({"documents": {"d1": "x", "d2": 5}}, "documents:2: 'text' must be a string; id 'd2'"),
        ({"documents": {"d1": {"title": "x"}}}, "documents:1: the field 'text' is missing; id 'd1'"),
        ({"documents": {"d1": {"title": 3, "text": ""}}}, "documents:1: 'title' must be a string; id 'd1'"),
        ({"documents": {"d\t1": "x"}}, "documents:1: 'id' 'd\\\\t1' is empty or has a tab"),
        ({"documents": {True: "x"}}, "documents:1: 'id' must be a non-empty string, found True"),
        ({"documents": {"d1": "half \ud83d"}}, "documents:1: 'text' holds half a surrogate pair"),
        ({"documents": [("d1", "x"), ("d1", "y")]}, "documents:2: document id 'd1' is already on row 1"),
        ({"documents": {1: "x", "1": "y"}}, "documents:2: document id '1' is already on row 1"),
        (
            {"documents": [{"key": "d1", "text": "x"}]},
            "documents:1: the field '_id' is missing; found key",
        ),
        ({"documents": ["d1"]}, r"documents:1: expected an object, \(id, text\)"),
        ({"documents": "corpus.jsonl"}, "documents: expected a dictionary, rows or a data frame, found str"),
        ({"documents": FRAME.drop(columns="doc_id")}, "documents: expected a column _id or doc_id or id"),
        ({"documents": FRAME.drop(columns="text")}, "documents:1: the field 'text' is missing; id 'd1'"),
        (
            {"documents": FRAME.replace("2", None)},
            "documents:2: 'doc_id' must be a non-empty string, found None",
        ),
        ({"queries": {"q1": "x"}}, "queries: 1 judged queries of split 'test' are missing \\('7'"),
        ({"queries": [("q1", "x"), ("q1", "y")]}, "queries:2: query id 'q1' occurs twice"),
        ({"queries": {"q1": None, "7": 7}}, "queries:2: 'text' must be a string; id '7'"),
        ({"qrels": {}}, "qrels: no judgements"),
        ({"qrels": [("q1", "d1", 1)]}, "qrels: expected query id → document id → relevance"),
        ({"qrels": {"q1": {"d1": 1, "d3": 0.5}}}, "qrels:2: the grade 0.5 is not an integer"),
        ({"qrels": {"q1": {"d1": "1"}}}, "qrels:1: the grade '1' is not an integer"),
        ({"qrels": {"q1": {"": 1}}}, "qrels:1: an identifier must be a non-empty string, found ''"),
        ({"qrels": JUDGED.drop(columns="relevance")}, "qrels: expected a column relevance or score or grade"),
        ({"qrels": JUDGED.replace({"relevance": {0: None}})}, "qrels:2: the grade None is not an integer"),
        (
            {"qrels": pd.concat([JUDGED, JUDGED.assign(relevance=1)])},
            "qrels:5: query '7' document 'd3' is graded 0 and 1",
        ),
    ],
)
def test_malformed_content_is_named_with_its_row(arguments, message):
    with pytest.raises(DataError, match=f"^{message}"):
        from_memory(**arguments)


def test_the_name_of_a_public_data_set_is_only_for_that_data_set(monkeypatch):
    known = KnownDataset(
        name="beir/tiny", folder="tiny", split="dev", documents=3, queries=2, judgements=3, drop_own_ids=True
    )
    monkeypatch.setattr(catalogue, "KNOWN", {known.name: known})
    dataset = from_memory(name="tiny")
    assert (dataset.name, dataset.split, dataset.drop_own_ids) == ("beir/tiny", "dev", True)
    assert not from_memory(name="tiny", drop_own_ids=False).drop_own_ids
    with pytest.raises(DataError, match=r"'tiny' is the name of a public data set.*4 documents, not 3"):
        from_memory({**DOCUMENTS, "d4": "x"}, name="tiny")


def test_neither_pandas_nor_torch_is_imported_for_dictionaries():
    code = (
        "import sys\n"
        "from llara_eval.datasets.dataset import Dataset\n"
        f"dataset = Dataset.from_memory({DOCUMENTS!r}, {QUERIES!r}, {QRELS!r})\n"
        "print(len(dataset.corpus), sorted({'pandas', 'torch'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown == "3 []\n"
