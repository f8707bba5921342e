"""The contrastive losses against their definitions, computed query by query."""

import math
from collections.abc import Sequence

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


def expected_contrastive(groups: Sequence[Group], temperature: float, in_batch: bool) -> float:
    """Return InfoNCE by its definition: over different texts, none of them a known positive of the query."""
    queries, passage_vectors = embeddings_of(groups)
    texts = [text for _, passages, _, _ in groups for text in passages]
    vector = dict(zip(texts, passage_vectors, strict=True))
    total = 0.0
    for (query, passages, _, _), embedding in zip(groups, queries, strict=True):
        known = {text for other, _, known, _ in groups if other == query for text in known}
        negatives = set(texts if in_batch else passages) - known
        scores = {text: float(embedding @ vector[text]) / temperature for text in {*negatives, passages[0]}}
        total -= scores[passages[0]] - math.log(sum(math.exp(score) for score in scores.values()))
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


@pytest.mark.parametrize("in_batch", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_the_loss_is_infonce_by_its_definition(in_batch: bool, temperature: float) -> None:
    contrast = Contrast(temperature=temperature, in_batch=in_batch)
    losses = contrastive_loss(*embeddings_of(GROUPS), labels_of(GROUPS), contrast)
    assert float(losses.contrastive) == pytest.approx(
        expected_contrastive(GROUPS, temperature, in_batch), rel=1e-5
    )
    assert float(losses.distillation) == 0


def test_distillation_is_the_divergence_within_groups_that_have_a_teacher() -> None:
    contrast = Contrast(temperature=0.1, distillation=0.5)
    losses = contrastive_loss(*embeddings_of(GROUPS), labels_of(GROUPS), contrast)
    assert float(losses.distillation) == pytest.approx(expected_distillation(GROUPS, 0.1), rel=1e-5)
    assert float(losses.contrastive) == pytest.approx(expected_contrastive(GROUPS, 0.1, True), rel=1e-5)


def test_the_gradient_of_distillation_is_finite_though_some_rows_have_no_teacher() -> None:
    queries, passage_vectors = (vectors.requires_grad_() for vectors in embeddings_of(GROUPS))
    losses = contrastive_loss(queries, passage_vectors, labels_of(GROUPS), Contrast(distillation=1.0))
    losses.distillation.backward()
    assert bool(queries.grad.isfinite().all())
    assert bool(passage_vectors.grad.isfinite().all())
    assert float(queries.grad[1].abs().sum()) == 0  # no teacher, nothing learnt


def test_a_text_counts_once_and_a_positive_of_the_same_query_is_no_negative() -> None:
    kept = candidates(labels_of(GROUPS), in_batch=True)
    #                     moon   sun    bread  bread  violin oven   bread  sea    sun
    assert kept.tolist() == [
        [True, True, True, False, True, True, False, False, False],  # sea answers tides too
        [True, True, False, True, True, False, False, True, False],  # its group's bread; oven is known
        [True, True, True, False, True, True, False, True, False],
        [False, True, True, False, True, True, False, True, False],
    ]


def test_without_in_batch_negatives_there_must_be_others() -> None:
    with pytest.raises(UsageError, match="has no negatives"):
        Contrast(group_size=1, in_batch=False)
