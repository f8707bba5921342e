"""Plans of training against the training itself: parameters, tokens, memory and time."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import kept_for_backward, make_config, make_tokenizer, save_checkpoint
from tiny_training import make_base, make_groups, make_rows, read_log
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, AutoModelForCausalLM

from adapters.finetune import RECIPES, FinetuningRun
from adapters.llara.adapt import AdaptationRun
from adapters.llara.config import Adaptation
from adapters.llara.templates import add_tokens, fit_embeddings
from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.checkpoints.load import read_model
from llara_eval.core.errors import DataError, UsageError
from llara_eval.encoding.compile import compile_layers
from llara_eval.planning import training as planning
from llara_eval.planning.training import Plan, make_plan
from llara_eval.training.checkpoint import add_lora, prepare
from llara_eval.training.config import Conditions, Contrast, LoRA, Schedule

LORA = LoRA(rank=4, alpha=8, dropout=0.0)
SCHEDULE = Schedule(learning_rate=1e-3, batch_size=8, steps=2)
SPEED = 1e9
NEW = {"none": [], "a row for each": [300, 301], "rows to spare": [290, 291], "one of each": [299, 300]}
"""Ids of new tokens; the embedding matrix of a tiny model has 300 rows."""


@pytest.fixture(autouse=True)
def known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the measured speed of this machine by a known one."""
    monkeypatch.setattr(planning, "products_per_second", lambda width, precision: SPEED)


def plan(
    folder: Path,
    schedule: Schedule = SCHEDULE,
    *,
    head: bool = False,
    new_tokens: Sequence[int] = (),
    lengths: Sequence[int] = (10, 20),
    **conditions: Any,
) -> Plan:
    settings = {"output": folder, "micro_tokens": 512, "dtype": "float32", **conditions}
    return make_plan(
        Checkpoint(folder),
        schedule,
        Conditions(**settings),
        head=head,
        new_tokens=new_tokens,
        lengths=lengths,
        rows=80,
    )


def write_config(folder: Path, **shape: int) -> Path:
    """Write a checkpoint that is nothing but its configuration."""
    make_config("llama", **shape).save_pretrained(folder)
    return folder


def save_causal(folder: Path, architecture: str) -> Path:
    AutoModelForCausalLM.from_config(make_config(architecture)).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def counts(folder: Path, lora: LoRA | None, new: Sequence[int], head: bool) -> tuple[int, int]:
    """Return all and the trained parameters of the model that training would make."""
    model = read_model(Checkpoint(folder), dtype=torch.float32, head=head)
    fit_embeddings(model, new)
    sizes = [
        (weight.numel(), weight.requires_grad)
        for weight in prepare(model, lora, new, gradient_checkpointing=False).parameters()
    ]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("head", [False, True], ids=["decoder", "with head"])
def test_parameters_are_those_of_the_model_that_is_trained(
    tmp_path: Path, architecture: str, lora: LoRA | None, head: bool
) -> None:
    folder = save_causal(tmp_path / architecture, architecture)
    for new in NEW.values():
        planned = plan(folder, replace(SCHEDULE, lora=lora), head=head, new_tokens=new)
        assert (planned.parameters, planned.trained) == counts(folder, lora, new, head), new


@pytest.mark.parametrize("head", [False, True], ids=["decoder", "with head"])
def test_a_lora_checkpoint_is_planned_as_its_base_with_the_tokens_added(tmp_path: Path, head: bool) -> None:
    base, tokenizer = save_causal(tmp_path / "base", "llama"), make_tokenizer()
    new = add_tokens(tokenizer, [f"<more{i}>" for i in range(60)])
    assert max(new) > 300
    model = AutoModelForCausalLM.from_pretrained(base)
    fit_embeddings(model, new)
    folder = tmp_path / "adapter"
    add_lora(model, LORA, new).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    planned = plan(folder, head=head)
    assert (planned.parameters, planned.trained) == counts(folder, None, [], head)


def test_a_model_of_seven_billion_parameters_is_planned_without_its_weights(tmp_path: Path) -> None:
    shape = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "vocab_size": 32000}
    heads = {"num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128}
    folder = write_config(tmp_path, **shape, **heads)
    planned = plan(folder, replace(SCHEDULE, lora=LoRA(rank=64, alpha=16, dropout=0.1)), head=True)
    lora_weights = 32 * 64 * (4 * 2 * 4096 + 3 * (4096 + 11008))
    assert (planned.parameters, planned.trained) == (6_738_415_616 + lora_weights, lora_weights)
    assert planned.memory_gib > 4 * planned.parameters / 2**30


def test_no_weights_are_read(tmp_path: Path) -> None:
    folder = save_causal(tmp_path / "base", "llama")
    before = plan(folder, head=True)
    (folder / "model.safetensors").write_bytes(b"not weights")
    assert plan(folder, head=True) == before


def test_steps_are_those_of_the_schedule_or_enough_for_the_epochs(tmp_path: Path) -> None:
    folder = write_config(tmp_path)
    assert plan(folder).steps == 2
    epochs = replace(SCHEDULE, steps=None, epochs=3)
    planned = plan(folder, epochs)
    assert (planned.rows, planned.steps, planned.tokens_per_step) == (80, 30, 8 * 15)
    assert planned.tokens == 30 * 8 * 15


def test_memory_is_that_of_weights_gradients_and_moments_and_more(tmp_path: Path) -> None:
    folder = write_config(tmp_path)
    full, low = plan(folder, micro_tokens=1), plan(folder, replace(SCHEDULE, lora=LORA), micro_tokens=1)
    assert full.memory_gib * 2**30 == pytest.approx(16 * full.parameters, rel=0.1)
    assert low.memory_gib * 2**30 == pytest.approx(4 * low.parameters + 12 * low.trained, rel=0.2)


@pytest.mark.parametrize(
    "larger", [{"num_hidden_layers": 6}, {"intermediate_size": 256}, {"vocab_size": 3000}], ids=str
)
def test_memory_and_time_grow_with_the_model(tmp_path: Path, larger: dict[str, int]) -> None:
    small, large = write_config(tmp_path / "small"), write_config(tmp_path / "large", **larger)
    assert plan(large, head=True).memory_gib > plan(small, head=True).memory_gib
    assert plan(large, head=True).hours > plan(small, head=True).hours


def test_activations_take_memory_for_each_token_or_time_to_compute_them_twice(tmp_path: Path) -> None:
    folder = write_config(tmp_path)
    usual, many = plan(folder), plan(folder, micro_tokens=4096)
    again = plan(folder, gradient_checkpointing=True)
    assert again.memory_gib < usual.memory_gib < many.memory_gib
    assert again.hours == pytest.approx(usual.hours * 4 / 3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "compiled", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["eager", "compiled"]
)
def test_activations_are_those_that_a_layer_keeps(tmp_path: Path, compiled: bool, dtype: str) -> None:
    config = make_config("llama", num_hidden_layers=1)
    config.save_pretrained(tmp_path)
    model = AutoModel.from_config(config).train()
    if compiled:
        compile_layers(model, torch.device("cpu"))
    states = torch.randn(1, 40, config.hidden_size, requires_grad=True)
    rotary = model.rotary_emb(states, torch.arange(40)[None])
    with kept_for_backward(model) as kept, torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        model.layers[0](states, position_embeddings=rotary)
    least, most = (
        plan(tmp_path, micro_tokens=tokens, compiled=compiled, dtype=dtype).memory_gib for tokens in (0, 40)
    )
    of_all_layers = {tensor.untyped_storage().data_ptr() for tensor in rotary}
    assert (most - least) * 2**30 == pytest.approx(
        sum(
            tensor.untyped_storage().nbytes()
            for address, tensor in kept.items()
            if address not in of_all_layers and 40 in tensor.shape  # not weights in bfloat16
        ),
        rel=0.1,
    )


def test_weights_are_kept_in_bfloat16_too_unless_layers_are_compiled(tmp_path: Path) -> None:
    folder = save_causal(tmp_path / "base", "llama")
    model = read_model(Checkpoint(folder), dtype=torch.float32, head=True)
    states = {"input_ids": torch.ones(1, 4, dtype=torch.long)}
    with kept_for_backward(model) as kept, torch.autocast("cpu", torch.bfloat16):
        model(**states)
    copies = sum(tensor.nbytes for tensor in kept.values() if 4 not in tensor.shape)
    exact, compiled, eager = (
        plan(folder, head=True, dtype=dtype, compiled=compiled, micro_tokens=0).memory_gib * 2**30
        for dtype, compiled in (("float32", False), ("bfloat16", True), ("bfloat16", False))
    )
    assert exact == compiled
    assert eager - exact == pytest.approx(copies, rel=0.01)


@pytest.mark.parametrize(
    "architecture", ["llama", "gemma2"], ids=["head of its own", "head tied to the embedding matrix"]
)
@pytest.mark.parametrize("head", [False, True], ids=["decoder", "with head"])
def test_time_is_that_of_the_products_of_a_step(tmp_path: Path, architecture: str, head: bool) -> None:
    folder = save_causal(tmp_path / "base", architecture)
    model = read_model(Checkpoint(folder), dtype=torch.float32, head=head)
    with FlopCounterMode(display=False) as counter:
        model(torch.ones(8, 4, dtype=torch.long))[0].sum().backward()
    planned = plan(folder, head=head, lengths=[4])
    products = planned.hours * 3600 * 0.6 * SPEED / planned.steps
    assert products == pytest.approx(counter.get_total_flops(), rel=0.05)  # attention is not counted


def test_tokens_of_an_adaptation_are_those_of_its_log(tmp_path: Path) -> None:
    base, rows = make_base(tmp_path / "base"), [make_rows(tmp_path / "rows.jsonl", 8)]
    task, conditions = Adaptation(max_length=180), Conditions(output=tmp_path / "out", micro_tokens=512)
    run = AdaptationRun(base, rows, task, SCHEDULE, conditions)
    tokens = run.plan().tokens_per_step
    assert [entry["tokens"] for entry in read_log(run.run())] == [tokens] * 2


def test_tokens_of_a_fine_tuning_are_those_of_its_log(tmp_path: Path) -> None:
    base, rows = make_base(tmp_path / "base"), [make_groups(tmp_path / "groups.jsonl", 8)]
    contrast = Contrast(group_size=3, query_length=90)
    conditions = Conditions(output=tmp_path / "out", micro_tokens=512)
    schedule = replace(SCHEDULE, steps=1)
    run = FinetuningRun(base, rows, contrast, schedule, conditions)
    tokens = run.plan().tokens_per_step
    assert [entry["tokens"] for entry in read_log(run.run())] == [tokens]


def test_what_cannot_be_planned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its configuration cannot be read"):
        plan(tmp_path)
    absent = replace(SCHEDULE, lora=replace(LORA, targets=("c_attn",)))
    with pytest.raises(UsageError, match="no linear layers for LoRA called c_attn; it has down_proj"):
        plan(write_config(tmp_path), absent)
    past = replace(SCHEDULE, lora=replace(LORA, targets=("lm_head",)))  # nothing would use its adapter
    with pytest.raises(UsageError, match="lm_head; it has down_proj, gate_proj, k_proj, o_proj,"):
        plan(tmp_path, past, head=True)


@pytest.mark.parametrize(
    ("row", "contrast", "batch_size", "message"),
    [
        ({}, {"negatives": "group"}, 4, "there are no negatives"),
        ({}, {}, 1, "there are no negatives"),
        ({"neg": ["moon"]}, {}, 1, "there are no negatives"),  # no more than its positive
        ({"neg": ["sun"]}, {"group_size": 1}, 1, "there are no negatives"),
        ({}, {"negatives": "device"}, 4, "there are no negatives"),
        ({}, {"negatives": "device", "device_batch": 3}, 4, "3 queries at a time, and a batch of 4 is no"),
        ({}, {"negatives": "gathered"}, 4, "compares 8 queries at a time"),
        ({}, {"distillation": 0.5}, 4, "needs pos_scores and neg_scores"),
        ({}, {"query_length": 600}, 4, "query_length 600 is more than the model has positions: 512"),
        ({}, {"passage_length": 600}, 4, "passage_length 600 is more than the model has positions: 512"),
        ({"neg": ["sun"]}, {}, 1, None),
        ({}, {}, 4, None),
    ],
)
def test_settings_without_any_negative_or_with_too_long_texts_are_refused_before_anything_is_read(
    tmp_path: Path, row: dict[str, Any], contrast: dict[str, Any], batch_size: int, message: str | None
) -> None:
    (tmp_path / "groups.jsonl").write_text(
        4 * (json.dumps({"query": "tides", "pos": ["moon"], **row}) + "\n")
    )
    run = FinetuningRun(
        make_base(tmp_path / "base"),
        [tmp_path / "groups.jsonl"],
        Contrast(**{"query_length": 128, **contrast}),
        Schedule(learning_rate=1e-3, batch_size=batch_size, steps=1),
        Conditions(output=tmp_path / "out", micro_tokens=512),
    )
    if message is None:
        assert run.plan().steps == 1
    else:
        with pytest.raises(UsageError, match=message):
            run.plan()


def test_models_whose_tokens_see_what_follows_are_not_fine_tuned(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "bert", "bert")
    with pytest.raises(UsageError, match="BertModel cannot be fine-tuned"):
        FinetuningRun(
            tmp_path / "bert",
            [make_groups(tmp_path / "groups.jsonl")],
            Contrast(passage_length=128),
            Schedule(learning_rate=1e-3, batch_size=4, steps=1),
            Conditions(output=tmp_path / "out", micro_tokens=512),
            RECIPES["repllama"],
        ).run()


def test_this_machine_multiplies_at_some_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(planning, "_PRODUCT_SECONDS", 0.02)
    assert 1e8 < planning.products_per_second(64, torch.float32) < 1e16
