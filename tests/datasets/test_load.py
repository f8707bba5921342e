"""A name or a folder becomes a data set: found, checked, recognised, fingerprinted."""

import dataclasses
import gzip
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from llara_eval.core.errors import DataError
from llara_eval.datasets import known as catalogue
from llara_eval.datasets import load as datasets
from llara_eval.datasets.dataset import Dataset
from llara_eval.datasets.folder import read_queries
from llara_eval.datasets.known import KnownDataset
from llara_eval.datasets.load import DEMO_FOLDER, load, locate

DOCUMENTS = {"d1": ("Title", "one"), "d2": "two", "d3": "three"}
QUERIES = {"q1": "first", "q2": "second", "q3": "never judged"}
QRELS = {"q2": {"d2": 1, "d3": 0}, "q1": {"d1": 2}}


@pytest.fixture
def tiny(make_collection) -> Path:
    return make_collection(DOCUMENTS, QUERIES, QRELS)


def tiny_known(name: str = "beir/tiny", **facts) -> KnownDataset:
    """Return a public data set of the documents here."""
    folder = name.removeprefix("beir/")
    usual = {"documents": 3, "queries": 2, "judgements": 3, "archive": "tiny", "md5": "0" * 32}
    return KnownDataset(name=name, folder=folder, **{**usual, **facts})


@pytest.fixture
def known_tiny(monkeypatch) -> KnownDataset:
    """Make ``beir/tiny`` a public set of three documents whose queries are documents."""
    known = tiny_known(drop_own_ids=True)
    monkeypatch.setattr(catalogue, "KNOWN", {known.name: known})
    return known


def load_folder(folder: Path, split: str | None = None) -> Dataset:
    return load(str(folder), data_dir=folder.parent / "nowhere", split=split, offline=True)


def append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_folder_becomes_a_data_set(tiny):
    dataset = load_folder(tiny)
    assert (dataset.name, dataset.split, dataset.warnings) == ("tiny", "test", ())
    assert dataset.qrels == QRELS
    assert len(dataset.corpus) == 3
    assert not dataset.drop_own_ids


def test_queries_without_judgements_are_left_out_and_file_order_is_kept(tiny):
    assert [query.query_id for query in load_folder(tiny).queries] == ["q1", "q2"]


def test_an_unknown_judged_document_is_a_counted_warning(tiny):
    append(tiny / "qrels" / "test.tsv", "q1\td9\t1\nq1\td8\t1\n")
    dataset = load_folder(tiny)
    assert any("2 judged documents are not in the corpus ('d8'" in text for text in dataset.warnings)
    assert dataset.qrels["q1"] == {"d1": 2, "d9": 1, "d8": 1}, "the judgement still counts as not found"


def test_a_judged_query_without_a_line_is_an_error(tiny):
    append(tiny / "qrels" / "test.tsv", "q9\td1\t1\n")
    with pytest.raises(DataError, match=r"queries\.jsonl: 1 judged queries of split 'test'.*'q9'"):
        load_folder(tiny)


def test_a_query_line_without_the_text_field_is_an_error(tiny):
    replace(tiny / "queries.jsonl", '"text": "second"', '"query": "second"')
    with pytest.raises(DataError, match=r"queries\.jsonl:2: the field 'text' is missing; id 'q2'"):
        load_folder(tiny)


def test_empty_texts_are_counted(tiny):
    replace(tiny / "corpus.jsonl", '"two"', '""')
    replace(tiny / "queries.jsonl", '"first"', '" "')
    warnings = " / ".join(load_folder(tiny).warnings)
    assert "1 documents have neither title nor text" in warnings
    assert "1 queries have no text ('q1'" in warnings


def test_a_missing_split_names_those_that_are_there(tiny):
    shutil.copy(tiny / "qrels" / "test.tsv", tiny / "qrels" / "train.tsv")
    with pytest.raises(DataError, match=r"no judgements for split 'dev'; the folder has test, train"):
        load_folder(tiny, split="dev")
    assert load_folder(tiny, split="train").split == "train"
    shutil.rmtree(tiny / "qrels")
    with pytest.raises(DataError, match="the folder has no judgements"):
        load_folder(tiny)


def test_a_backup_copy_beside_the_judgements_is_not_read(tiny):
    for name in ("test.tsv.bak", "test.tsv~"):
        (tiny / "qrels" / name).write_text("query-id\tcorpus-id\tscore\nq3\td1\t1\n")
    assert load_folder(tiny).qrels == QRELS


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_a_missing_file_is_an_error(tiny, name):
    (tiny / name).unlink()
    with pytest.raises(DataError, match=re.escape(name.split(".")[0].split("/")[0])):
        load_folder(tiny)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("corpus.jsonl", '"one"', '"One"'),
        ("corpus.jsonl", '"Title"', '"Tit"'),
        ("corpus.jsonl", '"d3"', '"d4"'),
        ("corpus.jsonl", '"title": "Title", "text": "one"', '"title": "Titleone", "text": ""'),
        ("queries.jsonl", '"first"', '"first?"'),
        ("qrels/test.tsv", "q1\td1\t2", "q1\td1\t1"),
        ("qrels/test.tsv", "q2\td3\t0\n", ""),
        ("qrels/test.tsv", "q1\td1\t2", "q1\td2\t2"),
    ],
)
def test_the_fingerprint_sees_every_change_of_content(tiny, name, old, new):
    before = load_folder(tiny).fingerprint
    replace(tiny / name, old, new)
    assert load_folder(tiny).fingerprint != before


def test_the_fingerprint_sees_another_order_of_documents_and_a_further_one(tiny):
    corpus = tiny / "corpus.jsonl"
    first, *rest = corpus.read_text().splitlines(keepends=True)
    seen = {load_folder(tiny).fingerprint}
    corpus.write_text("".join([*rest, first]))
    seen.add(load_folder(tiny).fingerprint)
    append(corpus, '{"_id": "d4", "text": ""}\n')
    assert len(seen | {load_folder(tiny).fingerprint}) == 3


def test_the_fingerprint_does_not_see_how_content_is_written(tiny):
    before = load_folder(tiny).fingerprint
    replace(tiny / "corpus.jsonl", '"title": "Title"', '"url": "http://x", "title": "\\u0054itle"')
    replace(tiny / "queries.jsonl", '"first"', '"first", "metadata": {"a": 1}')
    append(tiny / "queries.jsonl", '\n{"_id": "q4", "text": "not judged either"}\n')
    header, *rows = (tiny / "qrels" / "test.tsv").read_text().splitlines()
    (tiny / "qrels" / "test.tsv").write_text("\r\n".join([header, *reversed(rows)]))
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        (tiny / f"{name}.gz").write_bytes(gzip.compress((tiny / name).read_bytes()))
        (tiny / name).unlink()
    dataset = load_folder(tiny)
    assert dataset.corpus.paths[0].suffix == ".gz"
    assert dataset.fingerprint == before


def test_a_name_is_a_folder_of_the_data_folder(tiny):
    assert locate("tiny", data_dir=tiny.parent) == tiny
    assert load("tiny", data_dir=tiny.parent).name == "tiny"


def test_an_unknown_name_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"'no-such-set' is neither a folder.*llara-eval datasets"):
        locate("no-such-set", data_dir=tmp_path)


@pytest.mark.parametrize("trick", ["../outside", "sub/../../outside"])
def test_a_name_does_not_lead_out_of_the_data_folder(tmp_path, monkeypatch, trick):
    for folder in ("outside", "data/sub", "cwd/deep"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "cwd" / "deep")
    assert (tmp_path / "data" / trick).is_dir()
    with pytest.raises(DataError, match="is neither a folder"):
        locate(trick, data_dir=tmp_path / "data")


def test_a_public_set_is_not_downloaded_offline(tmp_path):
    with pytest.raises(DataError, match=r"beir/scifact is not in .*--offline forbids the download of http"):
        locate("scifact", data_dir=tmp_path, offline=True)


@pytest.mark.parametrize("name", ["tiny", "beir/tiny"])
def test_a_public_set_is_found_by_either_name(tiny, known_tiny, name):
    dataset = load(name, data_dir=tiny.parent, offline=True)
    assert (dataset.name, dataset.drop_own_ids, dataset.warnings) == ("beir/tiny", True, ())


def test_a_public_set_below_a_folder_beir_is_found(tiny, known_tiny, tmp_path):
    (tmp_path / "data").mkdir()
    tiny.rename(tmp_path / "data" / "tiny")
    (tmp_path / "data").rename(tmp_path / "beir")
    assert load("beir/tiny", data_dir=tmp_path, offline=True).name == "beir/tiny"


def test_a_public_set_is_recognised_by_its_folder(tiny, known_tiny):
    dataset = load_folder(tiny)
    assert (dataset.name, dataset.drop_own_ids) == ("beir/tiny", True)


def test_a_forum_is_recognised_by_its_folder_and_the_one_above(make_collection, monkeypatch):
    known = tiny_known("beir/cqadupstack/tex", documents=None, judgements=None)
    monkeypatch.setattr(catalogue, "KNOWN", {known.name: known})
    inside = make_collection(DOCUMENTS, QUERIES, QRELS, name="cqadupstack/tex")
    outside = make_collection(DOCUMENTS, QUERIES, QRELS, name="other/tex")
    assert [load_folder(folder).name for folder in (inside, outside)] == ["beir/cqadupstack/tex", "tex"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("documents", 1_004, "3 documents, not 1,004"),
        ("queries", 5, "2 judged queries, not 5"),
        ("judgements", 4, "3 judgements, not 4"),
    ],
)
def test_a_folder_with_other_counts_is_filed_under_its_own_name(
    tiny, known_tiny, monkeypatch, field, value, message
):
    monkeypatch.setattr(catalogue, "KNOWN", {"beir/tiny": dataclasses.replace(known_tiny, **{field: value})})
    dataset = load_folder(tiny)
    assert (dataset.name, dataset.drop_own_ids) == ("tiny", False)
    (warning,) = dataset.warnings
    assert warning == f"tiny is not beir/tiny: {message}; its results are filed under 'tiny'"


def test_a_folder_with_other_counts_never_takes_the_name_of_a_public_set(tiny, known_tiny, monkeypatch):
    known = dataclasses.replace(known_tiny, name="tiny", documents=1_004)
    monkeypatch.setattr(catalogue, "KNOWN", {known.name: known})
    dataset = load_folder(tiny)
    assert dataset.name == f"{tiny.parent.name}/tiny"
    assert f"filed under '{dataset.name}'" in dataset.warnings[0]


def test_what_is_not_pinned_is_not_compared(tiny, known_tiny, monkeypatch):
    known = dataclasses.replace(known_tiny, documents=None, queries=None, judgements=None)
    monkeypatch.setattr(catalogue, "KNOWN", {known.name: known})
    assert load_folder(tiny).name == "beir/tiny"


def test_another_split_of_a_public_set_is_recognised_by_its_documents(tiny, known_tiny):
    (tiny / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq3\td1\t1\n")
    assert load_folder(tiny, split="train").name == "beir/tiny"


def test_the_usual_split_of_a_public_set_is_the_default(make_collection, monkeypatch):
    folder = make_collection(DOCUMENTS, QUERIES, QRELS, split="dev")
    known = tiny_known(split="dev")
    monkeypatch.setattr(catalogue, "KNOWN", {known.name: known})
    assert load_folder(folder).split == "dev"


@pytest.mark.parametrize("form", ["demo", "tiny", "beir/tiny", "{folder}", "{link}"])
@pytest.mark.parametrize("documents", [3, 4])
def test_results_are_filed_under_a_name_that_is_known_before(tiny, known_tiny, monkeypatch, form, documents):
    """The results are those of the public set, or of a folder that only has its name."""
    known = dataclasses.replace(known_tiny, documents=documents)
    monkeypatch.setattr(catalogue, "KNOWN", {known.name: known})
    link = tiny.parent / "link"
    link.symlink_to(tiny)
    name = form.format(folder=tiny, link=link)
    naming = datasets.naming(name, data_dir=tiny.parent)
    dataset = load(name, data_dir=tiny.parent)
    assert dataset.name in naming.names
    assert dataset.split == naming.split


@pytest.fixture(scope="module")
def demo() -> Dataset:
    return load("demo", data_dir=Path("nowhere"), offline=True)


def test_the_demo_loads_without_a_warning(demo):
    assert (demo.name, demo.split, demo.warnings, demo.drop_own_ids) == ("demo", "test", (), False)
    assert load(str(DEMO_FOLDER), data_dir=Path("nowhere")).name == "demo", "the same by its path"


def test_the_demo_has_150_passages_of_40_to_150_words(demo):
    words = {document.doc_id: len(document.text.split()) for document in demo.corpus}
    assert len(words) >= 150
    assert {doc_id: count for doc_id, count in words.items() if not 40 <= count <= 150} == {}


def test_the_demo_has_50_queries_grades_0_to_2_and_consistent_ids(demo):
    documents = {document.doc_id for document in demo.corpus}
    grades = Counter(grade for judged in demo.qrels.values() for grade in judged.values())
    assert len(demo.queries) >= 50
    assert len(demo.queries) == len((DEMO_FOLDER / "queries.jsonl").read_text().splitlines()), "all judged"
    assert set(grades) == {0, 1, 2}
    assert {doc_id for judged in demo.qrels.values() for doc_id in judged} <= documents
    assert all(max(judged.values()) > 0 for judged in demo.qrels.values()), "each query has an answer"


def test_no_text_of_the_demo_occurs_twice(demo):
    texts = [json.dumps([document.title, document.text]) for document in demo.corpus]
    assert len(set(texts)) == len(texts)
    assert len({query.text for query in demo.queries}) == len(demo.queries)


REAL = {
    "scifact": ("beir/scifact", 5_183, 300, 339),
    "arguana": ("beir/arguana", 8_674, 1_406, 1_406),
    "medquad-liveqa": ("medquad-liveqa", 1_935, 103, 2_311),
    "xquad": ("xquad", 240, 1_190, 1_190),
    "limit-small": ("limit-small", 46, 1_000, 2_000),
}


@pytest.mark.real
@pytest.mark.parametrize("folder", REAL)
def test_real_collections_have_the_counts_they_should(real_data, folder):
    full_name, documents, queries, judgements = REAL[folder]
    dataset = load(folder, data_dir=real_data, offline=True)
    counts = (len(dataset.corpus), len(dataset.queries), sum(map(len, dataset.qrels.values())))
    assert dataset.name == full_name
    assert counts == (documents, queries, judgements)
    assert dataset.drop_own_ids is (folder == "arguana")
    lost = [warning for warning in dataset.warnings if "judged documents are not in the corpus" in warning]
    assert [text.split()[0] for text in lost] == (["5"] if folder == "arguana" else [])


@pytest.mark.real
def test_a_real_collection_has_the_same_fingerprint_gzipped(real_data, tmp_path):
    copy = tmp_path / "scifact"
    shutil.copytree(real_data / "scifact", copy, copy_function=shutil.copyfile)
    packed = gzip.compress((copy / "corpus.jsonl").read_bytes(), compresslevel=1)
    (copy / "corpus.jsonl").unlink()
    (copy / "corpus.jsonl.gz").write_bytes(packed)
    plain, gz = (load(str(folder), data_dir=tmp_path) for folder in (real_data / "scifact", copy))
    assert gz.corpus.paths[0].suffix == ".gz"
    assert (plain.corpus.fingerprint, plain.fingerprint) == (gz.corpus.fingerprint, gz.fingerprint)


@pytest.mark.real
def test_medquad_keeps_the_104th_query_out(real_data):
    assert len(read_queries(real_data / "medquad-liveqa" / "queries.jsonl")) == 104
