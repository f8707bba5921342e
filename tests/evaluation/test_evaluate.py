"""One evaluation: what is stored, what is kept, what is refused."""

import json
from unittest.mock import Mock

import pytest
from fakes import FakeRetriever

from llara_eval.core.errors import DataError, LlaraEvalError, UsageError
from llara_eval.datasets.dataset import Dataset
from llara_eval.datasets.load import load
from llara_eval.evaluation import evaluate as module
from llara_eval.evaluation import record
from llara_eval.evaluation.evaluate import evaluate
from llara_eval.scoring.measures import score
from llara_eval.scoring.statistics import mean_interval

DOCUMENTS = {f"d{i}": f"text {i}" for i in range(8)}
QUERIES = {"q1": "a", "q2": "b", "q3": "c", "unjudged": "d"}
QRELS = {"q1": {"d1": 1}, "q2": {"d2": 2, "d3": 1, "d0": 0}, "q3": {"d5": 1}}
SCORES = {
    "q1": {"d1": 0.9, "d2": 0.5, "d7": 0.1},
    "q2": {"d0": 0.7, "d2": 0.6, "d3": 0.6, "d4": 0.2},
}
"""q1 is perfect, q2 is not, q3 finds nothing."""
MEASURES = ["nDCG@10", "RR@10", "R@2"]


@pytest.fixture(autouse=True)
def same_provenance(monkeypatch):
    monkeypatch.setattr(module, "describe", lambda: {"date": "2025-01-01T00:00:00+00:00", "git": None})


@pytest.fixture
def dataset(make_collection, tmp_path) -> Dataset:
    return load(str(make_collection(DOCUMENTS, QUERIES, QRELS)), data_dir=tmp_path)


@pytest.fixture
def run(dataset, tmp_path):
    """Return a function that evaluates on the small collection, into ``tmp_path/runs``."""

    def go(retriever=None, data=dataset, runs="runs", **options):
        options = {"measures": MEASURES, "depth": 10, **options}
        return evaluate(retriever or FakeRetriever(SCORES), data, runs_dir=tmp_path / runs, **options)

    return go


def test_the_record_says_what_was_measured(run, dataset, tmp_path):
    outcome = run(settings_passed={"k1": "0.9"})
    result = outcome.result
    assert outcome.fresh
    assert outcome.folder == tmp_path / "runs" / "fake" / "tiny"
    assert (result.system, result.dataset, result.split) == ("fake", "tiny", "test")
    assert (result.n_queries, result.n_documents, result.depth) == (3, 8, 10)
    assert result.settings == {"k1": 0.9, "runtime": {"threads": 2}, "titles": 0}
    assert result.settings_passed == {"k1": "0.9"}
    assert result.dataset_fingerprint == dataset.fingerprint
    assert result.qrels_fingerprint == record.qrels_fingerprint(QRELS)
    assert result.run_sha256 == record.run_sha256(outcome.folder)
    assert result.phases["index"] == {"documents": 8}
    assert "score" in result.phases
    assert record.load(outcome.folder) == result


def test_means_are_over_all_judged_queries_and_a_missing_one_counts_as_zero(run):
    result = run().result
    assert result.n_queries == 3
    assert result.means["RR@10"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert result.means["R@2"] == pytest.approx((1 + 1 / 2 + 0) / 3), "of the tied d2 and d3, d3 comes first"
    stored = record.load_per_query(run().folder / record.PER_QUERY)
    assert stored.query_ids.tolist() == ["q1", "q2", "q3"]
    assert stored.values["nDCG@10"][[0, 2]].tolist() == [1.0, 0.0]


def test_the_stored_run_is_canonical(run):
    lines = [(query, docs.tolist()) for query, docs, _ in record.load_run(run().folder)]
    assert lines == [("q1", ["d1", "d2", "d7"]), ("q2", ["d0", "d3", "d2", "d4"])]


def test_scoring_the_stored_run_again_gives_the_same_values(run):
    outcome = run()
    again = score(QRELS, record.load_run(outcome.folder), MEASURES)
    stored = record.load_per_query(outcome.folder / record.PER_QUERY)
    assert again.means == outcome.result.means == stored.means
    for name in MEASURES:
        assert again.values[name].tolist() == stored.values[name].tolist()
        low, high = mean_interval(again.values[name])
        assert outcome.result.measures[name] == {"mean": again.means[name], "low": low, "high": high}


def test_two_evaluations_give_byte_identical_files(run):
    first, second = run(runs="one"), run(runs="two")
    for name in (record.RUN, record.PER_QUERY):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()


def test_the_same_evaluation_again_returns_the_kept_result(run):
    run()
    retriever = FakeRetriever(SCORES)
    outcome = run(retriever)
    assert not outcome.fresh
    assert (retriever.indexed, retriever.depths) == (0, [])


def test_runtime_settings_do_not_make_another_result(run):
    run()
    assert not run(FakeRetriever(SCORES, runtime={"threads": 64, "device": "cuda"})).fresh


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({"k1": 0.8}, {}, "k1 (0.9 before, 0.8 now)"),
        ({"analyzer": "x"}, {}, "analyzer (nothing before, x now)"),
        ({"templates": {"query": "a", "document": "b"}}, {}, "templates.document (nothing before, b now)"),
        ({}, {"depth": 11}, "depth (10 before, 11 now)"),
    ],
)
def test_a_result_of_other_settings_is_in_the_way(run, settings, options, message):
    run()
    retriever = FakeRetriever(SCORES, **settings)
    with pytest.raises(UsageError) as caught:
        run(retriever, **options)
    assert message in str(caught.value)
    assert "on_existing='always' to replace it" in str(caught.value)
    assert retriever.indexed == 0


def test_a_result_of_other_data_is_in_the_way(run, make_collection, tmp_path):
    run()
    changed = make_collection({**DOCUMENTS, "d8": "new"}, QUERIES, QRELS, name="other/tiny")
    with pytest.raises(UsageError, match=r"data set \([0-9a-f]{12} before, [0-9a-f]{12} now\)"):
        run(data=load(str(changed), data_dir=tmp_path))


def test_structured_settings_are_compared_as_they_read_back(run):
    run(FakeRetriever(SCORES, sizes=(1, 2)))
    assert not run(FakeRetriever(SCORES, sizes=(1, 2))).fresh
    with pytest.raises(UsageError, match="sizes"):
        run(FakeRetriever(SCORES, sizes=(1, 3)))


def test_always_replaces_and_never_keeps_whatever_is_there(run):
    first = run().result
    better = FakeRetriever({query: {doc: 1.0 for doc in docs} for query, docs in QRELS.items()}, k1=0.8)
    kept = run(better, on_existing="never")
    assert (kept.fresh, kept.result, better.indexed) == (False, first, 0)
    replaced = run(better, on_existing="always")
    assert (replaced.fresh, better.indexed) == (True, 1)
    assert record.load(replaced.folder).means["R@2"] > first.means["R@2"]


def test_a_result_is_kept_until_all_of_another_is_there(run, monkeypatch):
    first = run()
    before = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    broken = Mock(side_effect=LlaraEvalError("no space left"))
    monkeypatch.setattr("llara_eval.evaluation.record.write_json", broken)
    with pytest.raises(LlaraEvalError, match="no space left"):
        run(FakeRetriever(SCORES, k1=0.8), on_existing="always")
    assert {path.name: path.read_bytes() for path in first.folder.iterdir()} == before


def test_on_existing_never_measures_if_there_is_no_result(run):
    assert run(on_existing="never").fresh


def test_one_more_document_is_asked_for_to_see_ties_and_one_for_the_own_id(run):
    retriever = FakeRetriever(SCORES)
    run(retriever, depth=2, measures=["R@2"])
    assert retriever.depths == [4]


def test_other_measures_are_computed_from_the_stored_run(run):
    first = run(measures=["RR@10", "R@2"])
    files = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    retriever = FakeRetriever(SCORES)
    assert run(retriever, measures=["R@2"]).result == first.result
    assert {path.name: path.read_bytes() for path in first.folder.iterdir()} == files
    more = run(retriever, measures=["nDCG@10", "R@2"])
    assert (more.fresh, retriever.indexed) == (False, 0)
    assert more.result == record.load(more.folder)
    assert more.result.measures == run(runs="others", measures=["RR@10", "R@2", "nDCG@10"]).result.measures
    assert list(record.load_per_query(more.folder / record.PER_QUERY).values) == ["RR@10", "R@2", "nDCG@10"]
    assert (more.folder / record.RUN).read_bytes() == files[record.RUN]


def test_a_folder_that_is_not_writable_is_refused_before_any_work(run, tmp_path):
    (tmp_path / "file").write_text("")
    retriever = FakeRetriever(SCORES)
    with pytest.raises(LlaraEvalError, match="file"):
        run(retriever, runs="file/runs")
    assert retriever.indexed == 0


def test_measures_beyond_the_depth_are_left_out(run):
    outcome = run(depth=2)
    assert list(outcome.result.measures) == ["R@2"]
    assert all(len(docs) <= 2 for _, docs, _ in record.load_run(outcome.folder))
    with pytest.raises(UsageError, match="no measure has a cut-off within depth 1"):
        run(depth=1, runs="other")


def test_an_unknown_measure_is_refused_before_anything_is_indexed(run):
    retriever = FakeRetriever(SCORES)
    with pytest.raises(UsageError, match="'nGCD@10' is not a measure"):
        run(retriever, measures=["nGCD@10"])
    assert retriever.indexed == 0


def test_ties_at_10_are_counted_before_the_cut(run):
    scores = {"q1": {f"d{i}": 1.0 if i < 6 else 0.5 for i in range(8)}, "q2": {}}
    scores["q1"] |= {f"x{i}": 0.5 for i in range(4)}
    assert run(FakeRetriever(scores)).result.ties_at_10 == pytest.approx(1 / 3)


@pytest.mark.parametrize("drop", [True, False])
def test_own_ids_are_dropped_only_where_the_data_set_says_so(make_collection, tmp_path, monkeypatch, drop):
    from llara_eval.datasets import known as catalogue

    known = catalogue.KnownDataset(
        name="beir/own", folder="own", documents=3, queries=1, judgements=1, drop_own_ids=drop
    )
    monkeypatch.setattr(catalogue, "KNOWN", {known.name: known})
    folder = make_collection({"a": "1", "b": "2", "c": "3"}, {"a": "?"}, {"a": {"b": 1}}, name="own")
    retriever = FakeRetriever({"a": {"a": 3.0, "b": 2.0, "c": 1.0}})
    dataset = load(str(folder), data_dir=tmp_path)
    outcome = evaluate(retriever, dataset, runs_dir=tmp_path / "runs", measures=["RR@2"], depth=2)
    assert outcome.result.drop_own_ids is drop
    (ranking,) = [docs.tolist() for _, docs, _ in record.load_run(outcome.folder)]
    assert ranking == (["b", "c"] if drop else ["a", "b"])
    assert outcome.result.means == {"RR@2": 1.0 if drop else 0.5}


def test_a_score_that_is_not_a_number_stores_nothing(run, tmp_path):
    with pytest.raises(DataError, match="query 'q1' document 'd1'"):
        run(FakeRetriever({"q1": {"d1": float("nan")}}))
    assert not list((tmp_path / "runs").rglob("*.*"))


def test_a_system_that_finds_nothing_at_all_is_refused(run, tmp_path):
    with pytest.raises(LlaraEvalError, match="no document for any query"):
        run(FakeRetriever({}))
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.parametrize("doc_id", ["d\t1", "d1\n", " d1", ""])
def test_a_document_that_would_break_the_run_file_is_refused(run, tmp_path, doc_id):
    with pytest.raises(DataError, match=r"fake found .*, which is not the identifier of any document"):
        run(FakeRetriever({"q1": {doc_id: 1.0, "d1": 0.5}}))
    assert not list(tmp_path.rglob("result.json"))


def test_a_hostile_system_name_stays_inside_the_runs_folder(run, tmp_path):
    outcome = run(FakeRetriever(SCORES, name="../../evil\tname"))
    assert outcome.folder.resolve().parent.parent == (tmp_path / "runs").resolve()
    assert json.loads((outcome.folder / "result.json").read_text())["system"] == "../../evil\tname"
    assert record.load_run(outcome.folder).doc_ids.tolist()[0] == "d1", "the tag does not break the columns"


def test_warnings_of_the_data_are_kept_with_the_result(make_collection, run, tmp_path):
    folder = make_collection(DOCUMENTS, QUERIES, {**QRELS, "q1": {"gone": 1}}, name="lossy")
    dataset = load(str(folder), data_dir=tmp_path)
    assert "1 judged documents are not in the corpus" in " ".join(run(data=dataset).result.warnings)
