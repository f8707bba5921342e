"""The contrastive losses against their definitions, computed query by query."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from llara_eval.core.errors import UsageError
from llara_eval.training.config import Contrast
from llara_eval.training.losses import NO_KEY, Labels, candidates, contrastive_loss, key_of

Group = tuple[str, Sequence[str], Sequence[str], Sequence[float] | None]
"""Query, passages (the positive first), known positives, teacher."""

GROUPS: list[Group] = [
    ("tides", ["moon", "sun", "bread"], ["moon"], [3.0, 1.0, 0.5]),
    ("baking", ["bread"], ["bread", "oven"], None),
    ("strings", ["violin", "oven", "bread"], ["violin"], [1.0, 0.0, -1.0]),
    ("tides", ["sea", "sun"], ["sea"], None),
]


def labels_of(groups: Sequence[Group]) -> Labels:
    sizes = torch.tensor([len(passages) for _, passages, _, _ in groups])
    queries = torch.tensor([key_of(query.encode()) for query, *_ in groups])
    width = max(len(known) for _, _, known, _ in groups)
    return Labels(
        positives=sizes.cumsum(0) - sizes,
        groups=torch.arange(len(groups)),
        queries=queries,
        all_queries=queries,
        known=torch.tensor(
            [
                [key_of(text.encode()) for text in known] + [NO_KEY] * (width - len(known))
                for _, _, known, _ in groups
            ]
        ),
        passages=torch.tensor([key_of(text.encode()) for _, passages, _, _ in groups for text in passages]),
        passage_groups=torch.arange(len(groups)).repeat_interleave(sizes),
        teacher=torch.tensor(
            [score for _, texts, _, taught in groups for score in taught or [math.nan] * len(texts)]
        ),
    )


def embeddings_of(groups: Sequence[Group]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return unit vectors of queries and passages; equal texts have equal vectors."""

    def vector(text: str) -> torch.Tensor:
        drawn = torch.randn(8, generator=torch.Generator().manual_seed(key_of(text.encode()) % 2**31))
        return drawn / drawn.norm()

    queries = torch.stack([vector(query) for query, *_ in groups])
    return queries, torch.stack([vector(text) for _, texts, _, _ in groups for text in texts])


def expected_contrastive(
    groups: Sequence[Group], temperature: float, block: int = 4, *, mask_known: bool = True
) -> float:
    """Return InfoNCE by its definition, over the passages of a block of queries.

    With ``mask_known``, it is over different texts, none of them a known positive of the query.
    """
    queries, passage_vectors = embeddings_of(groups)
    texts = [text for _, passages, _, _ in groups for text in passages]
    vector = dict(zip(texts, passage_vectors, strict=True))
    total = 0.0
    for number, ((query, (positive, *_), _, _), embedding) in enumerate(zip(groups, queries, strict=True)):
        first = number // block * block
        compared = [text for _, passages, _, _ in groups[first : first + block] for text in passages]
        if mask_known:
            known = {text for other, _, known, _ in groups if other == query for text in known}
            compared = [*({*compared} - known), positive]
        scores = [float(embedding @ vector[text]) / temperature for text in compared]
        total -= float(embedding @ vector[positive]) / temperature - math.log(sum(map(math.exp, scores)))
    return total


def expected_distillation(groups: Sequence[Group], temperature: float) -> float:
    queries, passage_vectors = embeddings_of(groups)
    total, start = 0.0, 0
    for (_, passages, _, teacher), embedding in zip(groups, queries, strict=True):
        group = passage_vectors[start : start + len(passages)]
        start += len(passages)
        if teacher is not None:
            student = (group @ embedding / temperature).log_softmax(0)
            target = torch.tensor(teacher).log_softmax(0)
            total += float((target.exp() * (target - student)).sum())
    return total


NEGATIVES: dict[int, dict[str, Any]] = {
    4: {"negatives": "batch"},
    1: {"negatives": "group"},
    2: {"negatives": "device", "device_batch": 2},
}
"""Queries that are compared with each other's passages → settings."""


@pytest.mark.parametrize("mask_known", [True, False])
@pytest.mark.parametrize("block", NEGATIVES)
@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_the_loss_is_infonce_by_its_definition(block: int, temperature: float, mask_known: bool) -> None:
    contrast = Contrast(temperature=temperature, mask_known=mask_known, **NEGATIVES[block])
    losses = contrastive_loss(*embeddings_of(GROUPS), labels_of(GROUPS), contrast, batch_size=4)
    assert float(losses.contrastive) == pytest.approx(
        expected_contrastive(GROUPS, temperature, block, mask_known=mask_known), rel=1e-5
    )
    assert float(losses.distillation) == 0


def test_distillation_is_the_divergence_within_groups_that_have_a_teacher() -> None:
    contrast = Contrast(temperature=0.1, distillation=0.5)
    losses = contrastive_loss(*embeddings_of(GROUPS), labels_of(GROUPS), contrast, batch_size=4)
    assert float(losses.distillation) == pytest.approx(expected_distillation(GROUPS, 0.1), rel=1e-5)
    assert float(losses.contrastive) == pytest.approx(expected_contrastive(GROUPS, 0.1), rel=1e-5)


def test_the_gradient_of_distillation_is_finite_though_some_rows_have_no_teacher() -> None:
    queries, passage_vectors = (vectors.requires_grad_() for vectors in embeddings_of(GROUPS))
    contrast = Contrast(distillation=1.0)
    losses = contrastive_loss(queries, passage_vectors, labels_of(GROUPS), contrast, batch_size=4)
    losses.distillation.backward()
    assert bool(queries.grad.isfinite().all())
    assert bool(passage_vectors.grad.isfinite().all())
    assert float(queries.grad[1].abs().sum()) == 0  # no teacher, nothing learnt


def test_a_text_counts_once_and_a_positive_of_the_same_query_is_no_negative() -> None:
    kept = candidates(labels_of(GROUPS), block=4, mask_known=True)
    #                     moon   sun    bread  bread  violin oven   bread  sea    sun
    assert kept.tolist() == [
        [True, True, True, False, True, True, False, False, False],  # sea answers tides too
        [True, True, False, True, True, False, False, True, False],  # its group's bread; oven is known
        [True, True, True, False, True, True, False, True, False],
        [False, True, True, False, True, True, False, True, False],
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"negatives": "device", "device_batch": 3}, "3 queries at a time, and a batch of 8 is no multiple"),
        ({"negatives": "gathered", "device_batch": 2}, "compares 16 queries at a time"),
    ],
)
def test_a_batch_is_divided_into_whole_blocks(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Contrast(**settings).block(8)


@pytest.mark.parametrize("name", ["device_batch", "devices"])
def test_a_run_without_devices_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="must be at least 1"):
        Contrast(**{name: 0})
