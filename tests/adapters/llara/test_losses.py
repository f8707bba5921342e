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
from adapters.llara.objective import AdaptationModel, combine
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


@pytest.mark.parametrize("distinct", [True, False])
def test_bag_of_words_is_the_mean_over_target_tokens_summed_over_texts(distinct: bool) -> None:
    states, head = make()
    expected = torch.zeros(())
    for state, target in zip(states, TARGETS, strict=True):
        log_p = (state @ head.weight.T).max(dim=0).values.log_softmax(0)
        tokens = sorted(set(target)) if distinct else target
        if tokens:
            expected = expected - log_p[tokens].mean()
    loss = bag_of_words_loss(states, bag_weights(padded(TARGETS), VOCABULARY, distinct=distinct), head)
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
    expected = 3 * F.cross_entropy(logits, labels, reduction="sum")
    loss = 3 * language_model_loss(hidden, labels, head)
    assert_equal_with_gradients(loss, expected, [hidden, head.weight])


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden = torch.randn(4, HIDDEN_SIZE, requires_grad=True)
    weight = torch.randn(VOCABULARY, HIDDEN_SIZE)
    language_model_loss(hidden, torch.arange(4), Head(weight)).backward()
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


COUNTS = Sums(10, 4, 2)
SUMS = Sums(50.0, 80.0, 60.0)


@pytest.mark.parametrize(
    ("task", "counts", "expected"),
    [
        (Adaptation(), COUNTS, (5.0, 1.0, 1.5)),
        (Adaptation(scale=1.0, averaged=False), COUNTS, (5.0, 20.0, 30.0)),
        (Adaptation(ebar=False), COUNTS, (5.0, 2.0, 3.0)),  # alone, a term counts whole
        (Adaptation(), Sums(10, 4, 0), (5.0, 2.0, 6.0)),
    ],
    ids=["released", "paper", "ebae only", "no target"],
)
def test_terms_are_means_over_the_whole_batch_combined_as_the_variant_says(
    task: Adaptation, counts: Sums, expected: tuple[float, ...]
) -> None:
    assert combine(SUMS, counts, task) == pytest.approx(expected)


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
    batch = Batch(joint, torch.tensor([[7], [8]]), torch.tensor([[9], [NO_TOKEN]]))
    with Watch() as watch:
        sum(model(batch)).backward()
    assert len(watch.names) > 20
    assert not watch.names & {"_local_scalar_dense", "nonzero", "item", "is_nonzero"}
    assert watch.largest < joint.ids.numel() * 300 / 2, "logits of every position at once"
