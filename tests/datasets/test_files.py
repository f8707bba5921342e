"""Folders with several configurations, and judgements in a folder of their own."""

import pytest
from layouts import (
    DOCUMENTS,
    LAYOUTS,
    QUERIES,
    TEST,
    beir,
    by_language,
    graded,
    judgements_beside,
    one_corpus,
    put,
    put_text,
    splits_by_part,
    tsv,
)

from llara_eval.core.errors import CheckFailedError, DataError
from llara_eval.datasets.files import configurations_of, layout_of
from llara_eval.datasets.inventory import verify
from llara_eval.datasets.load import judgements, load


def open_folder(path, split=None):
    return load(str(path), data_dir=path.parent, split=split, offline=True)


@pytest.mark.parametrize("write", [by_language, one_corpus])
def test_a_configuration_is_named_or_it_is_unclear_which_one_is_meant(tmp_path, write):
    write(tmp_path / "set")
    with pytest.raises(
        CheckFailedError, match=r"unclear which configuration is meant, of de, fr; name one, .*set:de"
    ):
        open_folder(tmp_path / "set")
    with pytest.raises(DataError, match=r"set has no configuration 'es'; it has de, fr"):
        open_folder(tmp_path / "set:es")
    assert configurations_of(tmp_path / "set") == ["de", "fr"]
    assert open_folder(tmp_path / "set:fr").queries == open_folder(tmp_path / "set:de").queries


def test_a_configuration_of_a_folder_in_the_data_folder_is_named_verified_and_audited(tmp_path):
    by_language(tmp_path / "set")
    dataset = load("set:fr", data_dir=tmp_path, offline=True)
    assert (dataset.name, len(dataset.corpus)) == ("set:fr", 2)
    assert judgements("set:fr", "test", data_dir=tmp_path) == dataset.qrels
    assert verify("set:fr", tmp_path).documents == 2
    assert "unclear which configuration" in verify("set", tmp_path).problem


def test_files_of_no_configuration_come_before_those_of_others(tmp_path):
    by_language(tmp_path)
    (tmp_path / "README.md").unlink()
    beir(tmp_path)
    assert layout_of(tmp_path).corpus == {"": (tmp_path / "corpus.jsonl",)}
    assert configurations_of(tmp_path) == [""]
    assert len(open_folder(tmp_path.with_name(f"{tmp_path.name}:fr")).corpus) == 2


def test_the_only_configuration_need_not_be_named_unless_it_takes_files_of_none(tmp_path):
    put(tmp_path / "one/de-corpus.jsonl", DOCUMENTS)
    put(tmp_path / "one/de-queries.jsonl", QUERIES)
    put_text(tmp_path / "one/de-qrels/test.tsv", tsv(TEST))
    assert len(open_folder(tmp_path / "one").corpus) == 3
    put(tmp_path / "part/corpus-old/x.jsonl", DOCUMENTS)
    put(tmp_path / "part/queries.jsonl", QUERIES)
    put_text(tmp_path / "part/qrels/test.tsv", tsv(TEST))
    with pytest.raises(CheckFailedError, match=r"unclear which configuration is meant, of old; name one"):
        open_folder(tmp_path / "part")


def test_a_colon_in_the_name_of_a_folder_names_no_configuration(tmp_path):
    beir(tmp_path / "a:b")
    assert open_folder(tmp_path / "a:b").name == "a:b"
    with pytest.raises(DataError, match=r"a:b has no configuration 'c'; it has none"):
        open_folder(tmp_path / "a:b:c")


@pytest.mark.parametrize("write", [judgements_beside, splits_by_part])
def test_judgements_beside_a_folder_count_only_where_it_has_none(tmp_path, write):
    write(tmp_path / "set")
    assert len(open_folder(tmp_path / "set").qrels) == 2
    put_text(tmp_path / "set/qrels/test.tsv", tsv(TEST[:1]))
    assert len(open_folder(tmp_path / "set").qrels) == 1


def test_splits_called_corpus_queries_and_qrels_are_a_data_set(tmp_path):
    """One configuration with three splits, as LongEmbed's tasks have it."""
    put(tmp_path / "default/corpus/0000.parquet", DOCUMENTS)
    put(tmp_path / "default/queries/0000.parquet", QUERIES)
    put(tmp_path / "default/qrels/0000.parquet", graded(TEST))
    assert len(open_folder(tmp_path).qrels) == 2


def test_a_folder_called_data_is_looked_into(tmp_path):
    beir(tmp_path / "data")
    assert open_folder(tmp_path, "train").qrels == {"2": {"d3": 1}}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["by the README's configs", "a configuration for each language"])
def test_mteb_reads_the_same_from_the_same_folder(tmp_path, name, monkeypatch):
    loaders = pytest.importorskip("mteb.abstasks.retrieval_dataset_loaders")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    write, configuration = LAYOUTS[name]
    write(tmp_path / "set")
    theirs = loaders.RetrievalDatasetLoader(str(tmp_path / "set"), None, config=configuration or None).load()
    ours = open_folder(tmp_path / (f"set:{configuration}" if configuration else "set"))
    assert [(row["id"], row["title"], row["text"]) for row in theirs["corpus"]] == [
        row[:3] for row in ours.corpus
    ]
    assert [(row["id"], row["text"]) for row in theirs["queries"]] == list(ours.queries)
    assert theirs["relevant_docs"] == ours.qrels
