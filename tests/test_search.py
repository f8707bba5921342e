import numpy as np
import pytest
from stores import store_vectors

from llara_eval.errors import UsageError
from llara_eval.ranking import rank
from llara_eval.search import search
from llara_eval.vectors import VectorStore


def make_store(root, vectors, cuts=(0.3, 0.7), letter="d") -> VectorStore:
    ends = [*(int(cut * len(vectors)) for cut in cuts), len(vectors)]
    return store_vectors(root, [f"{letter}{i:05d}" for i in range(len(vectors))], vectors, ends, letter)


def unit(rows, width, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def as_lists(run):
    return {query_id: (list(doc_ids), scores.tolist()) for query_id, doc_ids, scores in run}


def run_of(store, queries, depth, backend="torch"):
    asked = make_store(store.folder.parent, queries, cuts=(0.5,), letter="q")
    return rank(search(asked, store, depth, backend=backend), depth=depth)


DOCUMENTS, QUERIES = unit(3000, 24), unit(40, 24, seed=1)


def test_equals_a_full_sort_in_float64(tmp_path) -> None:
    found = as_lists(run_of(make_store(tmp_path, DOCUMENTS), QUERIES, 50))
    stored = DOCUMENTS.astype(np.float16).astype(np.float64)
    for row, query in enumerate(QUERIES.astype(np.float16).astype(np.float64)):
        scores = (stored @ query).astype(np.float32)
        order = sorted(range(len(scores)), key=lambda i: (-scores[i], -i))[:50]
        assert found[f"q{row:05d}"][0] == [f"d{i:05d}" for i in order]


def test_faiss_proposes_the_same(tmp_path) -> None:
    store = make_store(tmp_path, DOCUMENTS)
    assert as_lists(run_of(store, QUERIES, 100, "torch")) == as_lists(run_of(store, QUERIES, 100, "faiss"))


def test_the_cut_into_shards_plays_no_part(tmp_path) -> None:
    one = run_of(make_store(tmp_path / "1", DOCUMENTS, cuts=()), QUERIES, 100)
    many = run_of(make_store(tmp_path / "2", DOCUMENTS, cuts=(0.01, 0.02, 0.5, 0.9)), QUERIES, 100)
    assert as_lists(one) == as_lists(many)


@pytest.mark.parametrize("backend", ["torch", "faiss"])
def test_ties_go_to_the_larger_id(tmp_path, backend) -> None:
    documents = np.repeat(unit(1, 24), 60, axis=0)
    (doc_ids, scores) = as_lists(run_of(make_store(tmp_path, documents), unit(1, 24), 10, backend))["q00000"]
    assert doc_ids == [f"d{i:05d}" for i in range(59, 49, -1)]
    assert scores == sorted(set(scores), reverse=True)


def test_fewer_documents_than_asked_for(tmp_path) -> None:
    run = run_of(make_store(tmp_path, DOCUMENTS[:7]), QUERIES, 100)
    assert all(len(doc_ids) == 7 for _, doc_ids, _ in run)


def test_unknown_backend(tmp_path) -> None:
    with pytest.raises(UsageError, match="torch, faiss"):
        run_of(make_store(tmp_path, DOCUMENTS[:7]), QUERIES, 10, "magic")
