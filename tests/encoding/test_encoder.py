from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import ARCHITECTURES, CAUSAL, TEXTS, make_model, make_tokenizer
from transformers import AutoModel, BloomConfig, GPTNeoConfig, OPTConfig

from llara_eval.core.errors import CheckFailedError
from llara_eval.encoding import packed_attention
from llara_eval.encoding.check import check
from llara_eval.encoding.compile import compile_layers
from llara_eval.encoding.encoder import Encoder
from llara_eval.encoding.engines import can_pack
from llara_eval.encoding.model_facts import bare_facts
from llara_eval.encoding.packed import PackedModel
from llara_eval.encoding.padded import PaddedModel, embed
from llara_eval.encoding.templates import Template, Templates

TOKENIZER = make_tokenizer()
POOLINGS = {
    "mean": Template(pooling="mean", max_length=64),
    "first": Template(prefix=("[CLS]",), suffix=("[SEP]",), pooling="first", max_length=64),
    "last": Template(prompt="query: ", suffix=("</s>",), pooling="last", max_length=64),
    "slots": Template(
        suffix=("".join(f"<s{i}>" for i in range(1, 9)),), pooling="last", slots=8, max_length=64
    ),
}


def make_encoder(
    architecture: str = "llama", template: Template = POOLINGS["slots"], *, packed: bool = False, **options
) -> Encoder:
    model = make_model(architecture)
    facts = replace(bare_facts(model), packs=packed)
    return Encoder(model, TOKENIZER, Templates(template, template), facts=facts, **options)


def oracle(encoder: Encoder, text: str, template: Template) -> np.ndarray:
    """Return the vector of one text, computed by the stock model and pooled here."""
    (sequence,) = template.token_ids(TOKENIZER, [text])
    with torch.inference_mode():
        hidden = encoder.model(input_ids=torch.tensor([sequence])).last_hidden_state[0]
    pooled = {"mean": hidden, "first": hidden[:1], "last": hidden[-template.slots :]}[template.pooling]
    vector = pooled.mean(0)
    return (vector / vector.norm()).numpy()


@pytest.mark.parametrize("architecture", CAUSAL)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_ragged_batch_equals_each_text_alone(architecture: str, pooling: str) -> None:
    encoder = make_encoder(architecture, POOLINGS[pooling])
    vectors = encoder.encode(TEXTS, "document")
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert np.allclose(vector, oracle(encoder, text, POOLINGS[pooling]), atol=1e-5)


@pytest.mark.parametrize("architecture", CAUSAL)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_padding_side_does_not_matter(architecture: str, pooling: str) -> None:
    template = POOLINGS[pooling]
    encoder = make_encoder(architecture, template)
    sequences = template.token_ids(TOKENIZER, TEXTS)
    with torch.inference_mode():
        right, left = (
            embed(encoder.model, sequences, template, causal=encoder.facts.causal, left=side)
            for side in (False, True)
        )
    assert torch.allclose(right, left, atol=1e-5)
    TOKENIZER.padding_side = "left"
    assert np.allclose(encoder.encode(TEXTS, "query"), right.numpy(), atol=1e-5)
    TOKENIZER.padding_side = "right"


@pytest.mark.parametrize("architecture", ["xlm-roberta", "mpnet"])
def test_a_text_may_contain_the_padding_token(architecture: str) -> None:
    model, template, padding = make_model(architecture), POOLINGS["mean"], 1
    sequences = [[padding, 30, padding, padding, 40], [50, padding], [60, 61, 62]]
    with torch.inference_mode():
        alone = [model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0) for ids in sequences]
        forms = [embed(model, sequences, template, causal=False, left=left) for left in (False, True)]
    if architecture == "xlm-roberta":
        forms += PackedModel(model, bare_facts(model)).embeddings(
            sequences, template, [len(sequences)], "document"
        )
    for vectors in forms:
        assert torch.allclose(vectors, torch.nn.functional.normalize(torch.stack(alone), dim=-1), atol=1e-5)


@pytest.mark.parametrize("architecture", CAUSAL)
def test_the_check_passes_on_a_sound_encoder(architecture: str) -> None:
    cosines = check(make_encoder(architecture), TEXTS)
    assert set(cosines) == {"batch of one", "left padding"}
    assert min(cosines.values()) > 0.9999


def test_the_check_finds_a_mask_that_is_missing() -> None:
    encoder = make_encoder("bert", POOLINGS["mean"])
    encoder.engine = PaddedModel(encoder.model, replace(encoder.facts, causal=True))  # pads without a mask
    with pytest.raises(CheckFailedError, match="batch of one"):
        check(encoder, TEXTS)


def test_the_check_finds_a_suffix_that_truncation_cuts_off() -> None:
    class Cutting(Template):
        def token_ids(self, tokenizer, texts):
            return [ids[: self.max_length - 2] for ids in super().token_ids(tokenizer, texts)]

    template = Cutting(suffix=("</s>",), pooling="last", max_length=32)
    with pytest.raises(CheckFailedError, match="truncation"):
        check(make_encoder(template=template), TEXTS)


def test_the_check_finds_prompts_that_the_tokenizer_drops() -> None:
    class Deaf(Template):
        def token_ids(self, tokenizer, texts):
            return Template(max_length=self.max_length).token_ids(tokenizer, texts)

    encoder = make_encoder()
    encoder.templates = Templates(query=Deaf(prompt="query: "), document=Deaf(prompt="passage: "))
    with pytest.raises(CheckFailedError, match="differ but give the same"):
        check(encoder, TEXTS)


def test_nan_is_refused_and_names_a_text() -> None:
    encoder = make_encoder()
    with torch.no_grad():
        next(encoder.model.parameters()).fill_(float("nan"))
    with pytest.raises(CheckFailedError, match="eclipse"):
        encoder.encode(TEXTS[:1], "document")
    with pytest.raises(CheckFailedError, match="NaN"):
        check(encoder, TEXTS)


def test_batches_keep_to_the_token_budget_and_lose_nothing() -> None:
    encoder = make_encoder(batch_tokens=128)
    sequences = [[1] * n for n in (5, 64, 3, 64, 200, 10, 10)]
    batches = list(encoder.batches(sequences))
    assert sorted(number for batch in batches for number in batch) == list(range(len(sequences)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(len(sequences[number]) for number in batch) <= 128


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3", "bert", "xlm-roberta"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_packed_batch_equals_each_text_alone_and_has_no_padding(architecture: str, pooling: str) -> None:
    encoder = make_encoder(architecture, POOLINGS[pooling], packed=True, batch_tokens=80)
    texts = [*TEXTS, *TEXTS[1:3], "", "a"]
    started = encoder.start(POOLINGS[pooling].token_ids(TOKENIZER, texts), "document")
    for text, vector in zip(texts, started.vectors(), strict=True):
        assert np.allclose(vector, oracle(encoder, text, POOLINGS[pooling]), atol=1e-5)
    assert started.padded == started.tokens


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_check_passes_on_packed_sequences(architecture: str) -> None:
    encoder = make_encoder(architecture, packed=architecture != "gemma2")
    assert min(check(encoder, TEXTS).values()) > 0.9999


def test_the_check_finds_sequences_that_attend_to_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = make_encoder(packed=True)
    attend = packed_attention.attend

    def attend_to_all(query, key, value, cu_seqlens, *options):
        return attend(query, key, value, cu_seqlens[[0, -1]], *options)

    monkeypatch.setattr(packed_attention, "attend", attend_to_all)
    with pytest.raises(CheckFailedError, match="batch of one"):
        check(encoder, TEXTS)


@pytest.mark.parametrize(
    "config",
    [
        GPTNeoConfig(hidden_size=32, num_layers=1, attention_types=[[["global"], 1]], num_heads=4),
        BloomConfig(hidden_size=32, n_layer=2, n_head=4),
        OPTConfig(
            hidden_size=32, word_embed_proj_dim=16, num_hidden_layers=2, ffn_dim=64, num_attention_heads=4
        ),
    ],
    ids=lambda config: config.model_type,
)
def test_models_that_cannot_pack_are_padded_and_vectors_are_as_wide_as_the_output(config) -> None:
    torch.manual_seed(0)
    model = AutoModel.from_config(config).eval()
    template = Template(max_length=64)
    assert not can_pack(model, Templates(template, template), causal=True) or config.model_type == "opt"
    encoder = Encoder(model, TOKENIZER, Templates(template, template))
    width = {"opt": 16}.get(config.model_type, 32)
    assert encoder.encode(TEXTS, "document").shape == (len(TEXTS), width)


@pytest.mark.slow
def test_compiled_layers_give_the_same_vectors() -> None:
    encoder = make_encoder(template=POOLINGS["last"], packed=True, batch_tokens=80)
    expected = encoder.encode(TEXTS, "document")
    compile_layers(encoder.model, encoder.device)
    assert np.allclose(encoder.encode(TEXTS, "document"), expected, atol=1e-5)


def test_batches_become_smaller_if_memory_is_short_and_no_text_counts_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = make_encoder(packed=True, batch_tokens=80)
    sequences = POOLINGS["mean"].token_ids(TOKENIZER, TEXTS)
    expected, shown = encoder.start(sequences, "document"), []
    embeddings = encoder.engine.embeddings

    def limited(sequences, template, sizes, side):
        for number, part in enumerate(embeddings(sequences, template, sizes, side)):
            if number and encoder._fitting_tokens > 40:
                raise torch.OutOfMemoryError
            yield part

    monkeypatch.setattr(encoder.engine, "embeddings", limited)
    started = encoder.start(sequences, "document", lambda n=1, note="", tokens=0: shown.append(n))
    assert min(shown) < 0
    assert sum(shown) == len(TEXTS)
    assert np.allclose(started.vectors(), expected.vectors(), atol=1e-5)
    assert started[1:] == expected[1:]
    assert encoder.batch_tokens == 80, "the recorded size stays"


def test_vectors_do_not_depend_on_order_or_budget() -> None:
    forward = make_encoder(batch_tokens=64).encode(TEXTS, "document")
    backward = make_encoder(batch_tokens=4096).encode(TEXTS[::-1], "document")[::-1]
    assert np.allclose(forward, backward, atol=1e-5)


def test_real_and_padded_tokens_are_counted() -> None:
    encoder = make_encoder(template=POOLINGS["mean"])
    started = encoder.start(POOLINGS["mean"].token_ids(TOKENIZER, ["ab", "abcd"]), "document")
    assert (started.tokens, started.padded) == (6, 8)


def test_vectors_have_unit_norm_only_if_the_template_says_so() -> None:
    unit = make_encoder().encode(TEXTS, "query")
    raw = make_encoder(template=Template(normalize=False)).encode(TEXTS, "query")
    assert np.allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)
    assert not np.allclose(np.linalg.norm(raw, axis=1), 1, atol=1e-2)


def test_products_in_bfloat16_leave_pooling_and_vectors_in_float32() -> None:
    encoder = make_encoder(template=POOLINGS["mean"])
    exact = encoder.encode(TEXTS, "query")
    with torch.autocast("cpu", torch.bfloat16):
        coarse = encoder.encode(TEXTS, "query")
    assert np.allclose(np.linalg.norm(coarse, axis=1), 1, atol=1e-6)
    assert 0.99 < (exact * coarse).sum(axis=1).min() < 1
