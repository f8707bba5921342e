"""Our measures beside pytrec_eval, ir_measures and BEIR: equal where those are right."""

import copy
import shutil

import ir_measures
import numpy as np
import pytest
import pytrec_eval
import torch
from beir.retrieval.custom_metrics import hole, recall_cap
from beir.retrieval.evaluation import EvaluateRetrieval
from beir.retrieval.search.dense import DenseRetrievalExactSearch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import oracle
from stores import search, store_vectors

from llara_eval.core.errors import DataError
from llara_eval.core.types import Hits
from llara_eval.scoring.formulas import FORMULAS
from llara_eval.scoring.measures import DEFAULT_MEASURES, score
from llara_eval.scoring.ranking import rank

pytestmark = pytest.mark.parity

PYTREC_NAMES = {"nDCG@10": "ndcg_cut_10", "R@100": "recall_100", "R@1000": "recall_1000", "RR": "recip_rank"}
MEASURES = [*DEFAULT_MEASURES, "RR"]


def rank_of(results, *, depth=1000, drop_own_ids=False):
    """Rank query → document → score, the form in which the other tools take a run."""
    rows = ((query_id, doc_id, value) for query_id, docs in results.items() for doc_id, value in docs.items())
    return rank(Hits.of_rows(rows, results), depth=depth, drop_own_ids=drop_own_ids)


def as_results(run):
    return {query_id: dict(zip(docs, scores.tolist(), strict=True)) for query_id, docs, scores in run}


def per_query(qrels, run, measures):
    scores = score(qrels, run, measures)
    rows = zip(*(scores.values[name].tolist() for name in measures), strict=True)
    return {
        query_id: dict(zip(measures, row, strict=True))
        for query_id, row in zip(scores.query_ids, rows, strict=True)
    }


def pytrec(qrels, results):
    values = pytrec_eval.RelevanceEvaluator(qrels, set(PYTREC_NAMES.values())).evaluate(results)
    return {q: {name: row[theirs] for name, theirs in PYTREC_NAMES.items()} for q, row in values.items()}


def random_case(seed, levels):
    """Make judgements with grades -1 to 3 and results whose scores have ``levels`` values (None: no ties)."""
    rng = np.random.default_rng(seed)
    pool = [f"{prefix}{i}" for i in range(400) for prefix in ("d", "é", "\U0001f600")]
    qrels, results = {}, {}
    for number in range(25):
        size = int(rng.choice([1, 3, 9, 10, 11, 101, 700]))
        docs = rng.permutation(pool)[:size].tolist()
        values = rng.permutation(size) if levels is None else rng.integers(0, levels, size)
        results[f"q{number}"] = dict(zip(docs, (values / 8 - 1).tolist(), strict=True))
        judged = [*rng.permutation(docs)[: 1 + size // 4].tolist(), *rng.permutation(pool)[:20].tolist()]
        grades = rng.integers(-1, 4, len(judged)) if number else np.zeros(len(judged), int)
        qrels[f"q{number}"] = dict(zip(judged, grades.tolist(), strict=True))
    return qrels, results


def close(values):
    return {query_id: pytest.approx(row, abs=1e-12, rel=0) for query_id, row in values.items()}


CASES = [(seed, levels) for seed in range(2) for levels in (None, 1, 3, 40)]


@pytest.mark.parametrize(("seed", "levels"), CASES)
def test_equals_pytrec_eval_on_every_query(seed, levels) -> None:
    qrels, results = random_case(seed, levels)
    ours = per_query(qrels, rank_of(results), list(PYTREC_NAMES))
    assert ours == close(pytrec(qrels, as_results(rank_of(results)))), "on our ranking"
    assert ours == close(pytrec(qrels, results)), "on the raw scores: our tie rule is trec_eval's"


@pytest.mark.parametrize(("seed", "levels"), CASES)
def test_equals_the_definitions_on_every_query(seed, levels) -> None:
    qrels, results = random_case(seed, levels)
    del results["q3"], qrels["q4"]
    assert per_query(qrels, rank_of(results), MEASURES) == close(oracle(qrels, results, MEASURES))


BY_FORMULA = [
    *("nDCG", "nDCG@1", "nDCG@3", "nDCG@10", "RR", "RR@1", "RR@3", "RR(rel=2)", "RR(rel=2)@3"),
    *("R@1", "R@3", "R@1000", "R(rel=2)@3", "P@1", "P@5", "P(rel=3)@3", "AP", "AP@1", "AP@3", "AP(rel=2)"),
    *("AP(rel=2)@3", "Success@1", "Success@3", "Success(rel=3)@5", "Judged", "Judged@1", "Judged@10"),
]
DOCS = st.sampled_from([*"abcdefghijkl", "é", "10", "9"])
GRADES = st.integers(-2, 4)


@st.composite
def judged_runs(draw):
    """Draw judgements of up to five queries, and rankings of some of these and of another one."""
    queries = draw(st.lists(st.sampled_from(["q1", "q2", "q3", "é", "10"]), min_size=1, unique=True))
    qrels = {query_id: draw(st.dictionaries(DOCS, GRADES, min_size=1)) for query_id in queries}
    answered = draw(st.lists(st.sampled_from([*queries, "unjudged"]), unique=True))
    return qrels, {query_id: draw(st.lists(DOCS, min_size=1, unique=True)) for query_id in answered}


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(judged_runs())
def test_each_formula_is_ir_measures_own_to_the_last_bit(case) -> None:
    qrels, rankings = case
    run = rank_of({q: {doc: -float(i) for i, doc in enumerate(docs)} for q, docs in rankings.items()})
    if not qrels.keys() & rankings.keys():
        if rankings:
            with pytest.raises(DataError, match="no judged query"):
                score(qrels, run, BY_FORMULA)
        return
    scores = score(qrels, run, BY_FORMULA)
    clamped = {q: {doc: max(grade, 0) for doc, grade in docs.items()} for q, docs in qrels.items()}
    theirs = {name: {} for name in BY_FORMULA}
    parsed = {ir_measures.parse_measure(name): name for name in BY_FORMULA}
    for metric in ir_measures.iter_calc(list(parsed), clamped, as_results(run)):
        theirs[parsed[metric.measure]][metric.query_id] = metric.value
    for name, column in scores.values.items():
        assert dict(zip(scores.query_ids, column.tolist(), strict=True)) == theirs[name], name


def test_the_formulas_are_all_compared() -> None:
    assert {ir_measures.parse_measure(name).NAME for name in BY_FORMULA} == set(FORMULAS) - {"R_cap"}


@pytest.mark.parametrize(("seed", "levels"), CASES)
def test_capped_recall_and_holes_are_those_of_beir(seed, levels) -> None:
    qrels, results = random_case(seed, levels)
    qrels = {query_id: {**grades, "relevant": 1} for query_id, grades in qrels.items()}  # beir divides by 0
    run = rank_of(results)
    for cutoff in (1, 10, 100):
        theirs = {
            **recall_cap(qrels, as_results(run), [cutoff]),
            **hole(qrels, as_results(run), [cutoff]),
        }
        means = score(qrels, run, list(theirs)).means
        assert means == pytest.approx(theirs, abs=0.5001e-5, rel=0)


@pytest.mark.skipif(shutil.which("perl") is None, reason="gdeval is a Perl program")
@pytest.mark.parametrize(("seed", "levels"), CASES[:3])
def test_exponential_gains_are_those_of_gdeval(seed, levels) -> None:
    qrels, results = random_case(seed, levels)
    qrels = {str(number): grades for number, grades in enumerate(qrels.values())}  # gdeval reads numbers
    run = rank_of({str(number): docs for number, docs in enumerate(results.values())})
    name = "nDCG(dcg='exp-log2')@10"
    (provider,) = (item for item in ir_measures.providers.registry.values() if item.NAME == "gdeval")
    measure = ir_measures.parse_measure(name)
    theirs = {row.query_id: row.value for row in provider.iter_calc([measure], qrels, as_results(run))}
    scores = score(qrels, run, [name])
    ours = dict(zip(scores.query_ids, scores.values[name].tolist(), strict=True))
    assert {query_id: ours[query_id] for query_id in theirs} == pytest.approx(theirs, abs=0.5001e-5)
    assert sum(theirs.values()) > 0


@pytest.mark.parametrize(("seed", "levels"), CASES)
def test_equals_beir_where_every_query_is_answered(seed, levels) -> None:
    qrels, results = random_case(seed, levels)
    ndcg, _, recall, _ = EvaluateRetrieval.evaluate(qrels, copy.deepcopy(results), [10, 100, 1000])
    theirs = {"nDCG@10": ndcg["NDCG@10"], "R@100": recall["Recall@100"], "R@1000": recall["Recall@1000"]}
    means = score(qrels, rank_of(results), list(theirs)).means
    assert means == pytest.approx(theirs, abs=0.5001e-5, rel=0)


def test_beir_means_over_answered_queries_ours_over_judged() -> None:
    qrels, results = {"q1": {"a": 1}, "q2": {"b": 1}}, {"q1": {"a": 1.0}}
    ndcg, _, recall, _ = EvaluateRetrieval.evaluate(qrels, copy.deepcopy(results), [10])
    assert (ndcg["NDCG@10"], recall["Recall@10"]) == (1.0, 1.0)
    assert score(qrels, rank_of(results), ["nDCG@10", "R@10"]).means == {"nDCG@10": 0.5, "R@10": 0.5}


def test_beir_changes_the_callers_results_ours_leaves_them() -> None:
    qrels, results = {"q1": {"q1": 1, "a": 1}}, {"q1": {"q1": 2.0, "a": 1.0}}
    theirs = copy.deepcopy(results)
    EvaluateRetrieval.evaluate(qrels, theirs, [10])
    assert theirs == {"q1": {"a": 1.0}}
    run = rank_of(results)
    before = as_results(run)
    score(qrels, run, DEFAULT_MEASURES)
    assert as_results(run) == before


def test_own_ids_dropped_everywhere_cost_a_perfect_run_where_ids_merely_collide() -> None:
    qrels = {str(query): {str(10 * query): 1, str(query): 1} for query in range(1, 11)}
    results = {query_id: {doc_id: 1.0 for doc_id in docs} for query_id, docs in qrels.items()}
    ndcg, _, recall, _ = EvaluateRetrieval.evaluate(qrels, copy.deepcopy(results), [10])
    assert (ndcg["NDCG@10"], recall["Recall@10"]) == (pytest.approx(0.61315, abs=1e-5), 0.5)
    assert score(qrels, rank_of(results), ["nDCG@10", "R@10"]).means == {"nDCG@10": 1.0, "R@10": 1.0}
    dropped = rank_of(results, drop_own_ids=True)
    assert score(qrels, dropped, ["R@10"]).means == {"R@10": 0.5}, "the rule is for data sets that declare it"


class _Model:
    """Returns given vectors, as the model of BEIR's search."""

    def __init__(self, queries, docs):
        self.queries, self.docs = torch.tensor(queries), torch.tensor(docs)

    def encode_queries(self, texts, **_):
        return self.queries[: len(texts)]

    def encode_corpus(self, corpus, **_):
        return self.docs[[int(doc["text"]) for doc in corpus]]


def beir_search(queries, docs, depth=10):
    corpus = {f"d{i}": {"text": str(i)} for i in range(len(docs))}
    searcher = DenseRetrievalExactSearch(_Model(queries, docs))
    return searcher.search(corpus, {f"q{i}": "" for i in range(len(queries))}, depth, "dot")


def our_search(folder, queries, docs, depth=10):
    stores = [
        store_vectors(
            folder, [f"{letter}{i}" for i in range(len(vectors))], np.array(vectors), [len(vectors)], letter
        )
        for letter, vectors in (("q", queries), ("d", docs))
    ]
    return rank(search(*stores, depth), depth=depth)


def test_beir_search_crashes_on_a_single_query_ours_answers(tmp_path) -> None:
    queries, docs = [[1.0, 0.0]], [[1.0, 0.0], [0.5, 0.0], [2.0, 0.0]]
    with pytest.raises(IndexError):
        beir_search(queries, docs)
    assert as_results(our_search(tmp_path, queries, docs)) == {"q0": {"d2": 2.0, "d0": 1.0, "d1": 0.5}}


def test_beir_search_turns_nan_into_minus_one_ours_refuses(tmp_path) -> None:
    queries, docs = [[1.0, 0.0], [1.0, 0.0]], [[float("nan"), 0.0], [-2.0, 0.0]]
    theirs = beir_search(queries, docs)
    assert theirs["q0"] == {"d0": -1.0, "d1": -2.0}, "a broken vector outranks a sound one"
    with pytest.raises(DataError):
        our_search(tmp_path, queries, docs)
    with pytest.raises(DataError, match=r"query 'q0' document 'd0' \(nan\)"):
        rank_of({"q0": {"d0": float("nan"), "d1": -2.0}})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_beir_evaluates_a_score_that_is_no_number_ours_refuses(value) -> None:
    qrels, results = {"q": {"a": 1}}, {"q": {"a": value, "b": 1.0}}
    ndcg, *_ = EvaluateRetrieval.evaluate(qrels, copy.deepcopy(results), [10])
    assert ndcg["NDCG@10"] > 0, "a value like any other"
    with pytest.raises(DataError, match="query 'q' document 'a'"):
        rank_of(results)


def test_ir_measures_disagrees_with_itself_on_ties_not_on_our_ranking() -> None:
    results = {"q": {f"d{i:02}": 1.0 for i in range(21)}}
    measures = [ir_measures.RR @ 10, ir_measures.nDCG @ 10]
    for doc_id, raw, ours in (("d00", [1.0, 0.0], [0.0, 0.0]), ("d20", [0.0, 1.0], [1.0, 1.0])):
        qrels = {"q": {doc_id: 1}}
        theirs = ir_measures.calc_aggregate(measures, qrels, results)
        assert [theirs[measure] for measure in measures] == raw
        canonical = ir_measures.calc_aggregate(measures, qrels, as_results(rank_of(results)))
        assert [canonical[measure] for measure in measures] == ours
        assert list(score(qrels, rank_of(results), ["RR@10", "nDCG@10"]).means.values()) == ours


def test_pytrec_eval_ties_what_differs_beyond_float32_as_our_ranking_does() -> None:
    results = {"q": {"z": 1.0, "a": 1.0 + 1e-9}}
    qrels = {"q": {"a": 1}}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(results)
    assert theirs["q"]["recip_rank"] == 0.5, "the better document comes second"
    run = rank_of(results)
    assert (list(run.doc_ids), run.ties_next.tolist()) == (["z", "a"], [True, False])
    again = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(as_results(run))
    assert again["q"]["recip_rank"] == score(qrels, run, ["RR"]).means["RR"] == 0.5
    in_float64 = ir_measures.calc_aggregate([ir_measures.RR @ 10], qrels, results)
    assert in_float64[ir_measures.RR @ 10] == 1.0, "another tool compares the same scores in float64"


def test_every_tool_sees_one_ranking_through_our_scores() -> None:
    qrels, results = random_case(9, 2)
    run = rank_of(results)
    for shuffled in (as_results(run), {q: dict(sorted(d.items())) for q, d in as_results(run).items()}):
        for query_id, docs, _ in run:
            by_score = sorted(shuffled[query_id], key=shuffled[query_id].__getitem__, reverse=True)
            assert by_score == list(docs)
        assert per_query(qrels, rank_of(shuffled), MEASURES) == per_query(qrels, run, MEASURES)
