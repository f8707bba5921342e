import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llara_eval.core.errors import DataError
from llara_eval.core.types import Hits, as_ids
from llara_eval.scoring.ranking import rank, strictly_decreasing

DENORMAL = float(np.nextafter(np.float32(0), np.float32(1)))
LARGEST = float(np.finfo(np.float32).max)

quiet = settings(max_examples=150, deadline=None, derandomize=True, database=None)
identifiers = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3)
scores = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, DENORMAL, -DENORMAL, 1.0 - 2**-24]) | st.floats(
    min_value=-(2.0**126), max_value=LARGEST, width=32
)
rankings = st.dictionaries(identifiers, st.dictionaries(identifiers, scores, max_size=15), max_size=4)


def as_hits(scores, order=None) -> Hits:
    """Turn query → document → score into hits; ``order`` shuffles them."""
    rows = [(query, doc, score) for query, docs in scores.items() for doc, score in docs.items()]
    if order is not None:
        order.shuffle(rows)
    return Hits.of_rows(rows, scores)


def ranked(scores, depth=1000, drop_own_ids=False, order=None):
    run = rank(as_hits(scores, order), depth=depth, drop_own_ids=drop_own_ids)
    return {query_id: list(zip(docs, values.tolist(), strict=True)) for query_id, docs, values in run}


def order_of(docs, **options) -> list[str]:
    return [doc_id for doc_id, _ in ranked({"q": docs}, **options)["q"]]


def scores_of(docs) -> list[float]:
    return [score for _, score in ranked({"q": docs})["q"]]


def naive(docs, depth=1000):
    """Rank one query naively: sort, then lower a tied score by one step below the document before."""
    ranking = []
    for doc_id, score in sorted(docs.items(), key=lambda row: (row[1], row[0].encode()), reverse=True)[
        :depth
    ]:
        value = np.float32(score)
        if ranking and value >= np.float32(ranking[-1][1]):
            value = np.nextafter(np.float32(ranking[-1][1]), np.float32(-np.inf))
        ranking.append((doc_id, float(value)))
    return ranking


def ties_at(docs_by_query, cutoff=10, **options) -> float:
    return rank(as_hits(docs_by_query), **options).ties_at(cutoff)


def tied(size, *ranks):
    """Make a ranking of ``size`` documents in which the document at each given rank ties with the next."""
    docs, score = {}, 0.0
    for position in range(1, size + 1):
        docs[f"d{999 - position}"] = score
        score -= position not in ranks
    return docs


def test_larger_scores_come_first() -> None:
    assert order_of({"a": -1, "b": 3, "c": 0.5, "d": 2}) == ["b", "d", "c", "a"]


def test_ties_go_to_the_larger_id_as_byte_string() -> None:
    ids = ["10", "9", "a", "B", "", "é", "e\u0301", "z", "\uffff", "\U0001f600", "中", "a b", "a"]
    expected = sorted(set(ids), key=str.encode, reverse=True)
    assert expected.index("\U0001f600") < expected.index("\uffff"), "UTF-16 order would differ here"
    assert expected.index("é") < expected.index("z"), "a dictionary's order would differ here"
    assert order_of(dict.fromkeys(ids, 1.0)) == expected


def test_zero_and_negative_zero_are_a_tie() -> None:
    assert order_of({"a": 0.0, "b": -0.0}) == ["b", "a"]
    assert order_of({"a": -0.0, "b": 0.0}) == ["b", "a"]
    assert scores_of({"a": 0.0, "b": -0.0}) == [0.0, -DENORMAL]


@pytest.mark.parametrize("score", [1.0, -1.0, 0.0, -0.0, 2 * DENORMAL, -2 * DENORMAL, LARGEST, 1e-38])
def test_a_tie_is_lowered_by_single_steps(score) -> None:
    first, second, third, fourth, fifth = np.array(scores_of(dict.fromkeys("abcde", score)), np.float32)
    assert first == np.float32(score)
    below = np.float32(-np.inf)
    assert [second, third] == [np.nextafter(first, below), np.nextafter(second, below)]
    assert [fourth, fifth] == [np.nextafter(third, below), np.nextafter(fourth, below)]


def test_a_huge_run_of_ties_stays_strict_and_in_order() -> None:
    docs = {f"{i:06d}": 0.25 for i in range(100_000)} | {"above": 0.5, "below": 0.125}
    ranking = ranked({"q": docs}, depth=200_000)["q"]
    assert [doc_id for doc_id, _ in ranking] == [
        "above",
        *(f"{i:06d}" for i in reversed(range(100_000))),
        "below",
    ]
    assert (np.diff(np.array([score for _, score in ranking], dtype=np.float32)) < 0).all()
    assert (ranking[0][1], ranking[1][1], ranking[-1][1]) == (0.5, 0.25, 0.125)


def test_scores_without_ties_are_unchanged() -> None:
    values = np.unique(np.random.default_rng(0).standard_normal(5000).astype(np.float32))[::-1]
    assert (strictly_decreasing(values, np.array([0, len(values)])) == values).all()


def test_a_lowered_score_pushes_a_close_neighbour_down() -> None:
    close = float(np.nextafter(np.float32(1), np.float32(0)))
    run = rank(as_hits({"q": {"a": 1.0, "b": 1.0, "c": close}}), depth=3)
    assert list(run.doc_ids) == ["b", "a", "c"]
    assert (np.diff(run.scores) < 0).all()
    assert run.ties_next.tolist() == [True, False, False], "the true scores decide what is a tie"


def test_each_query_is_on_its_own() -> None:
    rankings = ranked({"q1": {"a": 1.0, "b": 0.5}, "q2": {"b": 0.5, "a": 0.5}, "q3": {"c": 0.5}})
    assert rankings["q1"] == [("a", 1.0), ("b", 0.5)]
    assert rankings["q2"][0] == ("b", 0.5)
    assert rankings["q3"] == [("c", 0.5)]


def test_no_room_below_the_smallest_score_is_an_error() -> None:
    with pytest.raises(DataError, match="too close to the smallest"):
        ranked({"q": {"a": -LARGEST, "b": -LARGEST}})


@quiet
@given(rankings, st.integers(1, 12))
def test_equals_the_naive_rule(scores, depth) -> None:
    assert ranked(scores, depth) == {query_id: naive(docs, depth) for query_id, docs in scores.items()}


@quiet
@given(rankings, st.randoms(use_true_random=False), st.integers(1, 12))
def test_input_order_does_not_matter(scores, order, depth) -> None:
    assert ranked(scores, depth, order=order) == ranked(scores, depth)
    one, other = (rank(as_hits(scores, shuffle), depth=depth) for shuffle in (None, order))
    assert one.ties_next.tolist() == other.ties_next.tolist()


@quiet
@given(rankings)
def test_ranking_twice_changes_nothing(scores) -> None:
    once = ranked(scores)
    assert ranked({query_id: dict(docs) for query_id, docs in once.items()}) == once


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_names_query_and_document(value) -> None:
    with pytest.raises(DataError, match=rf"^1 scores .*'the query'.*'the document' \({value}\)$"):
        ranked({"other": {"a": 1.0}, "the query": {"b": 1.0, "the document": value}})


def test_many_bad_scores_are_counted_and_a_few_named() -> None:
    with pytest.raises(DataError, match=r"^7 scores") as caught:
        ranked({"q": {f"d{i}": float("nan") for i in range(7)}})
    assert str(caught.value).count("document") == 3


@pytest.mark.parametrize("second_score", [1.0, 0.5])
def test_a_document_found_twice_is_an_error(second_score) -> None:
    rows = [("q1", "b", 1), ("q1", "c", 1), ("q2", "b", 1), ("q2", "a", 2), ("q2", "b", second_score)]
    with pytest.raises(DataError, match=r"document 'b' .* query 'q2' \(1 such"):
        rank(Hits.of_rows(rows), depth=1)


def test_a_document_is_its_id_whatever_row_it_stands_in() -> None:
    def hits(*query):
        rows = np.arange(3)
        return Hits(as_ids(["q", "a"]), as_ids(["a", "b", "a"]), np.array(query), rows, np.float32([2, 1, 1]))

    run = rank(hits(0, 0, 1), depth=9)
    assert [(query_id, list(docs)) for query_id, docs, _ in run] == [("q", ["a", "b"]), ("a", ["a"])]
    assert list(rank(hits(0, 0, 1), depth=9, drop_own_ids=True).doc_ids) == ["a", "b"]
    with pytest.raises(DataError, match=r"document 'a' .* query 'q' \(1 such"):
        rank(hits(0, 0, 0), depth=9)


def test_queries_without_hits_keep_an_empty_ranking_in_their_place() -> None:
    run = rank(as_hits({"q3": {}, "q1": {"a": 1.0}, "q2": {}}), depth=10)
    assert [(query_id, list(docs)) for query_id, docs, _ in run] == [("q3", []), ("q1", ["a"]), ("q2", [])]
    assert ranked({"q": {}}) == {"q": []}
    assert ranked({}) == {}


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_depth_cuts_each_query(depth) -> None:
    rankings = ranked({"q1": {"a": 1, "b": 2, "c": 3}, "q2": {"a": 1}}, depth)
    assert [doc_id for doc_id, _ in rankings["q1"]] == ["c", "b", "a"][:depth]
    assert rankings["q2"] == [("a", 1.0)]


def test_own_id_is_dropped_and_depth_documents_remain() -> None:
    docs = {"q": 9.0, "a": 3.0, "b": 2.0, "c": 1.0}
    assert order_of(docs, depth=3, drop_own_ids=True) == ["a", "b", "c"]
    assert order_of(docs, depth=3) == ["q", "a", "b"]


def test_own_id_below_the_cut_costs_nothing() -> None:
    assert order_of({"a": 3.0, "b": 2.0, "c": 1.0, "q": 0.0}, depth=3, drop_own_ids=True) == ["a", "b", "c"]


def test_only_the_exact_own_id_is_dropped() -> None:
    near = {"q": ["Q", "q ", " q", "qq", "q1"], "1": ["01", "1.0", "11", "q"], "é": ["e\u0301", "e"]}
    hits = {query_id: dict.fromkeys([query_id, *ids], 1.0) for query_id, ids in near.items()}
    kept = ranked(hits, drop_own_ids=True)
    assert {query_id: {doc_id for doc_id, _ in docs} for query_id, docs in kept.items()} == {
        query_id: set(ids) for query_id, ids in near.items()
    }


def test_a_dropped_document_leaves_no_trace_in_the_scores() -> None:
    assert ranked({"b": {"c": 1.0, "b": 1.0, "a": 0.5}}, drop_own_ids=True)["b"] == [("c", 1.0), ("a", 0.5)]
    assert ranked({"c": {"c": 1.0, "b": 1.0}}, drop_own_ids=True)["c"] == [("b", 1.0)]


@pytest.mark.parametrize(
    ("docs", "depth", "expected"),
    [
        (tied(20, 10), 100, 1.0),
        (tied(20, 10), 10, 1.0),
        (tied(11, 10), 10, 1.0),
        (tied(20, *range(1, 20)), 10, 1.0),
        (tied(20, *range(1, 10)), 100, 0.0),
        (tied(20, 9), 10, 0.0),
        (tied(20, 11), 100, 0.0),
        (tied(10, 9), 10, 0.0),
        (tied(9, *range(1, 9)), 10, 0.0),
        ({}, 10, 0.0),
    ],
    ids=[
        "ranks 10 and 11, deep run",
        "ranks 10 and 11, run cut at 10",
        "one hit deeper than the run",
        "everything tied",
        "wholly inside",
        "ranks 9 and 10",
        "ranks 11 and 12",
        "exactly ten hits",
        "fewer than ten hits",
        "no hits",
    ],
)
def test_ties_at_ten(docs, depth, expected) -> None:
    assert ties_at({"q": docs}, depth=depth) == expected


def test_ties_at_is_a_share_of_all_queries() -> None:
    hits = {"q1": tied(20, 10), "q2": tied(20), "q3": {}, "q4": tied(5, 1, 2, 3, 4)}
    assert ties_at(hits, depth=10) == 0.25
    assert ties_at({}, depth=10) == 0.0


def test_equal_scores_of_neighbouring_queries_are_no_tie() -> None:
    assert ties_at({"q1": tied(10), "q2": {"x": -9.0}}, depth=10) == 0.0


def test_a_short_ranking_does_not_borrow_its_neighbours_tie() -> None:
    assert ties_at({"q1": tied(5), "q2": tied(20, 5)}, depth=10) == 0.0


def test_ties_can_be_a_share_of_the_judged_queries_alone() -> None:
    run = rank(as_hits({"q1": tied(20, 10), "q2": tied(20, 10), "q3": tied(5)}), depth=10)
    shares = [
        run.ties_at(10, judged) for judged in ({"q1"}, {"q3"}, {"q1", "q3"}, {"q2", "lost"}, {"lost"}, {})
    ]
    assert shares == [1.0, 0.0, 0.5, 0.5, 0.0, 0.0]


def test_ties_at_other_cut_offs() -> None:
    docs = tied(8, 1, 5)
    assert [ties_at({"q": docs}, cutoff, depth=8) for cutoff in range(1, 10)] == [1, 0, 0, 0, 1, 0, 0, 0, 0]


def test_a_tie_is_seen_across_the_dropped_own_document() -> None:
    docs = {f"d{i}": 20.0 - i for i in range(10)} | {"c": 11.0, "q": 11.0, "e": 30.0}
    assert ties_at({"q": docs}, depth=10, drop_own_ids=True) == 0.0
    docs = {f"d{i}": 20.0 - i for i in range(9)} | {"r": 1.0, "q": 1.0, "p": 1.0}
    assert order_of(docs, depth=11, drop_own_ids=True)[9:] == ["r", "p"]
    assert ties_at({"q": docs}, depth=10, drop_own_ids=True) == 1.0


def test_a_tie_with_the_dropped_own_document_is_none() -> None:
    docs = {f"d{i}": 20.0 - i for i in range(9)} | {"r": 1.0, "q": 1.0, "p": 0.5}
    assert ties_at({"q": docs}, depth=10, drop_own_ids=True) == 0.0
    assert ties_at({"q": docs}, depth=10) == 1.0
