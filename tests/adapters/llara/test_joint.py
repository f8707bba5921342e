"""One joint pass gives the embeddings of two passes, whatever the attention and the architecture."""

import json
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from math import isfinite
from pathlib import Path

import pytest
import torch
from checkout import ROOT, SHARED
from llara_step import relative_error
from tiny_models import make_config, make_tokenizer
from tiny_training import make_rows
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    BloomConfig,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoXConfig,
    Lfm2Config,
    MambaConfig,
    MistralConfig,
    PreTrainedConfig,
)

from adapters.llara.adapt import AdaptationRun
from adapters.llara.config import Adaptation
from adapters.llara.joint import (
    NEXT,
    PAD,
    SELF,
    Frame,
    attention_mask,
    embeddings,
    hidden_states,
    joint_mask,
    lay_out,
)
from adapters.llara.templates import PAPER, RELEASED, Prompts, templates
from llara_eval.core.errors import UsageError
from llara_eval.encoding.padded import embed
from llara_eval.training.config import Conditions, Schedule

TEXTS = ["sun and moon", "a", "the moon passes between the sun and the earth", "", "sourdough rises slowly"]


def make_model(architecture: str, attention: str = "sdpa", **changes: object) -> torch.nn.Module:
    torch.manual_seed(1)
    config = make_config(architecture, **{"max_position_embeddings": 512, "sliding_window": 512, **changes})
    return AutoModel.from_config(config, attn_implementation=attention).eval()


def token_ids(texts: list[str]) -> list[list[int]]:
    return make_tokenizer()(texts, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("prompts", [RELEASED, PAPER], ids=["released", "paper"])
@pytest.mark.parametrize(
    ("architecture", "attention"),
    [
        *(
            (architecture, attention)
            for architecture in ("llama", "qwen2", "gemma3")
            for attention in ("sdpa", "eager")
        ),
        ("gemma2", "eager"),  # the only attention it has
    ],
)
@torch.no_grad()
def test_a_joint_pass_equals_two_passes(architecture: str, attention: str, prompts: Prompts) -> None:
    tokenizer, model = make_tokenizer(), make_model(architecture, attention)
    both = templates(tokenizer, prompts)
    batch = lay_out(token_ids(TEXTS), Frame.of(both, tokenizer))
    hidden = hidden_states(model, batch)
    for template, slots in ((both.document, batch.self_slots), (both.query, batch.next_slots)):
        alone = [embed(model, template.token_ids(tokenizer, [text]), template, causal=True) for text in TEXTS]
        assert (embeddings(hidden, slots, template) - torch.cat(alone)).abs().max() < 1e-5


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_the_self_suffix_changes_nothing_of_the_next_embedding(attention: str) -> None:
    tokenizer, model = make_tokenizer(), make_model("llama", attention)
    both = templates(tokenizer)
    frame = Frame.of(both, tokenizer)
    other = Frame(frame.prefix, tuple(reversed(frame.self_suffix)), frame.next_suffix, frame.slots)
    one, two = (lay_out(token_ids(TEXTS), which) for which in (frame, other))
    first, second = (embeddings(hidden_states(model, b), b.next_slots, both.query) for b in (one, two))
    assert torch.equal(first, second)


def test_a_mask_allows_what_is_before_but_not_padding_and_not_self_from_next() -> None:
    frame = Frame((1,), (2, 3), (4, 5), 1)
    batch = lay_out([[9, 9], [9]], frame)
    allowed = joint_mask(batch.segments)[:, 0]
    for row in range(2):
        for query in range(7):
            for key in range(7):
                segment, key_segment = batch.segments[row, query], batch.segments[row, key]
                crosses = segment == NEXT and key_segment == SELF
                expected = key == query or (key < query and key_segment != PAD and not crosses)
                assert allowed[row, query, key] == expected


def test_positions_of_next_restart_where_those_of_self_begin() -> None:
    batch = lay_out([[9, 9]], Frame((1,), (2, 3, 6), (4, 5), 1))
    assert batch.ids.tolist() == [[1, 9, 9, 2, 3, 6, 4, 5]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4, 5, 3, 4]]
    assert batch.self_slots.tolist() == [[5]]
    assert batch.next_slots.tolist() == [[7]]


def test_every_text_token_is_predicted_from_the_token_before_it() -> None:
    batch = lay_out([[7, 8], [9], []], Frame((1,), (2,), (4,), 1))
    assert batch.labels.tolist() == [7, 8, 9]
    assert batch.ids.flatten()[batch.predictors].tolist() == [1, 7, 1]


def test_without_a_prefix_the_first_token_has_nothing_to_be_predicted_from() -> None:
    batch = lay_out([[7, 8], [9]], Frame((), (2,), (4,), 1))
    assert batch.labels.tolist() == [8]
    assert batch.ids.flatten()[batch.predictors].tolist() == [7]


def test_eager_attention_gets_a_float_mask_and_sdpa_a_boolean_one() -> None:
    allowed = joint_mask(lay_out([[7]], Frame((1,), (2,), (4,), 1)).segments)
    assert attention_mask(allowed, make_model("llama", "sdpa")).dtype == torch.bool
    added = attention_mask(allowed, make_model("llama", "eager"))
    assert torch.equal(added == 0, allowed)
    assert (added[~allowed] == torch.finfo(torch.float32).min).all()


def test_an_attention_that_cannot_take_the_mask_is_refused() -> None:
    model = make_model("llama")
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UsageError, match=r"flash_attention_2.*sdpa"):
        attention_mask(torch.ones(1, 1, 4, 4, dtype=torch.bool), model)


@pytest.mark.parametrize("architecture", ["gemma3", "mistral", "qwen2"])
def test_sequences_beyond_an_attention_window_are_refused(architecture: str) -> None:
    if architecture == "mistral":  # its configuration does not list the types of its layers
        shape = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1, "vocab_size": 300}
        model = AutoModel.from_config(MistralConfig(**shape, sliding_window=8))
    else:
        model = make_model(architecture, sliding_window=8)
    attention_mask(torch.ones(1, 1, 8, 8, dtype=torch.bool), model)
    longer = torch.ones(1, 1, 9, 9, dtype=torch.bool)
    if architecture == "qwen2":  # has a window, and does not use it
        assert attention_mask(longer, model) is longer
    else:
        with pytest.raises(UsageError, match="window of 8"):
            attention_mask(longer, model)


_SMALL = {"vocab_size": 300, "hidden_size": 32, "initializer_range": 0.3}
_DEEPER = {**_SMALL, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_LFM2 = partial(Lfm2Config, **_DEEPER, num_key_value_heads=2)
_NEO = partial(
    GPTNeoConfig, **_SMALL, intermediate_size=64, num_layers=2, num_heads=4, max_position_embeddings=512
)
_NEO_LAYERS = [[["global", "local"], 1]]


@pytest.mark.parametrize(
    ("config", "refusal"),
    [
        (_LFM2(layer_types=["full_attention"] * 2), None),
        (_LFM2(layer_types=["conv", "full_attention"]), "not all of its layers are attention"),
        (_NEO(attention_types=_NEO_LAYERS, window_size=256), None),
        (_NEO(attention_types=_NEO_LAYERS, window_size=100), "it gives other embeddings"),
        (GPTNeoXConfig(**_DEEPER, max_position_embeddings=512), None),
        (GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=512, vocab_size=300), None),
        (BertConfig(**_DEEPER, max_position_embeddings=512), "only a language-model head without bias"),
        (MambaConfig(**_SMALL, num_hidden_layers=2), "it takes no joint sequence"),
        (BloomConfig(**_SMALL, n_layer=2, n_head=4), "it takes no joint sequence"),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_models_for_which_one_pass_gives_other_embeddings_are_refused(
    tmp_path: Path, config: PreTrainedConfig, refusal: str | None
) -> None:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    rows = [make_rows(tmp_path / "rows.jsonl", 8)]
    conditions = Conditions(output=tmp_path / "out", micro_tokens=512)
    schedule = Schedule(learning_rate=1e-3, batch_size=8, steps=1)
    adaptation = AdaptationRun(tmp_path / "base", rows, Adaptation(max_length=180), schedule, conditions)
    assert adaptation.plan().steps == 1
    with nullcontext() if refusal is None else pytest.raises(UsageError, match=refusal):
        adaptation.run()
    assert (tmp_path / "out" / "model.safetensors").is_file() == (refusal is None)


def test_a_length_without_room_for_text_is_refused() -> None:
    frame = Frame((1,), (2, 3), (4, 5), 1)
    assert frame.room(6) == 1
    with pytest.raises(UsageError, match="no room"):
        frame.room(5)


def test_a_term_that_is_zero_on_both_sides_is_no_error_and_a_difference_from_zero_is() -> None:
    zero, one = torch.tensor(0.0), torch.tensor(1.0)
    assert relative_error(zero, zero) == 0
    assert relative_error(one, 2 * one) == 0.5
    for ours in (1e-30, 1e30, float("nan")):
        assert not relative_error(ours * one, zero) <= 1e-4
    assert isfinite(relative_error(1e30 * one, zero)), "JSON has no infinity"


@pytest.mark.parity
@pytest.mark.slow
def test_a_step_equals_that_of_the_released_code() -> None:
    folder = SHARED / "reference" / "llara_step"
    if not folder.is_dir():
        pytest.skip(f"no reference step at {folder} (LLARA_EVAL_SHARED names another folder)")
    script = ROOT / "tests" / "parity" / "llara_step.py"
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    errors = json.loads(done.stdout)
    assert {"loss", "ar", "ebae", "ebar", "self_embedding", "next_embedding"} <= errors.keys()
    assert sum(name.startswith("grad_") for name in errors) == 4
    assert max(errors.values()) < 1e-4
