"""The losses of LLaRA against their definitions, computed text by text and without chunks."""

import pytest
import torch
import torch.nn.functional as F
from tiny_models import make_config
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from adapters.llara import losses
from adapters.llara.batches import Batch, Sums
from adapters.llara.config import Adaptation
from adapters.llara.joint import Frame, lay_out
from adapters.llara.losses import (
    NO_TOKEN,
    Head,
    bag_of_words_loss,
    bag_recall,
    bag_weights,
    language_model_loss,
)
from adapters.llara.objective import AdaptationModel, row_weights
from llara_eval.core.errors import UsageError

VOCABULARY, HIDDEN_SIZE, SLOTS = 50, 12, 3
TARGETS = [[4, 9, 9, 30], [], [7], [1, 2, 3, 4, 5, 5]]


def padded(targets: list[list[int]]) -> torch.Tensor:
    longest = max(map(len, targets))
    return torch.tensor([row + [NO_TOKEN] * (longest - len(row)) for row in targets])


def assert_equal_with_gradients(
    loss: torch.Tensor, expected: torch.Tensor, inputs: list[torch.Tensor]
) -> None:
    assert torch.allclose(loss, expected, rtol=1e-5)
    gradients = (torch.autograd.grad(value, inputs) for value in (loss, expected))
    for gradient, expected_gradient in zip(*gradients, strict=True):
        assert torch.allclose(gradient, expected_gradient, atol=1e-4)


def make(softcap: float | None = None) -> tuple[torch.Tensor, Head]:
    torch.manual_seed(0)
    states = torch.randn(len(TARGETS), SLOTS, HIDDEN_SIZE, requires_grad=True)
    return states, Head(torch.randn(VOCABULARY, HIDDEN_SIZE, requires_grad=True), softcap)


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("distinct", [True, False])
def test_bag_of_words_is_the_mean_or_sum_over_target_tokens_weighted_over_texts(
    distinct: bool, mean: bool
) -> None:
    states, head = make()
    shares = torch.tensor([0.5, 1.0, 2.0, 0.25])
    expected = torch.zeros(())
    for share, state, target in zip(shares, states, TARGETS, strict=True):
        log_p = (state @ head.weight.T).max(dim=0).values.log_softmax(0)
        tokens = sorted(set(target)) if distinct else target
        if tokens:
            expected = expected - share * (log_p[tokens].mean() if mean else log_p[tokens].sum())
    weights = bag_weights(padded(TARGETS), VOCABULARY, distinct=distinct, mean=mean)
    loss = bag_of_words_loss(states, weights * shares[:, None], head)
    assert_equal_with_gradients(loss, expected, [states, head.weight])


def test_a_text_without_target_contributes_nothing() -> None:
    states, head = make()
    loss = bag_of_words_loss(states, bag_weights(padded(TARGETS), VOCABULARY, distinct=True), head)
    (gradient,) = torch.autograd.grad(loss, [states])
    assert gradient[1].abs().max() == 0
    assert gradient[0].abs().max() > 0


def test_recall_is_the_share_of_distinct_targets_among_as_many_top_logits() -> None:
    states, head = make()
    targets = [list(range(25)), [], [7], list(range(30, 50))]
    expected = 0.0
    for state, target in zip(states, targets, strict=True):
        top = (state @ head.weight.T).max(dim=0).values.topk(len(target)).indices.tolist()
        expected += len({*target} & {*top}) / max(len(target), 1)
    recall = bag_recall(states, bag_weights(padded(targets), VOCABULARY, distinct=True), head)
    assert float(recall) == pytest.approx(expected)
    assert 0.5 < expected < 2, "a recall of none or all would prove little"


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("rows", [1, 7, 8])
def test_the_language_model_term_in_chunks_is_cross_entropy(
    softcap: float | None, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "_CHUNK_LOGITS", 4 * VOCABULARY)
    _, head = make(softcap)
    hidden = torch.randn(rows, HIDDEN_SIZE, requires_grad=True)
    labels = torch.randint(0, VOCABULARY, (rows,))
    logits = hidden @ head.weight.T
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    weights = torch.rand(rows)
    expected = 3 * (weights * F.cross_entropy(logits, labels, reduction="none")).sum()
    loss = 3 * language_model_loss(hidden, labels, weights, head)
    assert_equal_with_gradients(loss, expected, [hidden, head.weight])


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden = torch.randn(4, HIDDEN_SIZE, requires_grad=True)
    weight = torch.randn(VOCABULARY, HIDDEN_SIZE)
    language_model_loss(hidden, torch.arange(4), torch.ones(4), Head(weight)).backward()
    assert weight.grad is None
    assert hidden.grad is not None


def test_a_head_with_a_scale_is_refused() -> None:
    model = AutoModelForCausalLM.from_config(make_config("llama"))
    model.config.logit_scale = 0.5
    with pytest.raises(UsageError, match="head without bias or scale"):
        AdaptationModel(model, Adaptation())


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_the_head_gives_the_models_own_logits(architecture: str) -> None:
    model = AutoModelForCausalLM.from_config(make_config(architecture)).eval()
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        hidden = model.base_model(input_ids=ids).last_hidden_state
        assert torch.allclose(Head.of(model)(hidden), model(input_ids=ids).logits, atol=1e-5)


COUNTS = torch.tensor([[3.0, 1, 0], [2, 1, 1], [4, 0, 0], [1, 1, 1]])
"""Of four rows: tokens, and whether EBAE and EBAR have a target."""

LOSSES = torch.tensor([[3.0, 40, 0], [8, 20, 30], [6, 0, 0], [1, 30, 10]])
"""Of the same rows: the sum over tokens, and the terms of EBAE and EBAR."""


@pytest.mark.parametrize(
    ("task", "block", "expected"),
    [
        (Adaptation(), 4, (1.8, 1.5, 1.0)),
        (Adaptation(scale=1.0, averaged=False), 4, (1.8, 30.0, 20.0)),
        (Adaptation(ebar=False), 4, (1.8, 3.0, 0.0)),  # alone, a term counts whole
        (Adaptation(), 2, ((11 / 5 + 7 / 5) / 2, (1.5 + 1.5) / 2, (1.5 + 0.5) / 2)),
        # The first row has EBAE alone, which counts whole, and the third has neither.
        (Adaptation(), 1, ((1 + 4 + 1.5 + 1) / 4, (4 + 1 + 0 + 1.5) / 4, (0 + 1.5 + 0 + 0.5) / 4)),
    ],
    ids=["batch", "paper", "ebae only", "two a device", "one a device"],
)
def test_terms_are_means_over_a_block_and_then_over_blocks(
    task: Adaptation, block: int, expected: tuple[float, ...]
) -> None:
    assert (row_weights(COUNTS, block, task) * LOSSES).sum(dim=0).tolist() == pytest.approx(expected)


def test_a_batch_that_devices_cannot_share_is_refused() -> None:
    assert Adaptation(lm_mean="device", device_batch=4).block(8) == 4
    with pytest.raises(UsageError, match="a batch of 10 rows is no multiple of device_batch=4"):
        Adaptation(lm_mean="device", device_batch=4).block(10)
    with pytest.raises(UsageError, match="device_batch must be at least 1, found 0"):
        Adaptation(device_batch=0)


def test_adaptation_to_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="EBAE or EBAR"):
        Adaptation(ebae=False, ebar=False)


class Watch(TorchDispatchMode):
    """Records the names of all operations and the size of the largest tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.names.add(function.__name__.split(".")[0])
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return out


def test_a_step_never_waits_for_the_device_nor_holds_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_CHUNK_LOGITS", 8 * 300)
    model = AdaptationModel(AutoModelForCausalLM.from_config(make_config("llama")), Adaptation())
    joint = lay_out([[7] * 40, [8] * 35], Frame((1,), (2, 3), (4, 5), 1))
    batch = Batch(joint, torch.tensor([[7], [8]]), torch.tensor([[9], [NO_TOKEN]]), Sums(*torch.ones(3, 2)))
    with Watch() as watch:
        sum(model(batch)).backward()
    assert len(watch.names) > 20
    assert not watch.names & {"_local_scalar_dense", "nonzero", "item", "is_nonzero"}
    assert watch.largest < joint.ids.numel() * 300 / 2, "logits of every position at once"
