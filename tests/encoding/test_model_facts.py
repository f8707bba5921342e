"""The facts about a model are found in few forward passes that do not change the model."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from tiny_models import ARCHITECTURES, CAUSAL, TEXTS, make_model, make_sentence_transformer, save_checkpoint
from transformers import AutoModel, BloomConfig, OPTConfig, PreTrainedModel, XLNetConfig

from llara_eval.checkpoints import load as checkpoints
from llara_eval.checkpoints.load import LoadOptions
from llara_eval.core.errors import UsageError
from llara_eval.encoding.engines import can_pack, find_facts
from llara_eval.encoding.model_facts import bare_facts, evaluating, require_positions
from llara_eval.encoding.packed import PackedModel
from llara_eval.encoding.templates import Template, Templates

PLAIN = Template(max_length=64)
BOTH = Templates(PLAIN, PLAIN)
PACKABLE = ["llama", "qwen2", "gemma3", "bert", "xlm-roberta"]


@contextmanager
def counting() -> Iterator[list[str]]:
    """Collect the class of the model of each forward pass in the block."""
    passes: list[str] = []

    def note(module: torch.nn.Module, _: object) -> None:
        if isinstance(module, PreTrainedModel):
            passes.append(type(module).__name__)

    handle = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        yield passes
    finally:
        handle.remove()


def hooks(model: torch.nn.Module) -> list[str]:
    """Return the modules that have hooks."""
    return [
        name
        for name, module in model.named_modules()
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    ]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_load_takes_three_forward_passes_at_most_and_leaves_the_model_as_it_is_on_disk(
    tmp_path, architecture
) -> None:
    folder = save_checkpoint(tmp_path / "model", architecture)
    with counting() as passes:
        encoder = checkpoints.load(folder, LoadOptions(changes={"max_length": 64}), dtype="float32")
    assert 1 <= len(passes) <= 3, passes
    assert not hooks(encoder.model)
    assert not any(module.training for module in encoder.model.modules())
    assert encoder.model.config._attn_implementation == make_model(architecture).config._attn_implementation
    for name, value in make_model(architecture).state_dict().items():
        assert torch.equal(encoder.model.state_dict()[name], value), name


def test_other_engines_take_one_forward_pass_of_the_stock_model(tmp_path) -> None:
    folder = make_sentence_transformer(tmp_path / "st", "bert")
    with counting() as passes:
        checkpoints.load(folder, LoadOptions(engine="sentence-transformers"), dtype="float32")
    assert passes == ["BertModel"]


@pytest.mark.parametrize("architecture", CAUSAL)
def test_facts_of_each_architecture(architecture: str) -> None:
    facts = find_facts(make_model(architecture), BOTH)
    assert facts.causal is CAUSAL[architecture]
    assert facts.packs is (architecture in PACKABLE)
    assert (facts.width, facts.layers) == (32, 3)
    assert facts.positions == (126 if architecture in ("xlm-roberta", "mpnet") else 128)
    assert facts.padding_position == (1 if architecture in ("xlm-roberta", "mpnet") else None)


def test_outputs_may_be_narrower_than_layers_and_positions_without_a_limit() -> None:
    small = {"hidden_size": 32, "num_attention_heads": 4}
    opt = AutoModel.from_config(
        OPTConfig(word_embed_proj_dim=16, num_hidden_layers=2, ffn_dim=64, **small)
    ).eval()
    assert bare_facts(opt).width == 16
    bloom = AutoModel.from_config(BloomConfig(hidden_size=32, n_layer=2, n_head=4)).eval()
    assert bare_facts(bloom).positions == sys.maxsize


def test_finding_facts_changes_no_mode_and_no_hook_and_draws_no_random_number() -> None:
    model = make_model("llama").train()
    model.layers[1].eval()  # modes may be mixed
    modes = [module.training for module in model.modules()]
    state = torch.random.get_rng_state()
    assert find_facts(model, BOTH).packs
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not hooks(model)


def test_modes_are_restored_after_an_error() -> None:
    model = make_model("llama").train()
    with pytest.raises(ZeroDivisionError), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise ZeroDivisionError
    assert all(module.training for module in model.modules())


def test_facts_do_not_depend_on_dropout() -> None:
    model = make_model("llama")
    model.config.attention_dropout = 0.5
    for layer in model.layers:
        layer.self_attn.attention_dropout = 0.5
    assert find_facts(model.train(), BOTH) == find_facts(model.eval(), BOTH)


def test_a_packed_model_has_hooks_while_it_computes_and_none_afterwards() -> None:
    model, seen = make_model("llama"), []
    last = Template(suffix=("</s>",), pooling="last", max_length=64)
    model.register_forward_pre_hook(lambda *_: seen.append(len(hooks(model))))
    sequences = [[5, 6, 7], [8, 9]]
    list(PackedModel(model, bare_facts(model)).embeddings(sequences, last, [2], "document"))
    assert seen[-1] > 1
    assert hooks(model) == [""], "the hook of this test"


def test_a_window_shorter_than_texts_prevents_packing_without_a_trial() -> None:
    model = make_model("gemma3")  # its window is of 64 tokens
    longer = Template(max_length=65)
    with counting() as passes:
        assert not can_pack(model, Templates(longer, longer), causal=True)
    assert not passes


def test_a_model_may_have_no_limit_of_positions() -> None:
    assert XLNetConfig().max_position_embeddings == -1
    require_positions(XLNetConfig(), length=1_000_000)


def test_a_length_beyond_the_positions_is_refused_by_its_name() -> None:
    config = make_model("bert").config
    require_positions(config, query_length=128, passage_length=None)
    with pytest.raises(UsageError, match=r"passage_length 129 is more than the model has positions: 128"):
        require_positions(config, query_length=128, passage_length=129)


def test_texts_of_a_packable_model_are_packed(tmp_path) -> None:
    encoder = checkpoints.load(save_checkpoint(tmp_path / "model"), dtype="float32")
    assert encoder.engine.name == "packed"
    assert encoder.encode(TEXTS, "query").shape == (len(TEXTS), 32)
