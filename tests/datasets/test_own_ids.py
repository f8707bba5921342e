"""Queries with the id of a document: counted, said, dropped or kept; and parts of data sets."""

import json
import shutil

import pytest

from llara_eval.core.errors import UsageError
from llara_eval.core.types import Hits, as_ids
from llara_eval.datasets import known as catalogue
from llara_eval.datasets.dataset import Dataset
from llara_eval.datasets.folder import corpus_of
from llara_eval.datasets.known import KnownDataset
from llara_eval.datasets.limited import POOL, whole_name
from llara_eval.datasets.load import judgements, load
from llara_eval.evaluation.audit import audit
from llara_eval.evaluation.evaluate import evaluate
from llara_eval.evaluation.suite import Conditions, evaluate_all

DOCUMENTS = {"a": "one", "b": ("Title", "two"), "c": "three", "d": "four"}
QUERIES = {"a": "one", "b": "other words", "q": "four"}
QRELS = {"a": {"c": 1}, "b": {"c": 1, "d": 0}, "q": {"d": 1}}


class Overlap:
    """A system that finds the documents with the most common letters."""

    name, settings = "overlap", {}

    def __init__(self):
        self.phases = {}

    def index(self, corpus, progress=None):
        self.documents = list(corpus)

    def search(self, queries, depth, progress=None):
        rows = [
            (query.query_id, document.doc_id, len(set(query.text) & set(document.contents)))
            for query in queries
            for document in self.documents
        ]
        return Hits.of_rows(rows, as_ids(query.query_id for query in queries))


@pytest.fixture
def folder(make_collection):
    return make_collection(DOCUMENTS, QUERIES, QRELS, name="mine")


def open_folder(folder, **choice) -> Dataset:
    return load(str(folder), data_dir=folder.parent / "nowhere", offline=True, **choice)


COUNTED = "2 queries have the id of a document (1 of them its text, too)"


def test_own_ids_are_counted_and_kept_with_a_warning(folder):
    dataset = open_folder(folder)
    assert (dataset.name, dataset.drop_own_ids) == ("mine", False)
    assert dataset.warnings == (
        f"{COUNTED}; these documents stay in the rankings of their queries; --own-ids drop leaves them out",
    )


def test_own_ids_are_dropped_on_request_and_the_name_says_so(folder):
    dataset = open_folder(folder, own_ids="drop")
    assert (dataset.name, dataset.drop_own_ids) == ("mine+own-ids-drop", True)
    assert dataset.warnings == (
        f"{COUNTED}; these documents are left out of the rankings of their queries, as --own-ids drop says",
    )
    kept = open_folder(folder, own_ids="keep")
    assert (kept.name, kept.drop_own_ids) == ("mine", False)
    assert kept.warnings[0].endswith("stay in the rankings of their queries, as --own-ids keep says")


def test_a_set_without_own_ids_has_no_warning(make_collection):
    folder = make_collection(DOCUMENTS, {"q": "four"}, {"q": QRELS["q"]}, name="mine")
    assert open_folder(folder).warnings == open_folder(folder, own_ids="drop").warnings == ()


def known(monkeypatch, folder, **facts) -> None:
    ids = corpus_of(folder).scan().ids
    public = KnownDataset(name="beir/twin", folder="twin", ids=ids, documents=4, queries=3, drop_own_ids=True)
    monkeypatch.setattr(catalogue, "KNOWN", {public.name: public})


def test_the_documents_of_a_public_set_bring_its_rule_whatever_the_folder_and_the_queries(
    folder, monkeypatch
):
    known(monkeypatch, folder)
    lines = (folder / "corpus.jsonl").read_text().splitlines(keepends=True)
    (folder / "corpus.jsonl").write_text("".join(reversed(lines)))
    dataset = open_folder(folder)
    assert (dataset.name, dataset.drop_own_ids) == ("mine", True)
    assert dataset.warnings[0].endswith("of their queries, as in beir/twin, whose documents these are")
    kept = open_folder(folder, own_ids="keep")
    assert (kept.name, kept.drop_own_ids) == ("mine+own-ids-keep", False)
    (folder / "corpus.jsonl").write_text("".join(lines[1:]))
    assert not open_folder(folder).drop_own_ids, "other documents"


def test_a_public_set_itself_says_nothing_unless_its_rule_is_changed(folder, monkeypatch):
    known(monkeypatch, folder)
    twin = folder.rename(folder.parent / "twin")
    dataset = open_folder(twin)
    assert (dataset.name, dataset.drop_own_ids, dataset.warnings) == ("beir/twin", True, ())
    kept = open_folder(twin, own_ids="keep")
    assert (kept.name, kept.drop_own_ids) == ("beir/twin+own-ids-keep", False)
    assert len(kept.warnings) == 1


def test_memory_declares_its_own_rule(folder):
    for declared in (True, False):
        dataset = Dataset.from_memory(DOCUMENTS, QUERIES, QRELS, drop_own_ids=declared)
        assert (dataset.name, dataset.drop_own_ids, dataset.warnings) == ("memory", declared, ())
    assert COUNTED in Dataset.from_memory(DOCUMENTS, QUERIES, QRELS).warnings[0]


def test_results_of_either_rule_are_kept_apart_and_can_be_audited(folder, tmp_path):
    runs = tmp_path / "runs"
    kept, dropped = (
        evaluate(Overlap(), open_folder(folder, own_ids=choice), runs_dir=runs) for choice in ("keep", "drop")
    )
    assert [outcome.folder.name for outcome in (kept, dropped)] == ["mine", "mine+own-ids-drop"]
    assert COUNTED in kept.result.warnings[0]
    assert (kept.result.drop_own_ids, dropped.result.drop_own_ids) == (False, True)
    assert kept.means["RR@10"] < dropped.means["RR@10"]
    for outcome in (kept, dropped):
        verdict = audit(outcome.folder, outcome.result, folder.parent)
        assert (verdict.scored, verdict.problems) == (True, ())


def test_the_rule_is_a_condition_of_a_stored_result(tmp_path):
    one, other = (
        Dataset.from_memory(DOCUMENTS, QUERIES, QRELS, drop_own_ids=value) for value in (True, False)
    )
    evaluate(Overlap(), one, runs_dir=tmp_path)
    with pytest.raises(UsageError, match=r"own ids dropped \(True before, False now\)"):
        evaluate(Overlap(), other, runs_dir=tmp_path)


@pytest.mark.real
def test_arguana_in_another_folder_with_25_queries_is_arguana(real_data, tmp_path):
    arguana, folder = real_data / "arguana", tmp_path / "other"
    shutil.copytree(arguana, folder)
    rows = (arguana / "qrels" / "test.tsv").read_text().splitlines(keepends=True)
    (folder / "qrels" / "test.tsv").write_text("".join(rows[:26]))
    dataset = open_folder(folder)
    assert dataset.drop_own_ids
    assert dataset.name == "other"
    assert any("as in beir/arguana, whose documents these are" in text for text in dataset.warnings)


@pytest.mark.real
@pytest.mark.parametrize("name", ["arguana", "scifact"])
def test_documents_are_recognised_by_their_ids(real_data, name):
    assert corpus_of(real_data / name).scan().ids == catalogue.KNOWN[f"beir/{name}"].ids


@pytest.fixture
def large(make_collection):
    documents = {f"d{row}": f"text {row}" for row in range(900)}
    queries = {f"q{row}": f"query {row}" for row in range(20)}
    qrels = {f"q{row}": {f"d{row}": 1, f"d{row + 1}": 0} for row in range(20)}
    return make_collection(documents, queries, qrels, name="large")


def test_a_part_has_some_queries_with_all_they_are_judged_by_and_a_pool(large):
    dataset = open_folder(large, limit=5)
    assert dataset.name == "large+limit-5"
    assert len(dataset.queries) == len(dataset.qrels) == 5
    ids = [document.doc_id for document in dataset.corpus]
    judged = {doc_id for grades in dataset.qrels.values() for doc_id in grades}
    assert judged <= set(ids)
    assert len(ids) == len(set(ids)) == 5 * POOL + len(judged)
    assert ids == sorted(ids, key=lambda name: int(name[1:])), "in the order of the file"
    assert dataset.warnings == (
        f"5 of 20 queries and {len(ids)} of 900 documents: the values are comparable with those of the same "
        "part alone",
    )
    again = open_folder(large, limit=5)
    assert again.fingerprint == dataset.fingerprint
    more = open_folder(large, limit=8)
    assert dataset.qrels.keys() < more.qrels.keys()


def test_a_limit_beyond_the_queries_is_the_whole_set(large):
    dataset = open_folder(large, limit=20)
    assert (dataset.name, len(dataset.corpus), dataset.warnings) == ("large", 900, ())


@pytest.mark.parametrize("limit", [0, -5])
def test_a_limit_of_no_query_is_refused(large, limit):
    with pytest.raises(UsageError, match=f"a limit of {limit} queries; expected at least 1"):
        open_folder(large, limit=limit)


def test_a_part_of_a_public_set_is_measured_like_it_and_is_no_member_of_a_group(large, monkeypatch):
    facts = {"documents": 900, "queries": 20, "judgements": 40, "depth": 7, "groups": ("beir-13",)}
    public = KnownDataset(name="beir/large", folder="large", **facts)
    monkeypatch.setattr(catalogue, "KNOWN", {public.name: public})
    dataset = open_folder(large, limit=3)
    assert (dataset.name, dataset.depth, dataset.mismatch) == ("beir/large+limit-3", 7, None)
    assert catalogue.find(dataset.name) is None
    with (large / "corpus.jsonl").open("a") as file:
        file.write(json.dumps({"_id": "more", "text": "text"}) + "\n")
    assert open_folder(large, limit=3).name == "large+limit-3", "it is not the public set"


def test_results_of_a_part_can_be_audited(large, tmp_path):
    outcomes, _ = evaluate_all(
        [Overlap()], [str(large)], Conditions(limit=4, runs_dir=tmp_path / "runs", data_dir=tmp_path)
    )
    (outcome,) = outcomes
    assert (outcome.result.dataset, outcome.result.n_queries) == ("large+limit-4", 4)
    verdict = audit(outcome.folder, outcome.result, large.parent)
    assert (verdict.scored, verdict.problems) == (True, ())
    assert len(judgements("large+limit-4", "test", data_dir=large.parent)) == 4


def test_the_whole_of_a_part_is_in_its_name():
    assert whole_name("beir/fever+limit-100") == ("beir/fever", 100)
    assert whole_name("mine+limit-7+own-ids-keep") == ("mine", 7)
    assert whole_name("mine+own-ids-drop") == ("mine", None)
    for name in ("mine", "mine+limit-0", "mine+mteb", "+limit-3"):
        assert whole_name(name) == (name, None)
