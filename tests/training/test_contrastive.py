"""The contrastive objective: chunks, dropout, compiled layers, and two processes."""

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny_models import kept_for_backward, make_config, make_model, make_tokenizer
from tiny_training import make_task, read_log, tune
from transformers import AutoModel

from adapters.llara.templates import templates
from llara_eval.encoding.compile import compile_layers
from llara_eval.training.checkpoint import add_lora
from llara_eval.training.config import Contrast, LoRA
from llara_eval.training.contrastive import Finetune
from llara_eval.training.gradient_cache import cached_backward
from llara_eval.training.groups import draw
from llara_eval.training.losses import candidates
from llara_eval.training.objective import Step

TOKENIZER = make_tokenizer()
WORDS = ["sun", "moon", "earth", "star", "sea", "river", "stone", "bread", "violin", "cello", "guitar", "bow"]


def make_rows(count: int) -> list[tuple[int, dict[str, Any]]]:
    drawn = random.Random(1)

    def text() -> str:
        return " ".join(drawn.choices(WORDS, k=drawn.randint(2, 9)))

    rows = []
    for number in range(count):
        negatives = [text() for _ in range(drawn.randint(0, 5))]
        row: dict[str, Any] = {"query": text(), "pos": [text(), text()], "neg": negatives}
        if number % 2:
            row |= {"pos_scores": [2.0, 1.0], "neg_scores": [drawn.random() for _ in negatives]}
        rows.append((number, row))
    rows[3][1]["query"] = rows[0][1]["query"]
    return rows


def make_objective(model: torch.nn.Module, micro_tokens: int, **contrast: Any) -> Finetune:
    return Finetune(
        model,
        TOKENIZER,
        templates(TOKENIZER).cut_to(110, 120),
        Contrast(**{"group_size": 4, "temperature": 0.05, "distillation": 0.3, **contrast}),
        seed=1,
        micro_tokens=micro_tokens,
        precision=torch.float32,
    )


def step_of(objective: Finetune, rows: list[tuple[int, dict[str, Any]]], epoch: int = 0) -> Step:
    return objective.step(objective.read(rows, epoch))


def gradients(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([weight.grad.flatten() for weight in model.parameters()])


def test_small_chunks_give_the_gradients_of_one_pass_over_everything() -> None:
    results = []
    for micro_tokens in (1_000_000, 400):
        model = make_model("llama").train()
        step = step_of(make_objective(model, micro_tokens), make_rows(8))
        results.append((step.terms["loss"], gradients(model), step.tokens))
    (loss, whole, tokens), (chunked_loss, chunked, same) = results
    assert chunked_loss == pytest.approx(loss, rel=1e-6)
    assert float((chunked - whole).norm()) <= 1e-5 * float(whole.norm())
    assert tokens == same


def test_texts_that_differ_only_after_the_limit_are_the_same_text() -> None:
    """Up to the limit of the model, a hard negative equals the positive, and a query equals another."""
    long = "stone bread violin " * 20
    objective = make_objective(make_model("llama"), 1_000, distillation=0.0)
    rows = [
        (0, {"query": long + "sun", "pos": [long + "one"], "neg": [long + "two", "sea"]}),
        (1, {"query": long + "sea", "pos": ["moon"], "neg": []}),
    ]
    drawn = objective.read(rows, epoch=0)
    labels = objective._labels(drawn)
    same = [text == drawn.passages[0] for text in drawn.passages]
    assert sum(same) == 2
    expected = [[not other for other in same[:3]] + [False], [not other for other in same[:3]] + [True]]
    expected[0][0] = True
    assert candidates(labels, block=2, mask_known=True).tolist() == expected


def test_the_terms_are_logged_separately_and_add_up() -> None:
    terms = step_of(make_objective(make_model("llama").train(), 1_000), make_rows(8)).terms
    assert terms["loss"] == pytest.approx(terms["contrastive"] + 0.3 * terms["distillation"])
    without = make_objective(make_model("llama").train(), 1_000, distillation=0)
    assert set(step_of(without, make_rows(4)).terms) == {"loss"}


def test_a_chunk_has_the_same_dropout_in_both_of_its_passes() -> None:
    dropout = torch.nn.Dropout(0.5)
    weight = torch.nn.Parameter(torch.ones(3, 4))
    seen: dict[int, list[torch.Tensor]] = {0: [], 1: [], 2: []}

    def embed(number: int) -> torch.Tensor:
        out = dropout(weight[number : number + 1])
        seen[number].append(out.detach())
        return out

    torch.manual_seed(3)
    cached_backward([0, 1, 2], embed, lambda rows: (rows**2).sum())
    after = torch.rand(1)
    assert [len(passes) for passes in seen.values()] == [2, 2, 1]  # the last chunk is computed once
    assert all(torch.equal(passes[0], passes[-1]) for passes in seen.values())
    assert not torch.equal(seen[0][0], seen[1][0])
    expected = torch.cat([passes[0] for passes in seen.values()])
    assert torch.allclose(weight.grad, 2 * expected * 2 * (expected > 0))  # d(2w)²/dw where it was kept
    torch.manual_seed(3)
    for number in range(3):
        dropout(weight[number : number + 1])
    assert torch.equal(after, torch.rand(1)), "the generator goes on as if everything was computed once"


def with_dropout() -> torch.nn.Module:
    torch.manual_seed(0)
    return AutoModel.from_config(make_config("llama", attention_dropout=0.3)).train()


@pytest.mark.nightly
def test_compiled_layers_drop_the_same_with_and_without_a_graph() -> None:
    torch.manual_seed(0)
    bare = AutoModel.from_config(make_config("llama", attention_dropout=0.3, num_hidden_layers=1)).train()
    model = add_lora(bare, LoRA(rank=4, alpha=8, dropout=0.3, targets=("q_proj",)))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)  # its initial value is zero, which dropout does not change
    compile_layers(model, torch.device("cpu"))

    def hidden(grad: bool, seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        with torch.set_grad_enabled(grad):
            return model(input_ids=torch.arange(40).view(2, 20), use_cache=False).last_hidden_state.detach()

    assert torch.equal(hidden(False, 3), hidden(True, 3))
    assert not torch.equal(hidden(True, 3), hidden(True, 4))


@pytest.mark.slow
def test_compiled_layers_keep_neither_rounded_weights_nor_what_is_elementwise() -> None:
    model = AutoModel.from_config(make_config("llama", num_hidden_layers=1)).train()
    compile_layers(model, torch.device("cpu"))
    with kept_for_backward(model) as kept, torch.autocast("cpu", torch.bfloat16):
        model(input_ids=torch.arange(40).view(1, 40), use_cache=False)
    shapes = [tensor.squeeze().shape for tensor in kept.values()]
    matrices = [weight.shape for weight in model.parameters() if weight.ndim == 2]
    assert not [shape for shape in matrices if shape in shapes or shape[::-1] in shapes]
    assert shapes.count((40, model.config.intermediate_size)) == 2, "gate and up, not their product"


def test_gradients_with_dropout_are_those_of_the_loss_that_is_logged() -> None:
    model, rows = with_dropout(), make_rows(6)
    objective = make_objective(model, 400)
    torch.manual_seed(5)
    first = step_of(objective, rows).terms["loss"]
    slope = gradients(model)
    direction = slope / slope.norm()
    losses = []
    for sign in (1, -1):  # the change of the logged loss along the gradient, same dropout
        moved = with_dropout()
        start = 0
        with torch.no_grad():
            for weight in moved.parameters():
                step = direction[start : start + weight.numel()].view_as(weight)
                weight.add_(step, alpha=sign * 1e-3)
                start += weight.numel()
        torch.manual_seed(5)
        losses.append(step_of(make_objective(moved, 400), rows).terms["loss"])
    assert first == pytest.approx(sum(losses) / 2, rel=0.01)
    assert (losses[0] - losses[1]) / 2e-3 == pytest.approx(float(slope.norm()), rel=0.05)


CASES: dict[str, tuple[Sequence[int], dict[str, Any]]] = {
    "equal shares": (range(4), {}),
    "unequal shares": (range(5), {}),
    "fewer passages than the other has chunks": ((2, 3, 6), {}),
    "four queries a device": ((0, 2, 4, 6), {"negatives": "device", "device_batch": 4}),
    "gathered from devices": ((0, 2, 4, 6), {"negatives": "gathered", "device_batch": 2, "devices": 2}),
}
"""Rows of the first of two processes, and settings."""


TERMS = ("loss", "grad_norm", "tokens", "nDCG@10")


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the output of :func:`one_process` from two processes."""
    folder = make_task(tmp_path_factory.mktemp("two"))
    mp.spawn(one_process, (str(folder),), nprocs=2)
    return folder


def one_process(number: int, folder: str) -> None:
    """Compute the gradients of all cases, then fine-tune in two runs, all on the CPU."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=2)
    rows = make_rows(8)
    for name, (first, contrast) in CASES.items():
        model = make_model("llama").train()
        share = [row for row in rows if (row[0] in first) == (number == 0)]
        step = step_of(make_objective(model, 600, **contrast), share)
        summed = gradients(model)
        dist.all_reduce(summed)
        torch.save({"gradients": summed / 2, "loss": step.terms["loss"]}, f"{folder}/{name} {number}")
    with pytest.raises(KeyboardInterrupt):
        tune(Path(folder), stopped=True)
    tune(Path(folder))
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_have_the_gradient_of_one(two_processes: Path, name: str) -> None:
    model = make_model("llama").train()
    step = step_of(make_objective(model, 600, **CASES[name][1]), make_rows(8))
    alone = gradients(model)
    one, two = (torch.load(two_processes / f"{name} {number}") for number in (0, 1))
    assert one["loss"] == two["loss"] == pytest.approx(step.terms["loss"], rel=1e-6)
    assert float((one["gradients"] - alone).norm()) <= 1e-5 * float(alone.norm())


def test_embeddings_gathered_without_gradients_leave_the_devices_share_of_the_gradient() -> None:
    results = []
    for contrast in ({"device_batch": 4}, {"negatives": "gathered", "device_batch": 2, "devices": 2}):
        model = make_model("llama").train()
        settings = {"negatives": "device", **contrast}
        loss = step_of(make_objective(model, 1_000_000, **settings), make_rows(8)).terms["loss"]
        results.append((loss, gradients(model)))
    (loss, whole), (gathered_loss, share) = results
    assert gathered_loss == pytest.approx(loss, rel=1e-6)
    assert float((2 * share - whole).norm()) <= 1e-5 * float(whole.norm())
    batch = make_model("llama").train()
    assert step_of(make_objective(batch, 1_000_000), make_rows(8)).terms["loss"] > loss + 1e-3


@pytest.mark.slow
def test_two_processes_that_were_stopped_fine_tune_as_one_does(
    tmp_path: Path, two_processes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    logs = [read_log(out) for out in (tune(make_task(tmp_path)), two_processes / "out")]
    one, two = (
        [{term: entry[term] for term in ("step", *TERMS) if term in entry} for entry in log] for log in logs
    )
    assert [entry["step"] for entry in two] == [0, 1, 2, 3, 3]
    for left, right in zip(one, two, strict=True):
        assert left == pytest.approx(right, rel=1e-4)


def test_a_batch_draws_other_passages_in_another_epoch() -> None:
    model = make_model("llama").train()
    objective = make_objective(model, 1_000)
    losses = [step_of(objective, make_rows(8), epoch).terms["loss"] for epoch in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    drawn = [draw(make_rows(8)[1][1], 4, seed=1, epoch=epoch, index=1) for epoch in range(9)]
    assert len({group.passages[0] for group in drawn}) == 2  # both positives have their turn
