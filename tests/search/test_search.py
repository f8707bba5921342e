import math
import os
import subprocess
import sys

import faiss
import numpy as np
import pytest
import torch
from stores import Shards, as_lists, search, search_mapped, sorted_exactly, unit

from llara_eval.core.errors import DataError, UsageError
from llara_eval.search import search as module
from llara_eval.search.candidates import TorchProposer, rounding
from llara_eval.search.search import index_of, score

DOCUMENTS, QUERIES = unit(3000, 24), Shards(unit(40, 24, seed=1), letter="q")

both = pytest.mark.parametrize("proposer", ["torch", "faiss"])


@pytest.fixture
def small_blocks(monkeypatch):
    """Make every limit bind: several passes over the documents, many blocks, and little room."""
    monkeypatch.setattr(module, "SMALLEST", 16)
    monkeypatch.setattr(module, "SCORES", 16)
    monkeypatch.setattr(module, "CANDIDATES", 100)


@both
@pytest.mark.parametrize("cuts", [(), (0.3, 0.7), (0.001, 0.002, 0.003, 0.5, 0.5)])
def test_equals_a_full_sort_in_float64(proposer, cuts) -> None:
    documents = Shards(DOCUMENTS, cuts)
    expected = sorted_exactly(QUERIES, documents, 50)
    assert as_lists(search(QUERIES, documents, 50, proposer=proposer)) == expected


@both
def test_blocks_passes_and_room_play_no_part(proposer, small_blocks) -> None:
    documents = Shards(DOCUMENTS)
    assert as_lists(search(QUERIES, documents, 30, proposer=proposer)) == sorted_exactly(
        QUERIES, documents, 30
    )


@pytest.mark.parity
def test_equals_faiss_flat() -> None:
    documents = Shards(unit(5000, 96, seed=2))
    queries = Shards(unit(30, 96, seed=3), letter="q")
    index = faiss.IndexFlatIP(96)
    index.add(documents.vectors.astype(np.float32))
    scores, rows = index.search(queries.vectors.astype(np.float32), 101)
    hits = as_lists(search(queries, documents, 100))
    for query, (best, by_faiss) in enumerate(zip(hits.values(), scores, strict=True)):
        assert np.allclose([value for _, value in best], by_faiss[:100], atol=1e-6)
        assert by_faiss[99] - by_faiss[100] > 1e-6, "no tie at the cut"
        assert {doc_id for doc_id, _ in best} == {f"d{row:05d}" for row in rows[query, :100]}


@both
def test_equal_scores_that_float32_sums_tell_apart_are_ties(proposer, small_blocks) -> None:
    """Documents hold the same numbers in different orders, so that their scores differ by rounding alone."""
    rng = np.random.default_rng(5)
    documents = Shards([rng.permutation(row) for row in np.repeat(64 * unit(1, 512), 600, axis=0)])
    queries = Shards(np.full((4, 512), 0.04), letter="q")
    sums = queries.vectors.astype(np.float32) @ documents.vectors.astype(np.float32).T
    assert len(np.unique(sums)) > 4
    last = {query_id: [f"d{row:05d}" for row in range(599, 579, -1)] for query_id in queries.ids}
    hits = as_lists(search(queries, documents, 20, proposer=proposer))
    assert {query_id: [doc_id for doc_id, _ in best] for query_id, best in hits.items()} == last


@both
def test_the_largest_ids_stay_if_there_are_more_ties_than_room(proposer, small_blocks) -> None:
    documents = Shards(np.concatenate([np.repeat(unit(1, 24), 900, axis=0), DOCUMENTS[1:201]]))
    queries = Shards([*unit(1, 24), np.zeros(24), *unit(3, 24, seed=4)], letter="q")
    hits = as_lists(search(queries, documents, 10, proposer=proposer))
    assert hits == sorted_exactly(queries, documents, 10)
    assert [doc_id for doc_id, _ in hits["q00000"]] == [f"d{row:05d}" for row in range(899, 889, -1)]
    assert hits["q00001"] == [(f"d{row:05d}", 0.0) for row in range(1099, 1089, -1)]


@both
@pytest.mark.parametrize(("size", "count"), [(7, 40), (1, 1), (3000, 1)])
def test_fewer_documents_than_the_depth_and_a_single_query(proposer, size, count) -> None:
    documents, queries = Shards(DOCUMENTS[:size]), Shards(QUERIES.vectors[:count], letter="q")
    hits = as_lists(search(queries, documents, 100, proposer=proposer))
    assert hits == sorted_exactly(queries, documents, 100)
    assert {len(best) for best in hits.values()} == {min(size, 100)}


@both
def test_a_depth_beyond_the_documents_takes_no_room(proposer) -> None:
    documents, queries = Shards(DOCUMENTS[:7]), Shards(QUERIES.vectors[:2], letter="q")
    hits = search(queries, documents, 10**9, proposer=proposer)
    assert as_lists(hits) == sorted_exactly(queries, documents, 7)


def test_vectors_of_any_length() -> None:
    """Later vectors are longer, and their rounding errors are larger."""
    lengths = np.geomspace(0.01, 300, len(DOCUMENTS))[:, None]
    documents = Shards(DOCUMENTS * lengths)
    assert as_lists(search(QUERIES, documents, 50)) == sorted_exactly(QUERIES, documents, 50)


@both
def test_vectors_that_are_not_finite_are_named(proposer) -> None:
    broken = DOCUMENTS.copy()
    broken[2718, 5] = np.nan
    with pytest.raises(DataError, match="document 'd02718' is not finite"):
        search(QUERIES, Shards(broken), 10, proposer=proposer)
    with pytest.raises(DataError, match="query 'q00001' is not finite"):
        search(Shards([[1.0, 0], [np.inf, 0]], letter="q"), Shards([[1.0, 0]]), 1, proposer=proposer)


def test_exact_scores_are_sums_without_error() -> None:
    documents, queries = unit(20, 4096).astype(np.float16), unit(3, 4096, seed=1).astype(np.float16)
    query, row = np.repeat(np.arange(3), 20), np.tile(np.arange(20), 3)
    scores = score(queries, index_of(Shards(documents)), query, row).score
    for pair, (i, j) in enumerate(zip(query, row, strict=True)):
        products = queries[i].astype(np.float64) * documents[j].astype(np.float64)
        assert scores[pair] == np.float32(math.fsum(products))


def test_no_float32_product_is_further_off_than_is_allowed_for() -> None:
    for width in (3, 64, 4096):
        left, right = unit(50, width).astype(np.float16), np.abs(unit(50, width, seed=1)).astype(np.float16)
        exact = left.astype(np.float64) @ right.astype(np.float64).T
        off = np.abs(left.astype(np.float32) @ right.astype(np.float32).T - exact)
        bound = rounding(width) * np.outer(*(np.linalg.norm(x.astype(float), axis=1) for x in (left, right)))
        assert off.max() > 0 and np.all(off < bound)


def test_products_are_of_full_precision_whatever_is_allowed_elsewhere(monkeypatch) -> None:
    seen = []

    class Watched(TorchProposer):
        def __call__(self, *block):
            seen.append(torch.get_float32_matmul_precision())
            return super().__call__(*block)

    monkeypatch.setattr("llara_eval.search.candidates.PROPOSERS", {"torch": Watched})
    torch.set_float32_matmul_precision("medium")
    try:
        search(QUERIES, Shards(DOCUMENTS), 10)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(seen) == {"highest"}


def test_unknown_proposer() -> None:
    with pytest.raises(UsageError, match="torch, faiss"):
        search(QUERIES, Shards(DOCUMENTS[:7]), 10, proposer="magic")


PROGRAM = """
import sys, threading, time
from stores import Shards, search, search_mapped, unit

def held():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) >> 10 for line in file if line.startswith("RssAnon"))

def watch():
    global peak
    while not over:
        peak = max(peak, held())
        time.sleep(0.002)

search(Shards(unit(64, 256), letter="q"), Shards(unit(100, 256)), 100)
peak, over, before = 0, False, held()
watcher = threading.Thread(target=watch)
watcher.start()
digest = search_mapped(sys.argv[1])
over = True
watcher.join()
print(peak - before, digest)
"""


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """Write 128 MiB of vectors: 256 MiB in float32."""
    path = tmp_path_factory.mktemp("mapped") / "vectors.npy"
    vectors = np.lib.format.open_memmap(path, "w+", np.float16, (1 << 18, 256))
    for start in range(0, len(vectors), 1 << 15):
        vectors[start : start + (1 << 15)] = np.random.default_rng(start).uniform(-0.1, 0.1, (1 << 15, 256))
    vectors.flush()
    return path


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_memory_does_not_hold_the_documents_and_threads_do_not_matter(mapped) -> None:
    threads = "1" if torch.get_num_threads() > 1 else "2"
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mapped], capture_output=True, check=True, env=environment, text=True
    )
    taken, digest = done.stdout.split()
    assert digest == search_mapped(mapped)
    assert int(taken) < 64, "MiB, a quarter of what faiss would hold"
