"""Data sets of ir_datasets become folders; a small one is registered here, and nothing is downloaded."""

import logging
from types import SimpleNamespace

import ir_datasets
import pytest

from llara_eval.core.errors import DataError
from llara_eval.datasets import irds
from llara_eval.datasets.inventory import verify
from llara_eval.datasets.load import judgements, load, locate

NAME = "irds:llara-eval-small/test"


@pytest.fixture(scope="module", autouse=True)
def registered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("irds")
    (folder / "docs.tsv").write_text("d1\tone é\nd2\ttwo\n", encoding="utf-8")
    (folder / "queries.tsv").write_text("q1\tfirst\nq2\tnot judged\n")
    (folder / "qrels").write_text("q1 0 d1 2\nq1 0 d2 0\n")
    whole = ir_datasets.create_dataset(
        docs_tsv=str(folder / "docs.tsv"),
        queries_tsv=str(folder / "queries.tsv"),
        qrels_trec=str(folder / "qrels"),
    )
    ir_datasets.registry.register("llara-eval-small/test", whole)
    ir_datasets.registry.register(
        "llara-eval-small", ir_datasets.create_dataset(docs_tsv=str(folder / "docs.tsv"))
    )


def test_an_id_is_a_data_set(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    dataset = load(NAME, data_dir=tmp_path)
    assert (dataset.name, dataset.split, dataset.warnings) == (NAME, "test", ())
    assert [(document.doc_id, document.text) for document in dataset.corpus] == [
        ("d1", "one é"),
        ("d2", "two"),
    ]
    assert [query.query_id for query in dataset.queries] == ["q1"]
    assert dataset.qrels == {"q1": {"d1": 2, "d2": 0}}
    assert dataset.source == f"{NAME} (ir_datasets {ir_datasets.__version__})"
    assert "terms of use and origin are at https://ir-datasets.com/llara-eval-small" in caplog.text
    assert judgements(NAME, "test", data_dir=tmp_path) == dataset.qrels


def test_the_folder_is_made_once_and_read_without_the_network(tmp_path):
    with pytest.raises(DataError, match=r"is not in .*irds, and the network must not be used"):
        load(NAME, data_dir=tmp_path, offline=True)
    first = load(NAME, data_dir=tmp_path)
    again = load(NAME, data_dir=tmp_path, offline=True)
    assert again.fingerprint == first.fingerprint
    assert verify(NAME, tmp_path).problem is None


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("irds:no-such-set", "ir_datasets has no 'no-such-set'; see https://ir-datasets.com"),
        ("irds:llara-eval-small", "has no queries and no qrels; name one with judgements"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, says):
    with pytest.raises(DataError, match=says):
        locate(name, data_dir=tmp_path)


def test_documents_of_other_fields_have_the_text_that_ir_datasets_names():
    """TREC-COVID's documents have an abstract and no text, so the title is a part of what is read."""
    for identifier, fields, expected in (
        ("cord19", ("d", "Title", "doi", "2020", "Abstract"), ("", "Title Abstract")),
        ("beir/scifact", ("d", "Text", "Title"), ("Title", "Text")),
        ("msmarco-document", ("d", "http://x", "Title", "Body"), ("", "Title Body")),
    ):
        document = ir_datasets.load(identifier).docs_cls()(*fields)
        source = SimpleNamespace(docs_cls=lambda d=document: type(d), docs_iter=lambda d=document: [d])
        (row,) = irds._documents(source, lambda: None)
        assert (row["title"], row["text"]) == expected
