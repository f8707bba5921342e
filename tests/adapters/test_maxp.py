"""MaxP: windows of words, documents by their best passage, searched until there are enough."""

import pytest
from fakes import FakeRetriever
from hypothesis import given
from hypothesis import strategies as st

from adapters.maxp import MaxP, passages
from llara_eval.core.types import Document, Hits, Query
from llara_eval.scoring.ranking import best_passages, rank


@pytest.mark.parametrize("words", [0, 1, 149, 150, 151, 225, 226, 1000])
def test_windows_cover_every_word_and_none_is_needless(words):
    page = Document("D1", "T", " ".join(map(str, range(words))), "http://x")
    parts = list(passages(page, 150, 75))
    assert [passage.doc_id for passage in parts] == [f"D1#{number}" for number in range(len(parts))]
    assert {(passage.title, passage.url) for passage in parts} == {("T", "http://x")}
    spans = [list(map(int, passage.text.split())) for passage in parts]
    assert sorted({word for span in spans for word in span}) == list(range(words))
    assert [span[0] for span in spans if span] == [
        75 * number for number in range(len(spans)) if spans[number]
    ]
    assert len(parts) == 1 or spans[-2][-1] < words - 1, "the last window adds something"


PASSAGE_HITS = st.dictionaries(
    st.tuples(st.integers(0, 3), st.sampled_from(["D1", "D#2", "D3"]), st.integers(0, 4)),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
)


@given(PASSAGE_HITS)
def test_a_document_is_as_good_as_its_best_passage(scores_of):
    rows = ((f"q{query}", f"{doc}#{number}", score) for (query, doc, number), score in scores_of.items())
    hits = best_passages(Hits.of_rows(rows, [f"q{query}" for query in range(4)]))
    expected: dict[tuple[int, str], float] = {}
    for (query, doc, _), score in scores_of.items():
        expected[query, doc] = max(score, expected.get((query, doc), -1.0))
    best = {
        (int(query), hits.doc_ids[doc]): float(score)
        for query, doc, score in zip(hits.query, hits.doc, hits.score, strict=True)
    }
    assert best == expected
    assert len(hits.query) == len(expected)
    rank(hits, depth=10)


class Exact(FakeRetriever):
    """Returns exactly as many hits as it was asked for, the best first."""

    def answer(self, query):
        return sorted(super().answer(query), key=lambda hit: -hit[1])[: self.depths[-1]]


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_passages_are_searched_until_there_are_enough_documents(depth):
    scores = {f"D1#{number}": 100.0 - number / 10 for number in range(95)}
    scores |= {"D2#0": 9.0, "D2#1": 5.0, "D3#0": 8.0, "D3#1": 7.0}
    inner = Exact({"q": scores, "none": {}})
    hits = MaxP(inner).search([Query("q", "x"), Query("none", "y")], depth)
    run = {query_id: list(docs) for query_id, docs, _ in rank(hits, depth=depth)}
    assert run == {"q": ["D1", "D2", "D3"][:depth], "none": []}
    assert inner.depths[0] == 10 * depth
    assert len(inner.depths) == {1: 1, 2: 3, 3: 2, 5: 2}[depth]
