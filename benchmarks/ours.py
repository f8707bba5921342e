"""Our own code as the benchmarks use it: checkpoints, encoder, stores, search, runs and measures."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from worker import Once, Output, noted, notes

SHARD = 4_096
"""Vectors of a shard."""


def write_checkpoints(model: str, folder: Path, max_length: int, pooling: str) -> tuple[Path, Path]:
    """Write a model twice: in our layout, and in that of sentence-transformers.

    Args:
        model: A system's name or a checkpoint.
        folder: The folder of both; files that are there are kept if they have the same template.
        max_length: The most tokens of a text.
        pooling: ``mean`` or ``last``.

    Returns:
        Our folder, which has links to the files of the model and a template, and the exported folder, whose
        tokenizer adds the same tokens as our template.
    """
    from adapters import checkpoint_folder, checkpoint_texts
    from llara_eval.checkpoints.export import export
    from llara_eval.checkpoints.folder import Checkpoint
    from llara_eval.encoding.templates import TEMPLATE_FILE

    source, checkpoint, exported = checkpoint_folder(model, offline=True), folder / "own", folder / "exported"
    checkpoint.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if not (checkpoint / file.name).exists():
            (checkpoint / file.name).symlink_to(file)
    changes: dict[str, Any] = {"max_length": max_length, "pooling": pooling}
    tokenizer, templates = checkpoint_texts(model, {}, Checkpoint(source))
    if pooling == "last":  # the end token stays however much is cut off, as in such retrievers
        changes["suffix"] = (tokenizer.eos_token,)
    templates.with_changes(**changes).save(checkpoint)
    template, exported_template = checkpoint / TEMPLATE_FILE, exported / TEMPLATE_FILE
    if not exported_template.exists() or template.read_bytes() != exported_template.read_bytes():
        export(checkpoint, exported, overwrite=True)
    return checkpoint, exported


def device() -> Any:
    """Return the device of all competitors."""
    from llara_eval.encoding.devices import default_device

    return default_device()


def native_dtypes() -> list[str]:
    """Return the dtypes of weights to measure: float32, and bfloat16 where the processor computes it fast."""
    from llara_eval.encoding.devices import has_bfloat16

    return ["float32", *(["bfloat16"] if has_bfloat16(device()) else [])]


def token_ids(folder: Path, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of documents."""
    from llara_eval.checkpoints.folder import Checkpoint
    from llara_eval.checkpoints.load import settle_templates

    checkpoint = Checkpoint(folder)
    templates, _ = settle_templates(checkpoint)
    return templates.document.token_ids(checkpoint.tokenizer, texts)


def operations(folder: Path, lengths: Sequence[int]) -> float:
    """Return the floating-point operations of texts of these lengths, without padding."""
    from llara_eval.checkpoints.folder import Checkpoint
    from llara_eval.planning.cost import cost

    return float(cost(Checkpoint(folder).config).operations(np.array(lengths, dtype=np.float64)).sum())


def product_shapes(folder: Path) -> list[tuple[int, int]]:
    """Return the shapes of the matrices by which hidden states are multiplied, each shape once."""
    from llara_eval.checkpoints.folder import Checkpoint
    from llara_eval.checkpoints.libraries import build_skeleton

    layers = build_skeleton(Checkpoint(folder).config).modules()
    return sorted({tuple(layer.weight.shape) for layer in layers if type(layer).__name__ == "Linear"})


def read_texts(file: str) -> list[str]:
    """Return the texts of a JSON list."""
    return list(json.loads(Path(file).read_text()))


def encoded(vectors: Any, ids: Sequence[Sequence[int]]) -> Output:
    """Return the output of an encoding: vectors (n, D), all token ids in one array, lengths (n,)."""
    return {"vectors": vectors, "ids": np.concatenate(ids), "lengths": np.array([*map(len, ids)])}


def open_encoder(folder: Path, dtype: str, *, compiled: bool = False) -> Any:
    """Return our encoder of a checkpoint."""
    from llara_eval.checkpoints import load as checkpoints
    from llara_eval.encoding.compile import compile_layers

    encoder = checkpoints.load(folder, dtype=dtype)
    if compiled:
        compile_layers(encoder.model, encoder.device)
    return encoder


def encode(folder: str, exported: str, texts: str, dtype: str, compiled: bool = False) -> Once:
    """Encode all texts: the competitor with which the others are compared."""
    read = read_texts(texts)
    encoder = open_encoder(Path(folder), dtype, compiled=compiled)
    encoder.encode(read[:8], "document")
    ids = token_ids(Path(folder), read)

    def once() -> Any:
        tokens = encoder.templates.document.token_ids(encoder.tokenizer, read)
        started = encoder.start(tokens, "document")
        vectors = started.vectors()
        notes["padding"] = started.padded / started.tokens
        return lambda: encoded(vectors, ids)

    return once


def write_store(folder: Path, name: str, blocks: Iterable[NDArray[np.float32]]) -> None:
    """Write a complete store of vectors; the number of a row is its identifier.

    Args:
        folder: The folder of stores.
        name: The name of the store.
        blocks: Vectors (n, D) with at most ``SHARD`` rows in each block.
    """
    from llara_eval.vectors.shards import Listing, Shard

    store, first = _open_store(folder, name), 0
    with Listing.writer(store.folder, name) as add:
        for number, vectors in enumerate(blocks):
            ids = [str(row) for row in range(first, first + len(vectors))]
            store.write(f"{name}{number}", vectors, {})
            add(Shard(f"{name}{number}", ids, []))
            first += len(vectors)


def _open_store(folder: Path, name: str) -> Any:
    from llara_eval.vectors.store_folder import StoreFolder
    from llara_eval.vectors.vector_store import VectorStore

    return VectorStore(StoreFolder(folder), {"name": name}, name)


def search(folder: str, depth: int) -> Once:
    """Search a store of documents for those with the largest inner products."""
    from llara_eval.encoding.devices import set_up
    from llara_eval.search.compressed import Variant, search_variant

    set_up(device())  # as opening a checkpoint does
    queries, documents = (_open_store(Path(folder), name) for name in ("queries", "documents"))

    def once() -> Any:
        hits = search_variant(queries, documents, depth, Variant(), scratch=Path(folder)).hits

        def arrays() -> Output:
            shape = len(hits.query_ids), -1
            rows = hits.doc_ids.astype(np.int64)[hits.doc].reshape(shape)
            searched = sum(len(shard.ids) for shard in documents)
            return best_first(rows, hits.score.reshape(shape), searched, depth)

        return arrays

    return once


def best_first(
    rows: NDArray[np.int64], scores: NDArray[np.float32], searched: int, depth: int | None = None
) -> Output:
    """Return the output of a search: (Q, K) rows and scores, the best first, and the number of documents."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    return {
        "rows": np.take_along_axis(rows, best, 1),
        "scores": np.take_along_axis(scores, best, 1),
        "searched": np.array(searched),
    }


def score(run: str, qrels: str, measures: Sequence[str]) -> Once:
    """Read a run and score it."""
    from llara_eval.scoring import measures as measure
    from llara_eval.scoring import trec

    judgements = json.loads(Path(qrels).read_text())

    def once() -> Any:
        with noted("read"):
            ranking = trec.read_run(Path(run))
        with noted("score"):
            scores = measure.score(judgements, ranking, measures)
        return lambda: {name: scores.values[name] for name in measures}

    return once
