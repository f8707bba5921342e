"""Folders of training rows: which files are read, and where it is unclear."""

import logging

import pytest
from layouts import LAYOUTS, put, put_text

from llara_eval.core.errors import CheckFailedError, DataError
from llara_eval.datasets.training_files import training_files
from llara_eval.training.pairs import read_pairs

ROWS = [{"anchor": "q", "positive": "p", "negative": "n"}]


def names(folder, *files: str, path=None) -> list[str]:
    for file in files:
        put(folder / file, ROWS)
    return [str(file.relative_to(folder)) for file in training_files(path or folder)]


@pytest.mark.parametrize(
    ("files", "read"),
    [
        (["train.jsonl", "dev.jsonl", "test.jsonl.gz"], ["train.jsonl"]),
        (["nli.jsonl", "fever.jsonl.gz", "test.jsonl"], ["fever.jsonl.gz", "nli.jsonl"]),
        (
            [
                "data/train-00000-of-00002.parquet",
                "data/train-00001-of-00002.parquet",
                "data/test-00000-of-00001.parquet",
            ],
            ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"],
        ),
        (["default/train/0000.parquet", "default/dev/0000.parquet"], ["default/train/0000.parquet"]),
        (["train/a.jsonl", "train/b.jsonl", "test/a.jsonl"], ["train/a.jsonl", "train/b.jsonl"]),
        (["triplet/train-00000-of-00001.parquet"], ["triplet/train-00000-of-00001.parquet"]),
        (["train.jsonl", "train.parquet"], ["train.jsonl"]),
        (["train.jsonl", "old/train.jsonl"], ["train.jsonl"]),
    ],
)
def test_the_training_split_is_read_or_all_that_is_not_for_evaluation(tmp_path, files, read, caplog):
    caplog.set_level(logging.INFO)
    assert names(tmp_path, *files) == read
    assert f"training rows from {', '.join(read)}" in caplog.text


def test_where_several_configurations_may_be_meant_one_is_named(tmp_path):
    files = ["pair/train-00000-of-00001.parquet", "triplet/train-00000-of-00001.parquet"]
    with pytest.raises(
        CheckFailedError, match="unclear which configuration is meant, of pair, triplet; name one"
    ):
        names(tmp_path, *files)
    chosen = tmp_path.with_name(f"{tmp_path.name}:triplet")
    assert names(tmp_path, path=chosen) == files[1:]
    with pytest.raises(DataError, match="has no configuration 'other'; it has pair, triplet"):
        names(tmp_path, path=tmp_path.with_name(f"{tmp_path.name}:other"))


def test_a_readme_says_what_is_which(tmp_path):
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: rows/a*\n---\n"
    put_text(tmp_path / "README.md", card)
    assert names(tmp_path, "rows/a.jsonl", "rows/b.jsonl") == ["rows/a.jsonl"]


@pytest.mark.parametrize("files", [[], ["test.jsonl", "validation.parquet"], ["notes.txt"]])
def test_a_folder_without_training_rows_is_refused(tmp_path, files):
    with pytest.raises(DataError, match="has neither documents and queries nor a file of training rows"):
        names(tmp_path, *files)


@pytest.mark.parametrize(("write", "configuration"), LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_of_a_data_set_gives_the_pairs_of_its_training_split(tmp_path, write, configuration):
    write(tmp_path / "set")
    path = tmp_path / (f"set:{configuration}" if configuration else "set")
    (row,) = read_pairs([path], cache=tmp_path / "cache")
    assert (row["query"], row["pos"]) == ("second", ["three"])


def test_all_files_of_a_folder_are_the_pairs(tmp_path):
    put(tmp_path / "rows/data/train-00000-of-00002.parquet", ROWS)
    put(tmp_path / "rows/data/train-00001-of-00002.parquet", [{"anchor": "r", "positive": "s"}])
    rows = read_pairs([tmp_path / "rows"], cache=tmp_path / "cache")
    assert [(row["query"], row["pos"], row.get("neg")) for row in rows] == [
        ("q", ["p"], ["n"]),
        ("r", ["s"], []),
    ]
    assert len(rows.sources) == 2
