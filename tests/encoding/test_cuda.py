"""Tests that need a GPU; all other tests use one, too, if there is one."""

import copy

import numpy as np
import pytest
import torch
from tiny_models import CAUSAL, TEXTS, make_model, make_tokenizer

from adapters.llara.templates import templates
from llara_eval.encoding.check import check
from llara_eval.encoding.compile import compile_layers
from llara_eval.encoding.encoder import Encoder
from llara_eval.encoding.engines import find_facts
from llara_eval.encoding.packed import PackedModel
from llara_eval.encoding.padded import PaddedModel
from llara_eval.encoding.templates import Template, Templates
from llara_eval.training.config import Contrast
from llara_eval.training.contrastive import Finetune

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

TOKENIZER = make_tokenizer()
POOLINGS = {
    "mean": Template(max_length=64),
    "last": Template(suffix=("</s>",), pooling="last", max_length=64),
}
MANY = [text for number in range(40) for text in (*TEXTS, f"text {number}", "")]


def encoder_of(model, template: Template, **options) -> Encoder:
    both = Templates(template, template)
    return Encoder(model, TOKENIZER, both, facts=find_facts(model, both), **options)


def cosines(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return (one * two).sum(axis=1)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3", "bert"])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_packed_batches_on_a_gpu_have_the_vectors_of_a_cpu(
    architecture: str, pooling: str, dtype: torch.dtype
) -> None:
    model = make_model(architecture).to(dtype)
    expected = encoder_of(copy.deepcopy(model).float(), POOLINGS[pooling]).encode(MANY, "document")
    encoder = encoder_of(model.cuda(), POOLINGS[pooling], batch_tokens=1024)
    assert isinstance(encoder.engine, PackedModel)
    floor = {torch.bfloat16: 0.995, torch.float16: 0.9999}[dtype]
    assert cosines(encoder.encode(MANY, "document"), expected).min() > floor
    assert min(check(encoder, TEXTS).values()) > floor


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("micro_tokens", [300, 100_000])
def test_packed_batches_in_training_have_the_gradients_of_a_cpu(micro_tokens: int, compiled: bool) -> None:
    outcomes = []
    for device, precision in (("cpu", torch.float32), ("cuda", torch.bfloat16)):
        model = make_model("llama").to(device).train()
        if compiled and device == "cuda":
            compile_layers(model, torch.device(device))
        options = {"seed": 1, "micro_tokens": micro_tokens, "precision": precision}
        objective = Finetune(model, TOKENIZER, templates(TOKENIZER), Contrast(temperature=0.1), **options)
        rows = [
            (n, {"query": f"text {n}", "pos": [TEXTS[n % 4]], "neg": [f"no {n}", "b " * n]}) for n in range(8)
        ]
        step = objective.step(objective.read(rows, 0))
        gradient = torch.cat([weight.grad.flatten() for weight in model.parameters()])
        outcomes.append((gradient.cpu(), step))
    (expected, padded), (gradient, step) = outcomes
    assert torch.nn.functional.cosine_similarity(gradient, expected, dim=0) > 0.99
    assert step.terms["loss"] == pytest.approx(padded.terms["loss"], rel=0.03)
    assert (step.tokens, step.padded) == (padded.tokens, padded.tokens)


@pytest.mark.parametrize("architecture", CAUSAL)
def test_float32_is_padded_and_has_full_precision(architecture: str) -> None:
    model = make_model(architecture)
    expected = encoder_of(copy.deepcopy(model), POOLINGS["mean"]).encode(MANY, "document")
    encoder = encoder_of(model.cuda(), POOLINGS["mean"])
    assert isinstance(encoder.engine, PaddedModel)
    assert np.allclose(encoder.encode(MANY, "document"), expected, atol=1e-5)


def test_a_gpu_is_not_waited_for_before_the_vectors_are_needed() -> None:
    encoder = encoder_of(make_model("llama").half().cuda(), POOLINGS["mean"], batch_tokens=512)
    sequences = POOLINGS["mean"].token_ids(TOKENIZER, MANY)
    expected = encoder.start(sequences, "document").vectors()
    assert len(list(encoder.batches(sequences))) > 5
    torch.cuda.set_sync_debug_mode("error")
    try:
        two = [encoder.start(sequences, "document") for _ in range(2)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for started in two:
        assert np.array_equal(started.vectors(), expected)


def test_batches_become_smaller_if_memory_is_short() -> None:
    sequences = [[1 + number % 200] * 60 for number in range(2000)]
    model = make_model("llama").half().cuda()
    expected = encoder_of(model, POOLINGS["mean"]).start(sequences, "document").vectors()
    encoder = encoder_of(model, POOLINGS["mean"], batch_tokens=1 << 17)
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved() + (24 << 20)
    torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.mem_get_info()[1])
    try:
        vectors = encoder.start(sequences, "document").vectors()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert encoder._fitting_tokens < encoder.batch_tokens == 1 << 17
    assert cosines(vectors, expected).min() > 0.9999


def test_compiled_layers_take_packed_batches_of_any_length() -> None:
    encoder = encoder_of(make_model("llama").half().cuda(), POOLINGS["last"], batch_tokens=512)
    expected = encoder.encode(MANY, "document")
    compile_layers(encoder.model, encoder.device)
    for texts in (MANY, MANY[:50], MANY[::3]):
        vectors = encoder.encode(texts, "document")
        assert cosines(vectors, expected[[MANY.index(text) for text in texts]]).min() > 0.9999
