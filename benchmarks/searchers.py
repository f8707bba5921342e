"""The competitors of search: all read the same float16 vectors, mapped from disk.

beir and mteb search while they encode, so their models are replaced by models that read vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ours
from numpy.typing import NDArray
from worker import Once, Output

BLOCK = 50_000
"""Documents converted to float32 at a time: the usual chunk of beir and mteb."""


def mapped(folder: str, name: str) -> NDArray[np.float16]:
    """Return an array that :func:`search.write` wrote, mapped from disk."""
    array: NDArray[np.float16] = np.load(Path(folder) / f"{name}.npy", mmap_mode="r")
    return array


def faiss(folder: str, depth: int, built: bool) -> Once:
    """Search with ``IndexFlatIP``; if ``built``, the time to fill the index does not count."""
    import faiss

    queries, documents = mapped(folder, "queries").astype(np.float32), mapped(folder, "documents")

    def build() -> Any:
        index = faiss.IndexFlatIP(documents.shape[1])
        for first in range(0, len(documents), BLOCK):
            index.add(documents[first : first + BLOCK].astype(np.float32))
        return index

    index = build() if built else None

    def once() -> Any:
        scores, rows = (index or build()).search(queries, depth)
        return lambda: {"rows": rows, "scores": scores, "searched": np.array(len(documents))}

    return once


def from_results(results: dict[str, dict[str, float]], documents: int) -> Output:
    """Return query → document → score as arrays, the best document first."""
    rows = np.array([[*map(int, hits)] for hits in results.values()])
    scores = np.array([[*hits.values()] for hits in results.values()], dtype=np.float32)
    return ours.best_first(rows, scores, documents)


def beir(folder: str, depth: int, documents: int) -> Once:
    """Search with the dense search of beir, its model replaced by one that reads vectors."""
    import torch
    from beir.retrieval.search.dense import DenseRetrievalExactSearch

    stored, queries = mapped(folder, "documents"), mapped(folder, "queries").astype(np.float32)

    class Model:
        """Returns vectors in the order of the rows, the order in which texts of equal length are encoded."""

        done = 0

        def encode_queries(self, _: Any, **__: Any) -> Any:
            return torch.from_numpy(queries)

        def encode_corpus(self, corpus: Sequence[Any], **_: Any) -> Any:
            self.done += len(corpus)
            return torch.from_numpy(stored[self.done - len(corpus) : self.done].astype(np.float32))

    empty = {"title": "", "text": ""}
    corpus = {str(row): empty for row in range(documents)}
    texts = {f"q{row}": "" for row in range(len(queries))}

    def once() -> Any:
        engine = DenseRetrievalExactSearch(Model(), corpus_chunk_size=BLOCK, show_progress_bar=False)
        results = engine.search(corpus, texts, top_k=depth, score_function="dot")
        return lambda: from_results(results, documents)

    return once


def mteb(folder: str, depth: int, documents: int) -> Once:
    """Search with mteb, its model replaced by one that reads vectors; no batches of texts are made."""
    import torch
    from mteb import get_task
    from mteb.models import search_wrappers

    stored, queries = mapped(folder, "documents"), mapped(folder, "queries").astype(np.float32)

    @dataclass
    class Rows:
        """A range of rows, in place of a data set of texts."""

        prefix: str
        numbers: range

        def __len__(self) -> int:
            return len(self.numbers)

        def __getitem__(self, _: Any) -> Any:
            return [f"{self.prefix}{number}" for number in self.numbers]

        def select(self, rows: range) -> "Rows":
            return Rows(self.prefix, self.numbers[rows.start : rows.stop])

    class Model:
        """Returns the vectors of a range of rows."""

        mteb_model_meta = None

        def encode(self, rows: Rows, **_: Any) -> Any:
            if rows.prefix:
                return torch.from_numpy(queries)
            return torch.from_numpy(stored[rows.numbers.start : rows.numbers.stop].astype(np.float32))

        def similarity(self, left: Any, right: Any) -> Any:
            return left @ right.T

    search_wrappers.create_dataloader = lambda rows, **_: rows
    settings = {
        "task_metadata": get_task("SciFact").metadata,
        "hf_split": "test",
        "hf_subset": "default",
        "encode_kwargs": {"show_progress_bar": False},
    }

    def once() -> Any:
        engine = search_wrappers.SearchEncoderWrapper(Model(), corpus_chunk_size=BLOCK)
        engine.index(Rows("", range(documents)), **settings)
        results = engine.search(Rows("q", range(len(queries))), top_k=depth, **settings)
        return lambda: from_results(results, documents)

    return once
