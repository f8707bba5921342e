"""All that the benchmarks use of ours: checkpoints, encoder, stores, search, runs and measures."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from worker import Once, notes

SHARD = 4_096


def write_checkpoints(model: str, folder: Path, max_length: int, pooling: str) -> tuple[Path, Path]:
    """Write a model twice: as we read it, and as sentence-transformers does.

    Args:
        model: A system's name or a checkpoint.
        folder: Where; what is there is kept if it has the same template.
        max_length: The most tokens of a text.
        pooling: ``mean`` or ``last``.

    Returns:
        Our folder, whose files are links and which has a template of its own, and the exported one, whose
        tokenizer adds what our template does.
    """
    from adapters import checkpoint_folder, checkpoint_texts
    from llara_eval.checkpoints.export import export
    from llara_eval.checkpoints.folder import Checkpoint
    from llara_eval.encoding.templates import TEMPLATE_FILE

    source, own, exported = checkpoint_folder(model, offline=True), folder / "own", folder / "exported"
    own.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if not (own / file.name).exists():
            (own / file.name).symlink_to(file)
    changes: dict[str, Any] = {"max_length": max_length, "pooling": pooling}
    tokenizer, templates = checkpoint_texts(model, {}, Checkpoint(source))
    if pooling == "last":  # an end that is there however much is cut off, as such retrievers have it
        changes["suffix"] = (tokenizer.eos_token,)
    templates.with_changes(**changes).save(own)
    files = [place / TEMPLATE_FILE for place in (own, exported)]
    if not files[1].exists() or files[0].read_bytes() != files[1].read_bytes():
        export(own, exported, overwrite=True)
    return own, exported


def device() -> Any:
    """Return where everyone computes."""
    from llara_eval.encoding.devices import default_device

    return default_device()


def native_dtypes() -> list[str]:
    """Return the types of weights worth measuring: float32, and the one the processor is made for."""
    from llara_eval.encoding.devices import default_dtype

    return sorted({"float32", str(default_dtype(device())).removeprefix("torch.")}, reverse=True)


def token_ids(folder: Path, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of documents."""
    from llara_eval.checkpoints.folder import Checkpoint
    from llara_eval.checkpoints.load import settle_templates

    checkpoint = Checkpoint(folder)
    templates, _ = settle_templates(checkpoint)
    return templates.document.token_ids(checkpoint.tokenizer, texts)


def operations(folder: Path, lengths: Sequence[int]) -> float:
    """Return the floating-point operations that texts of these lengths take, padding not counted."""
    from llara_eval.checkpoints.folder import Checkpoint
    from llara_eval.planning.cost import cost

    return float(cost(Checkpoint(folder).config).operations(np.array(lengths, dtype=np.float64)).sum())


def product_shapes(folder: Path) -> list[tuple[int, int]]:
    """Return the shapes of the matrices that hidden states are multiplied with, each once."""
    from llara_eval.checkpoints.folder import Checkpoint
    from llara_eval.planning.cost import skeleton

    layers = skeleton(Checkpoint(folder).config).modules()
    return sorted({tuple(layer.weight.shape) for layer in layers if type(layer).__name__ == "Linear"})


def open_encoder(folder: Path, dtype: str, *, compiled: bool = False) -> Any:
    """Return our encoder of a checkpoint."""
    from llara_eval.checkpoints import load as checkpoints
    from llara_eval.encoding.compile import compile_layers

    encoder = checkpoints.load(folder, dtype=dtype)
    if compiled:
        compile_layers(encoder.model, encoder.device)
    return encoder


def encode(folder: str, exported: str, texts: str, dtype: str, compiled: bool = False) -> Once:
    """Encode all texts; the competitor the others are compared with."""
    read: list[str] = json.loads(Path(texts).read_text())
    encoder = open_encoder(Path(folder), dtype, compiled=compiled)
    encoder.encode(read[:8], "document")
    ids = token_ids(Path(folder), read)

    def once() -> Any:
        tokens = encoder.templates.document.token_ids(encoder.tokenizer, read)
        started = encoder.start(tokens, "document")
        vectors = started.vectors()
        notes["padding"] = started.padded / started.tokens
        return lambda: {"vectors": vectors, "ids": np.concatenate(ids), "lengths": np.array([*map(len, ids)])}

    return once


def write_store(folder: Path, name: str, blocks: Iterable[NDArray[np.float32]]) -> None:
    """Write a complete store of vectors; a row's number is its identifier.

    Args:
        folder: Where stores are.
        name: What it is called there.
        blocks: (n, D) each; n is at most ``SHARD``.
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
    """Search two stores for the documents with the largest inner product."""
    from llara_eval.encoding.devices import set_up
    from llara_eval.search.compressed import Variant, search_variant

    set_up(device())  # as opening a checkpoint does
    queries, documents = (_open_store(Path(folder), name) for name in ("queries", "documents"))

    def once() -> Any:
        hits = search_variant(queries, documents, depth, Variant(), scratch=Path(folder)).hits

        def arrays() -> Mapping[str, NDArray[Any]]:
            shape = len(hits.query_ids), -1
            scores, rows = hits.score.reshape(shape), hits.doc_ids.astype(np.int64)[hits.doc].reshape(shape)
            best = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
            rows, scores = np.take_along_axis(rows, best, 1), np.take_along_axis(scores, best, 1)
            return {
                "rows": rows,
                "scores": scores,
                "searched": np.array(sum(len(part.ids) for part in documents)),
            }

        return arrays

    return once


def score(run: str, qrels: str, measures: Sequence[str]) -> Once:
    """Read a run and score it."""
    from llara_eval.scoring import measures as measure
    from llara_eval.scoring import trec

    judged = json.loads(Path(qrels).read_text())

    def once() -> Any:
        started = time.perf_counter()
        found = trec.read_run(Path(run))
        notes["read"] = time.perf_counter() - started
        scores = measure.score(judged, found, measures)
        notes["score"] = time.perf_counter() - started - notes["read"]
        return lambda: {name: scores.values[name] for name in measures}

    return once
