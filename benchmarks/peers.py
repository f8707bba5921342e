"""The competitors of encoding: three libraries and three loops, each with the best of some batch sizes."""

import functools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import ours
import torch
from loops import LOOPS
from worker import Once, notes

LARGE = (512,) if torch.cuda.is_available() else ()
"""A batch size more, where small ones leave a GPU idle."""

TRIED = (32, 128, *LARGE)
"""Batch sizes: the usual one of sentence-transformers and mteb, and that of beir."""

WARM_UP = 8
"""Texts encoded before anything is timed."""


@contextmanager
def counted(model: Any) -> Iterator[list[int]]:
    """Note the tokens, padding included, of each forward pass in the block."""
    seen: list[int] = []
    forward = model.forward

    @functools.wraps(forward)  # its signature is looked at; a hook would not do, forward is called by itself
    def noting(*given: Any, **named: Any) -> Any:
        seen.append((named["input_ids"] if "input_ids" in named else given[0]).numel())
        return forward(*given, **named)

    model.forward = noting
    try:
        yield seen
    finally:
        del model.forward


def tuned(
    encode: Callable[[Sequence[str], int], Any],
    texts: Sequence[str],
    ids: Sequence[Sequence[int]],
    model: Any,
    sizes: Sequence[int],
) -> Once:
    """Encode all texts with each batch size, and from then on with the one that took less time.

    Args:
        encode: (texts, batch size) → (n, D).
        texts: All n texts.
        ids: The token ids that ``encode`` makes of them.
        model: The transformers model that ``encode`` calls.
        sizes: Batch sizes to try.
    """
    encode(texts[:WARM_UP], sizes[0])
    tries = []
    for size in sizes:
        with counted(model) as seen:
            started = time.perf_counter()
            vectors = encode(texts, size)
            tries.append((time.perf_counter() - started, size, sum(seen) / sum(map(len, ids)), vectors))
    _, best, notes["padding"], vectors = min(tries, key=lambda tried: tried[0])
    notes["batch"] = best
    made = [vectors]  # the first round is only looked at: it need not be encoded once more

    def once() -> Any:
        vectors = np.asarray(made.pop() if made else encode(texts, best), dtype=np.float32)
        return lambda: {"vectors": vectors, "ids": np.concatenate(ids), "lengths": np.array([*map(len, ids)])}

    return once


def at_most(sizes: Sequence[int], texts: Sequence[str]) -> list[int]:
    """Return the batch sizes, none more than a quarter of the texts: a sort must have something to sort."""
    return [*dict.fromkeys(min(size, max(1, len(texts) // 4)) for size in sizes)]


def read_texts(file: str) -> list[str]:
    """Return the texts of a JSON list."""
    return list(json.loads(Path(file).read_text()))


def inside(model: Any) -> tuple[Any, Callable[[Sequence[str]], list[list[int]]]]:
    """Return the transformers model in a sentence-transformers model, and what makes its token ids."""
    from transformers import PreTrainedModel

    def ids(texts: Sequence[str]) -> list[list[int]]:
        read = model.preprocess(list(texts))
        return [
            row[mask.bool()].tolist()
            for row, mask in zip(read["input_ids"], read["attention_mask"], strict=True)
        ]

    return next(part for part in model.modules() if isinstance(part, PreTrainedModel)), ids


def settings(dtype: str) -> dict[str, Any]:
    """Return what a sentence-transformers model is opened with."""
    return {"device": ours.device().type, "local_files_only": True, "model_kwargs": {"dtype": dtype}}


def sentence_transformers(folder: str, exported: str, texts: str, dtype: str) -> Once:
    """``SentenceTransformer.encode``."""
    from sentence_transformers import SentenceTransformer

    model, read = SentenceTransformer(exported, **settings(dtype)), read_texts(texts)
    transformer, ids = inside(model)
    return tuned(
        lambda some, size: model.encode(list(some), batch_size=size, show_progress_bar=False),
        read,
        ids(read),
        transformer,
        at_most(TRIED, read),
    )


def beir(folder: str, exported: str, texts: str, dtype: str) -> Once:
    """The dense search of beir with its sentence-transformers wrapper; two queries, for one makes it fail."""
    from beir.retrieval.models import SentenceBERT
    from beir.retrieval.search.dense import DenseRetrievalExactSearch

    kept: dict[int, Any] = {}

    class Keeping(SentenceBERT):  # type: ignore[misc]
        """Keeps the vectors, which the search does not return."""

        def encode_corpus(self, corpus: Any, **rest: Any) -> Any:
            vectors = super().encode_corpus(corpus, **rest)
            kept.update(zip((document["row"] for document in corpus), vectors.float().numpy(), strict=True))
            return vectors

    model, read = Keeping(exported, **settings(dtype)), read_texts(texts)
    transformer, ids = inside(model.doc_model)

    def encode(some: Sequence[str], size: int) -> Any:
        corpus = {str(row): {"title": "", "text": text, "row": row} for row, text in enumerate(some)}
        engine = DenseRetrievalExactSearch(model, batch_size=size, show_progress_bar=False)
        engine.search(corpus, {"one": "word", "two": "word"}, top_k=10, score_function="dot")
        return np.stack([kept[row] for row in range(len(some))])

    return tuned(encode, read, ids(read), transformer, at_most(TRIED[::-1], read))


def mteb(folder: str, exported: str, texts: str, dtype: str) -> Once:
    """The wrapper mteb has of sentence-transformers."""
    from datasets import Dataset
    from mteb import get_task
    from mteb.models import SentenceTransformerEncoderWrapper
    from mteb.types import PromptType
    from torch.utils.data import DataLoader

    model, read = SentenceTransformerEncoderWrapper(exported, **settings(dtype)), read_texts(texts)
    transformer, ids = inside(model.model)
    task = get_task("SciFact").metadata

    def encode(some: Sequence[str], size: int) -> Any:
        return model.encode(
            DataLoader(Dataset.from_dict({"text": list(some)}), batch_size=size),
            task_metadata=task,
            hf_split="test",
            hf_subset="default",
            prompt_type=PromptType.document,
            batch_size=size,
            show_progress_bar=False,
        )

    return tuned(encode, read, ids(read), transformer, at_most(TRIED, read))


def loop(
    folder: str, exported: str, texts: str, dtype: str, name: str, pooling: str, max_length: int
) -> Once:
    """One of :data:`loops.LOOPS`."""
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(exported, dtype=dtype, local_files_only=True).eval().to(ours.device())
    tokenizer = AutoTokenizer.from_pretrained(exported, local_files_only=True, padding_side="right")
    read, (function, sizes) = read_texts(texts), LOOPS[name]
    return tuned(
        lambda some, size: function(model, tokenizer, some, size, max_length=max_length, pooling=pooling),
        read,
        tokenizer(read, truncation=True, max_length=max_length)["input_ids"],
        model,
        sizes if name == "plain" else at_most((*sizes, *LARGE), read),
    )
