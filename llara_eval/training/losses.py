"""InfoNCE with hard, in-batch and cross-device negatives, and distillation: one pure function.

Shapes: Q queries of this process; of all processes: R queries, P passages; D width, K known positives.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llara_eval.training.config import Contrast

NO_KEY = 0
"""Padding of rows of keys; no text has this key."""


class Labels(NamedTuple):
    """What is known about the queries and passages of a batch; a key stands for a text.

    Attributes:
        positives: (Q,) the row of each query's positive among the passages.
        groups: (Q,) the number of each query's group.
        queries: (Q,) keys of the queries.
        all_queries: (R,) keys of the queries of all processes.
        known: (R, K) keys of all positives of those, padded with ``NO_KEY``.
        passages: (P,) keys of the passages.
        passage_groups: (P,) the group each passage was drawn for.
        teacher: (P,) scores of another model for passage and query of a group; NaN where there are none.
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
        contrastive: −log of the positive's share (InfoNCE, van den Oord et al. 2018, arXiv 1807.03748).
        distillation: KL divergence of the model's shares within the group from the teacher's.
    """

    contrastive: Tensor
    distillation: Tensor


def key_of(text: Sequence[int]) -> int:
    """Return the 63-bit key of a text given as token ids: what differs only behind the cut is the same."""
    ids = np.fromiter(text, dtype=np.int64)
    return int.from_bytes(hashlib.blake2b(ids.tobytes(), digest_size=8).digest()) >> 1 or 1


def keys_of(texts: Iterable[Sequence[int]]) -> list[int]:
    """Return the keys of texts, each given as token ids."""
    return [key_of(text) for text in texts]


def candidates(labels: Labels, *, in_batch: bool) -> Tensor:
    """Return which passages each query is compared with: its positive and its negatives.

    A known positive of the query, from any row of the batch with the same query, is no negative. A text
    that occurs more than once counts once.

    Args:
        labels: See :class:`Labels`.
        in_batch: Whether passages drawn for other queries count.

    Returns:
        (Q, P) bool.
    """
    rows = torch.arange(len(labels.passages), device=labels.passages.device)
    if in_batch:
        _, text = labels.passages.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        first = torch.full_like(rows, len(rows)).scatter_reduce(0, text, rows, "amin")
        allowed = (first[text] == rows)[None, :]
    else:
        allowed = labels.groups[:, None] == labels.passage_groups
    is_positive = (labels.known[:, :, None] == labels.passages).any(dim=1)  # (R, P)
    same_query = labels.queries[:, None] == labels.all_queries  # (Q, R)
    known = (same_query.float() @ is_positive.float()) > 0
    return (allowed & ~known) | (rows == labels.positives[:, None])


def contrastive_loss(queries: Tensor, passages: Tensor, labels: Labels, contrast: Contrast) -> Losses:
    """Return the losses of a batch, summed over its queries.

    With s the cosines divided by the temperature: contrastive = −log(exp s₊ / Σ exp s) over the
    candidates; distillation = Σ p (log p − log q) over the passages of the query's own group, p the
    softmax of the teacher's scores and q that of s.

    Args:
        queries: (Q, D) unit vectors.
        passages: (P, D) unit vectors.
        labels: What is known about them.
        contrast: Temperature, and which passages count.
    """
    scores = queries @ passages.T / contrast.temperature
    kept = candidates(labels, in_batch=contrast.in_batch)
    shares = scores.masked_fill(~kept, -torch.inf).log_softmax(dim=1)
    contrastive = -shares.gather(1, labels.positives[:, None]).sum()
    if not contrast.distillation:
        return Losses(contrastive, torch.zeros_like(contrastive))
    taught = (labels.groups[:, None] == labels.passage_groups) & ~labels.teacher.isnan()
    lowest = torch.finfo(scores.dtype).min  # not −∞: a query without a teacher has no passage here
    student = scores.masked_fill(~taught, lowest).log_softmax(dim=1)
    teacher = labels.teacher.nan_to_num().expand_as(scores).masked_fill(~taught, lowest).log_softmax(dim=1)
    divergence = teacher.exp() * (teacher - student)
    return Losses(contrastive, divergence.masked_fill(~taught, 0.0).sum())
