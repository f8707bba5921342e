"""Evaluation of a model in training: nDCG@10 on a small data set that fits in memory."""

from typing import Any

import numpy as np
import torch

from llara_eval.core.types import Hits, as_ids
from llara_eval.datasets.dataset import Dataset
from llara_eval.encoding.encoder import Encoder
from llara_eval.encoding.model_facts import evaluating
from llara_eval.encoding.templates import Templates
from llara_eval.scoring.measures import score
from llara_eval.scoring.ranking import rank

_DEPTH = 10


def ndcg_at_10(
    dataset: Dataset,
    model: Any,
    tokenizer: Any,
    templates: Templates,
    *,
    micro_tokens: int,
    precision: torch.dtype,
) -> dict[str, float]:
    """Return mean nDCG@10 over the judged queries of a data set.

    Args:
        dataset: A small data set: all its vectors are held in memory.
        model: Called like a transformers base model; all processes must take part if it is sharded.
        tokenizer: Its tokenizer.
        templates: Its templates.
        micro_tokens: Most tokens of a micro-batch.
        precision: The dtype of matrix products, float32 or bfloat16.
    """
    in_bfloat16 = precision == torch.bfloat16
    with evaluating(model), torch.autocast(model.device.type, torch.bfloat16, enabled=in_bfloat16):
        encoder = Encoder(model, tokenizer, templates, batch_tokens=micro_tokens)
        documents = list(dataset.corpus)
        vectors = encoder.encode([document.contents for document in documents], "document")
        queries = encoder.encode([query.text for query in dataset.queries], "query")
    scores = queries @ vectors.T
    # One more hit shows ties, and another one makes up for a document with the query's own identifier.
    count = min(len(documents), _DEPTH + 2)
    best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    hits = Hits(
        as_ids(query.query_id for query in dataset.queries),
        as_ids(document.doc_id for document in documents),
        np.repeat(np.arange(len(queries)), count),
        best.ravel(),
        np.take_along_axis(scores, best, axis=1).ravel(),
    )
    run = rank(hits, depth=_DEPTH, drop_own_ids=dataset.drop_own_ids)
    return score(dataset.qrels, run, ["nDCG@10"]).means
