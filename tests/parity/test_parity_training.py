"""Twenty optimizer steps on eight processes against the released codes, written out apart from ours."""

import json
import os
import random
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import set_forkserver_preload
from pathlib import Path
from typing import Any

import pytest
import released_training as theirs
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from tiny_models import make_tokenizer
from tiny_training import WORDS, make_base, read_log
from tokenizers.processors import TemplateProcessing
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from adapters import repllama
from adapters.finetune import RECIPES, FinetuningRun
from adapters.llara import recipes
from adapters.llara.adapt import AdaptationRun
from llara_eval.training.config import Conditions
from llara_eval.training.loop import batch_of

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.parity,
    pytest.mark.timeout(1200),
    pytest.mark.xdist_group("parity of training"),  # the eight processes run once
]

PROCESSES, STEPS = 8, 20
RATE = 3e-4
GROUP = 3

SHAPES: dict[str, dict[str, Any]] = {
    "llara-released": {"query_length": 100, "passage_length": 120, "group_size": GROUP},
    "repllama-v1": {"query_length": 31, "passage_length": 47, "group_size": GROUP, "device_batch": 2},
    "adapt": {"max_length": 160, "stop_words": "none"},
}
"""What is smaller than in the recipes, or needs NLTK's data; of RepLLaMA, limits there are 32 and 48."""

BATCHES = {"llara-released": 8, "repllama-v1": 32, "adapt": 8}
"""Rows of an optimizer step; RepLLaMA's devices accumulate two micro-batches of two queries."""

STAGES = tuple(BATCHES)


def settings_of(stage: str, **changes: Any) -> tuple[Any, Any]:
    """Return objective and schedule of a recipe, with some settings changed."""
    makers = {"llara-released": recipes.released_contrastive, "repllama-v1": repllama.released_recipe}
    task, schedule = makers.get(stage, recipes.released)()
    usual = {"learning_rate": RATE, "batch_size": BATCHES[stage], "steps": None, "warmup": 0.3, "lora": None}
    names = {*schedule.__dataclass_fields__}
    schedule = replace(schedule, **usual, **{name: changes[name] for name in names & {*changes}})
    task = replace(task, **SHAPES[stage], **{name: changes[name] for name in {*changes} - names})
    return task, schedule


def write_inputs(folder: Path) -> None:
    """Write a model whose tokenizer puts BOS first, and rows with all that the codes treat differently."""
    make_base(folder / "base", num_hidden_layers=2)
    tokenizer = make_tokenizer()
    start = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[start]
    )
    tokenizer.save_pretrained(folder / "base")
    drawn = random.Random(3)
    texts = [" ".join(drawn.choices(WORDS, k=drawn.randint(2, 9))) for _ in range(60)]
    for stage, batch in BATCHES.items():
        rows = []
        for number in range(STEPS * batch + 3):  # three rows fill no batch
            if stage == "adapt":
                text, following = (" ".join(drawn.sample(texts, drawn.randint(1, 3))) for _ in range(2))
                row = {"input": text, "output_summarize": text, "output_predict": following}
                if number % 7 == 0:
                    row["output_predict"] = ""
            else:  # few texts: equal passages in a batch, and known positives among them
                positive, *negatives = drawn.sample(texts, GROUP)
                row = {"query": drawn.choice(texts[:20]), "pos": [positive], "neg": negatives}
                if stage == "llara-released" and number % 5 == 0:
                    row["neg"] = negatives[: (GROUP - 1) // 2]  # fewer than a group needs
            rows.append(json.dumps(row))
        (folder / f"{stage}.jsonl").write_text("\n".join(rows) + "\n")


def train_ours(folder: Path, output: Path, stage: str, **changes: Any) -> list[float]:
    """Run our training, in all processes that there are, and return its losses."""
    task, schedule = settings_of(stage, **changes)
    conditions = Conditions(output=output, micro_tokens=20_000, dtype="float32")
    common = (folder / "base", [folder / f"{stage}.jsonl"], task, schedule, conditions)
    run = AdaptationRun(*common) if stage == "adapt" else FinetuningRun(*common, RECIPES[stage])
    run.run()
    return [entry["loss"] for entry in read_log(output) if entry["kind"] == "train"]


def rows_of_step(rows: Sequence[Any], stage: str, step: int) -> list[Any]:
    """Return the rows of an optimizer step, in the order of the data; the order itself is our own."""
    _, numbers = batch_of(step, settings_of(stage)[1], len(rows))
    return [rows[number] for number in numbers]


def train_theirs(folder: Path, stage: str) -> tuple[Any, list[float]]:
    """Run the released code's training in all processes; return the model and the losses."""
    rows = [json.loads(line) for line in (folder / f"{stage}.jsonl").read_text().splitlines()]
    kind = AutoModelForCausalLM if stage == "adapt" else AutoModel
    attention = "eager" if stage == "adapt" else "sdpa"
    model = kind.from_pretrained(folder / "base", attn_implementation=attention).train()
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    shape, number = SHAPES[stage], dist.get_rank()

    def losses(step: int) -> list[torch.Tensor]:
        batch = rows_of_step(rows, stage, step)
        if stage == "adapt":
            return [theirs.adaptation_loss(model, tokenizer, [batch[number]], cutoff=shape["max_length"])]
        lengths = {name: shape[name] for name in ("query_length", "passage_length")}
        if stage == "llara-released":
            return [theirs.llara_loss(model, tokenizer, batch[number], group=GROUP, **lengths)]
        lengths = {name: length + 1 for name, length in lengths.items()}  # they lose one token of each
        size = shape["device_batch"]
        firsts = [micro * PROCESSES * size + number * size for micro in range(2)]
        return [
            theirs.repllama_loss(model, tokenizer, batch[first : first + size], **lengths) for first in firsts
        ]

    return model, theirs.train(model, losses, steps=STEPS, highest=RATE, warmup=0.3)


def one_process(number: int, folder: str) -> None:
    """Train both ways in one of eight processes."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.set_num_threads(1)
    place = Path(folder)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=PROCESSES)
    for stage in STAGES:
        train_ours(place, place / stage, stage)
        model, losses = train_theirs(place, stage)
        if number == 0:
            weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
            save_file(weights, place / f"{stage}.safetensors")
            (place / f"{stage}.losses.json").write_text(json.dumps(losses))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the models and losses of both, made by eight processes."""
    folder = tmp_path_factory.mktemp("eight")
    write_inputs(folder)
    set_forkserver_preload(["adapters.finetune", "adapters.llara.adapt", "transformers", "peft"])
    mp.start_processes(one_process, (str(folder),), nprocs=PROCESSES, start_method="forkserver")
    return folder


def largest_error(ours: Path, theirs: Path, base: Path) -> float:
    """Return the largest difference of weights, relative to how far their tensor has moved."""
    left, right, before = (load_file(path) for path in (ours, theirs, base))
    before |= {name.removeprefix("model."): weight for name, weight in before.items()}
    assert {*right} == {*left}
    return max(
        float((left[name] - right[name]).abs().max() / (right[name] - before[name]).abs().max())
        for name in right
    )


@pytest.mark.parametrize("stage", STAGES)
def test_twenty_steps_on_eight_processes_are_those_of_the_released_code(trained: Path, stage: str) -> None:
    losses = [entry["loss"] for entry in read_log(trained / stage) if entry["kind"] == "train"]
    expected = json.loads((trained / f"{stage}.losses.json").read_text())
    assert len(losses) == STEPS
    assert losses == pytest.approx(expected, rel=1e-5)
    assert losses[-1] < losses[0]
    base = trained / "base" / "model.safetensors"
    error = largest_error(trained / stage / "model.safetensors", trained / f"{stage}.safetensors", base)
    assert error < 1e-3


OURS: dict[str, list[dict[str, Any]]] = {
    "llara-released": [{"warmup_shape": "linear"}, {"negatives": "device"}, {"mask_known": True}],
    "repllama-v1": [{"warmup_shape": "linear"}, {"negatives": "batch"}, {"mask_known": True}],
    "adapt": [{"lm_mean": "token"}, {"whole_targets": False}, {"warmup_shape": "linear"}],
}
"""Settings with another value than the released one."""

CASES = [(stage, {}) for stage in STAGES] + [(stage, changes) for stage in OURS for changes in OURS[stage]]


@pytest.mark.parametrize(("stage", "changes"), CASES, ids=str)
def test_one_process_computes_the_same_and_each_option_matters(
    trained: Path, tmp_path: Path, stage: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    losses = train_ours(trained, tmp_path / "out", stage, **changes)
    expected = json.loads((trained / f"{stage}.losses.json").read_text())
    if not changes:
        assert losses == pytest.approx(expected, rel=1e-5)
    else:
        assert losses != pytest.approx(expected, rel=5e-5)
