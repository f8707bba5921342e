"""The competitors of encoding: three libraries and three loops, each with its best batch size."""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import ours
import torch
from loops import LOOPS
from worker import Once, notes

LARGE = (512,) if torch.cuda.is_available() else ()
"""Another batch size, for a GPU, which small batches leave idle."""

TRIED = (32, 128, *LARGE)
"""Batch sizes that are tried: the default of sentence-transformers and mteb, and that of beir."""

WARM_UP = 8
"""Texts encoded before anything is timed."""


@contextmanager
def counted(model: Any) -> Iterator[list[int]]:
    """Yield a list of the tokens, padding included, of each forward pass in the block."""
    tokens: list[int] = []
    forward = model.forward

    @functools.wraps(forward)  # the signature is inspected; a hook would miss direct calls of forward
    def counting(*args: Any, **kwargs: Any) -> Any:
        tokens.append((kwargs["input_ids"] if "input_ids" in kwargs else args[0]).numel())
        return forward(*args, **kwargs)

    model.forward = counting
    try:
        yield tokens
    finally:
        del model.forward


def tuned(
    encode: Callable[[Sequence[str], int], Any],
    texts: Sequence[str],
    ids: Sequence[Sequence[int]],
    model: Any,
    sizes: Sequence[int],
) -> Once:
    """Encode all texts with each batch size, and from then on with the fastest one.

    Args:
        encode: (texts, batch size) → vectors (n, D).
        texts: All n texts.
        ids: The token ids of each text, as ``encode`` makes them.
        model: The transformers model that ``encode`` calls.
        sizes: The batch sizes to try.
    """
    encode(texts[:WARM_UP], sizes[0])
    tries = []
    for size in sizes:
        with counted(model) as tokens:
            started = time.perf_counter()
            vectors = encode(texts, size)
            tries.append((time.perf_counter() - started, size, sum(tokens) / sum(map(len, ids)), vectors))
    _, best, notes["padding"], vectors = min(tries, key=lambda tried: tried[0])
    notes["batch"] = best
    unused = [vectors]  # the output of the first round, whose time does not count

    def once() -> Any:
        vectors = np.asarray(unused.pop() if unused else encode(texts, best), dtype=np.float32)
        return lambda: ours.encoded(vectors, ids)

    return once


def at_most(sizes: Sequence[int], texts: Sequence[str]) -> list[int]:
    """Return the batch sizes, at most a quarter of the texts: in one batch a sort would change nothing."""
    return [*dict.fromkeys(min(size, max(1, len(texts) // 4)) for size in sizes)]


def inside(model: Any) -> tuple[Any, Callable[[Sequence[str]], list[list[int]]]]:
    """Return the transformers model of a sentence-transformers model, and a function that makes token ids."""
    from transformers import PreTrainedModel

    def ids(texts: Sequence[str]) -> list[list[int]]:
        read = model.preprocess(list(texts))
        return [
            row[mask.bool()].tolist()
            for row, mask in zip(read["input_ids"], read["attention_mask"], strict=True)
        ]

    return next(part for part in model.modules() if isinstance(part, PreTrainedModel)), ids


def settings(dtype: str) -> dict[str, Any]:
    """Return the arguments with which a sentence-transformers model is opened."""
    return {"device": ours.device().type, "local_files_only": True, "model_kwargs": {"dtype": dtype}}


def sentence_transformers(folder: str, exported: str, texts: str, dtype: str) -> Once:
    """Encode with ``SentenceTransformer.encode``."""
    from sentence_transformers import SentenceTransformer

    model, read = SentenceTransformer(exported, **settings(dtype)), ours.read_texts(texts)
    transformer, ids = inside(model)
    return tuned(
        lambda some, size: model.encode(list(some), batch_size=size, show_progress_bar=False),
        read,
        ids(read),
        transformer,
        at_most(TRIED, read),
    )


def beir(folder: str, exported: str, texts: str, dtype: str) -> Once:
    """Encode in the dense search of beir, with its wrapper; a search of only one query fails."""
    from beir.retrieval.models import SentenceBERT
    from beir.retrieval.search.dense import DenseRetrievalExactSearch

    kept: dict[int, Any] = {}

    class Keeping(SentenceBERT):  # type: ignore[misc]
        """A model that keeps the vectors, which the search does not return."""

        def encode_corpus(self, corpus: Any, **options: Any) -> Any:
            vectors = super().encode_corpus(corpus, **options)
            kept.update(zip((document["row"] for document in corpus), vectors.float().numpy(), strict=True))
            return vectors

    model, read = Keeping(exported, **settings(dtype)), ours.read_texts(texts)
    transformer, ids = inside(model.doc_model)

    def encode(some: Sequence[str], size: int) -> Any:
        corpus = {str(row): {"title": "", "text": text, "row": row} for row, text in enumerate(some)}
        engine = DenseRetrievalExactSearch(model, batch_size=size, show_progress_bar=False)
        engine.search(corpus, {"one": "word", "two": "word"}, top_k=10, score_function="dot")
        return np.stack([kept[row] for row in range(len(some))])

    return tuned(encode, read, ids(read), transformer, at_most(TRIED[::-1], read))


def mteb(folder: str, exported: str, texts: str, dtype: str) -> Once:
    """Encode with the wrapper of sentence-transformers in mteb."""
    from datasets import Dataset
    from mteb import get_task
    from mteb.models import SentenceTransformerEncoderWrapper
    from mteb.types import PromptType
    from torch.utils.data import DataLoader

    model, read = SentenceTransformerEncoderWrapper(exported, **settings(dtype)), ours.read_texts(texts)
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
    """Encode with one of :data:`loops.LOOPS`."""
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(exported, dtype=dtype, local_files_only=True).eval().to(ours.device())
    tokenizer = AutoTokenizer.from_pretrained(exported, local_files_only=True, padding_side="right")
    read, (function, sizes) = ours.read_texts(texts), LOOPS[name]
    return tuned(
        lambda some, size: function(model, tokenizer, some, size, max_length=max_length, pooling=pooling),
        read,
        tokenizer(read, truncation=True, max_length=max_length)["input_ids"],
        model,
        sizes if name == "plain" else at_most((*sizes, *LARGE), read),
    )
