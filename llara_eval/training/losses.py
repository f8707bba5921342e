"""InfoNCE with hard and in-batch negatives, and distillation: one pure function.

Shapes: Q queries of this process, R queries and P passages of all processes, K known positives of a query,
D hidden size.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llara_eval.training.config import Contrast

NO_KEY = 0
"""Padding of lists of keys; no text has this key."""


class Labels(NamedTuple):
    """The relevance of the passages of a batch to its queries; a text is represented by a key.

    Attributes:
        positives: (Q,) the index of each query's positive among the passages.
        groups: (Q,) the number of each query's group, its position in the batch.
        queries: (Q,) keys of the queries.
        all_queries: (R,) keys of the queries of all processes.
        known: (R, K) keys of all positives of these queries, padded with ``NO_KEY``.
        passages: (P,) keys of the passages.
        passage_groups: (P,) the number of the group that each passage was drawn for.
        teacher: (P,) a teacher's score of each passage for its group's query; NaN where there is none.
    """

    positives: Tensor
    groups: Tensor
    queries: Tensor
    all_queries: Tensor
    known: Tensor
    passages: Tensor
    passage_groups: Tensor
    teacher: Tensor


class Losses(NamedTuple):
    """Sums over the queries.

    Attributes:
        contrastive: InfoNCE (van den Oord et al. 2018, arXiv 1807.03748).
        distillation: KL divergence of the model's distribution over a group from the teacher's.
    """

    contrastive: Tensor
    distillation: Tensor


def key_of(ids: Sequence[int]) -> int:
    """Return the 63-bit key of a text from its token ids; texts that are equal up to the cut share a key."""
    content = np.fromiter(ids, dtype=np.int64).tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()) >> 1 or 1


def candidates(labels: Labels, *, block: int, mask_known: bool) -> Tensor:
    """Return which passages each query is compared with: its positive and its negatives.

    Args:
        labels: The relevance of passages to queries.
        block: Groups of a block; a query is compared with the passages of its block.
        mask_known: Whether, of equal passages of a block, one counts, and a positive of any row of the batch
            with the same query is no negative of the query.

    Returns:
        (Q, P) bool, True where query and passage are compared.
    """
    rows = torch.arange(len(labels.passages), device=labels.passages.device)
    passage_blocks = labels.passage_groups // block
    allowed = labels.groups[:, None] // block == passage_blocks
    if mask_known:
        texts = torch.stack([passage_blocks, labels.passages])
        _, text = texts.unique(dim=1, return_inverse=True)  # type: ignore[no-untyped-call]
        first = torch.full_like(rows, len(rows)).scatter_reduce(0, text, rows, "amin")
        is_positive = (labels.known[:, :, None] == labels.passages).any(dim=1)  # (R, P)
        same_query = labels.queries[:, None] == labels.all_queries  # (Q, R)
        is_known = (same_query.float() @ is_positive.float()) > 0
        allowed &= (first[text] == rows) & ~is_known
    return allowed | (rows == labels.positives[:, None])


def contrastive_loss(
    queries: Tensor, passages: Tensor, labels: Labels, contrast: Contrast, *, batch_size: int
) -> Losses:
    """Return the losses of a batch, summed over its queries.

    With s the cosines divided by the temperature: contrastive = −log(exp s₊ / Σ exp s) over the
    candidates; distillation = Σ p (log p − log q) over the passages of the query's own group, p the
    softmax of the teacher's scores and q that of s.

    Args:
        queries: (Q, D) unit embeddings.
        passages: (P, D) unit embeddings.
        labels: The relevance of passages to queries.
        contrast: The temperature, and which terms and passages count.
        batch_size: R, the queries of all processes.
    """
    scores = queries @ passages.T / contrast.temperature
    compared = candidates(labels, block=contrast.block(batch_size), mask_known=contrast.mask_known)
    log_p = scores.masked_fill(~compared, -torch.inf).log_softmax(dim=1)
    contrastive = -log_p.gather(1, labels.positives[:, None]).sum()
    if not contrast.distillation:
        return Losses(contrastive, torch.zeros_like(contrastive))
    taught = (labels.groups[:, None] == labels.passage_groups) & ~labels.teacher.isnan()
    # Not −∞: of a query without a teacher, all scores are masked, and the softmax would be NaN.
    lowest = torch.finfo(scores.dtype).min
    student = scores.masked_fill(~taught, lowest).log_softmax(dim=1)
    teacher = labels.teacher.nan_to_num().expand_as(scores).masked_fill(~taught, lowest).log_softmax(dim=1)
    divergence = teacher.exp() * (teacher - student)
    return Losses(contrastive, divergence.masked_fill(~taught, 0.0).sum())
