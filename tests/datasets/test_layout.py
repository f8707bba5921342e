"""Layouts of data sets as people have them: each is written and read, and is the same data set."""

import re
from pathlib import Path

import pytest
from checkout import ROOT
from layouts import (
    DOCUMENTS,
    LAYOUTS,
    QUERIES,
    TRAIN,
    beir,
    graded,
    hub_split_for_split,
    plain_parquet,
    put,
    put_text,
    several_files,
)

from llara_eval.core.errors import DataError
from llara_eval.datasets.folder import read_queries, splits
from llara_eval.datasets.inventory import at_hand, damaged, others
from llara_eval.datasets.layout import arrange, choose, listed_by
from llara_eval.datasets.load import load

LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
"""YAML of 400 bytes that names a list of 387 million words."""


def open_folder(folder: Path, split: str | None = None):
    return load(str(folder), data_dir=folder.parent / "nowhere", split=split, offline=True)


@pytest.mark.parametrize(("write", "configuration"), LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_is_the_same_data_set(tmp_path, write, configuration):
    beir(tmp_path / "beir")
    expected = open_folder(tmp_path / "beir")
    write(tmp_path / "other")
    other = tmp_path / (f"other:{configuration}" if configuration else "other")
    dataset = open_folder(other)
    assert dataset.name == other.name
    assert list(dataset.corpus) == list(expected.corpus)
    assert dataset.queries == expected.queries
    assert dataset.qrels == expected.qrels == {"q1": {"d1": 2, "d3": 0}, "2": {"2": 1}}
    assert dataset.fingerprint == expected.fingerprint
    assert sorted(splits(other)) == ["test", "train"]
    assert open_folder(other, "train").qrels == {"2": {"d3": 1}}
    assert [name for name in others(tmp_path) if not name.endswith(":fr")] == ["beir", other.name]


def test_judgements_without_grades_are_relevant(tmp_path):
    """NanoBEIR's layout: one split called train, and no grades."""
    put(tmp_path / "corpus/train-00000-of-00001.parquet", DOCUMENTS)
    put(tmp_path / "queries/train-00000-of-00001.parquet", QUERIES)
    put(tmp_path / "qrels/train-00000-of-00001.parquet", [{"query-id": "q1", "corpus-id": "d1"}])
    assert open_folder(tmp_path, "train").qrels == {"q1": {"d1": 1}}
    with pytest.raises(DataError, match="no judgements for split 'test'; the folder has train"):
        open_folder(tmp_path)


def test_documents_of_the_split_count_where_there_are_such(tmp_path):
    hub_split_for_split(tmp_path)
    assert len(open_folder(tmp_path, "test").corpus) == 3
    assert len(open_folder(tmp_path, "train").corpus) == 1


def test_of_two_forms_one_is_read(tmp_path):
    beir(tmp_path)
    beir(tmp_path, ".gz")
    put(tmp_path / "corpus.parquet", DOCUMENTS[:1])
    put(tmp_path / "qrels/test.jsonl", graded(TRAIN))
    dataset = open_folder(tmp_path)
    assert [path.name for path in dataset.corpus.paths] == ["corpus.jsonl"]
    assert len(dataset.qrels) == 2


def test_other_files_are_not_taken_for_data(tmp_path):
    beir(tmp_path)
    names = [
        "corpus.jsonl.bak",
        "notes/corpus.jsonl",
        "qrels/test.tsv~",
        ".cache/corpus/x.jsonl",
        "corpus.txt",
    ]
    for name in [*names, "data/other.jsonl", "queries.tsv", "query_log/x.jsonl"]:
        put_text(tmp_path / name, "nothing\n")
    assert open_folder(tmp_path).qrels.keys() == {"q1", "2"}
    assert sorted(splits(tmp_path)) == ["test", "train"]


def test_a_repeat_in_another_file_names_both(tmp_path):
    several_files(tmp_path)
    put(tmp_path / "corpus/part-1.jsonl", [*DOCUMENTS[2:], DOCUMENTS[0]])
    with pytest.raises(
        DataError, match=r"corpus:part-1\.jsonl:2: document id 'd1' is already on line part-0\.jsonl:1"
    ):
        open_folder(tmp_path)
    several_files(tmp_path)
    put(tmp_path / "queries/part-1.jsonl", QUERIES)
    with pytest.raises(DataError, match=r"part-1\.jsonl:1: query id 'q1' occurs twice"):
        read_queries(tmp_path / "queries/part-0.jsonl", tmp_path / "queries/part-1.jsonl")
    several_files(tmp_path)
    put(tmp_path / "qrels/test-00001-of-00002.parquet", graded([("q1", "d1", 1)]))
    with pytest.raises(DataError, match=r"split test, file:2: query 'q1' document 'd1' is graded 2 and 1"):
        open_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "rows", "says"),
    [
        (
            "corpus",
            [{"_id": "d1", "title": None, "text": 7}],
            r"corpus\.parquet:1: 'text' must be a string; id 'd1'",
        ),
        ("corpus", [{"key": "d1", "text": "x"}], r"corpus\.parquet:1: the field '_id' is missing"),
        ("queries", [{"_id": "q1", "txt": "x"}], r"queries\.parquet:1: the field 'text' is missing; id 'q1'"),
        (
            "qrels/test",
            graded([("q1", "d1", 0.5)], float),
            r"test\.parquet:1: the grade 0\.5 is not an integer",
        ),
    ],
)
def test_a_malformed_row_of_parquet_is_named(tmp_path, name, rows, says):
    plain_parquet(tmp_path)
    put(tmp_path / f"{name}.parquet", rows)
    with pytest.raises(DataError, match=says):
        open_folder(tmp_path)


def test_what_is_missing_is_named(tmp_path):
    beir(tmp_path)
    (tmp_path / "corpus.jsonl").unlink()
    with pytest.raises(DataError, match=r"there is neither corpus\.jsonl, .* nor a folder corpus/"):
        open_folder(tmp_path)


def test_a_card_that_names_too_little_is_passed_over_and_one_that_is_no_yaml_is_an_error():
    names = ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "a.parquet"]
    plain = arrange(names)
    assert plain.keys() == {""}
    for card in (
        "# no head",
        "---\nlicense: mit\n---\n",
        "---\nconfigs:\n- config_name: corpus\n  data_files: a*\n---\n",
        "---\nreleased: 2024-02-31\nversion: !!int x\nowner: !!python/object:os.system x\n---\n",
        f"---\nid: {'9' * 5_000}\nconfigs: 7\n---\n",
        f"---\n{LAUGHS}configs:\n- config_name: *a9\n- config_name: corpus\n  data_files: *a9\n---\n",
        f"---\n{LAUGHS}configs:\n- config_name: corpus\n  data_files: [{{split: *a9, path: *a9}}]\n---\n",
    ):
        assert arrange(names, card) == plain
    for head in ("a: [", "[" * 5_000, "a: &a {b: *a}", "? [a]\n: b"):
        with pytest.raises(DataError, match=r"README\.md: its head is not YAML"):
            arrange(names, f"---\n{head}\n---\n")


def test_a_language_called_no_is_no_truth_value():
    card = "---\nconfigs:\n- config_name: no-corpus\n  data_files: [{split: no, path: x.jsonl}]\n---\n"
    assert list(listed_by(card, ["x.jsonl"])) == [("no-corpus", "no", "x.jsonl")]


def test_a_malformed_folder_is_left_out_of_the_names_and_named(tmp_path):
    for name in ("good", "odd"):
        (tmp_path / name / "qrels").mkdir(parents=True)
        for file in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
            (tmp_path / name / file).touch()
    (tmp_path / "odd" / "README.md").write_text("---\na: [\n---\n")
    assert others(tmp_path) == ["good"]
    assert list(damaged(tmp_path)) == ["odd"]
    assert "its head is not YAML" in damaged(tmp_path)["odd"]
    assert at_hand(tmp_path) == ["good", "odd"]
    (tmp_path / "good" / "README.md").mkdir()
    assert list(damaged(tmp_path)) == ["good", "odd"], "a folder is no README.md"


def test_files_of_a_split_come_before_those_of_none():
    assert choose({"": ("a",), "test": ("b",)}, "test") == ("b",)
    assert choose({"": ("a",), "train": ("b",)}, "test") == ("a",)
    assert choose({"x": ("a",), "train": ("b",)}, None) == ("a", "b")


def test_the_page_of_data_sets_lists_every_layout_that_is_read_here():
    page = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    table = re.search(r"\| layout \| how it is written \|\n(.*?)\n\n", page, re.DOTALL)[1]
    assert [line.split("|")[1].strip() for line in table.splitlines()[1:]] == [*LAYOUTS, "NanoBEIR"]
