"""The cost that is computed from a configuration is the one that torch counts."""

import pytest
import torch
from tiny_models import ARCHITECTURES, CAUSAL, make_config, make_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel

from llara_eval.planning import cost


@pytest.mark.parametrize("architecture", CAUSAL)
@pytest.mark.parametrize("length", [1, 40])
def test_operations_are_those_torch_counts(architecture, length) -> None:
    model = AutoModel.from_config(
        make_config(architecture), attn_implementation="eager"
    )  # all of it is counted
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(input_ids=torch.ones(1, length, dtype=torch.long))
    model_cost = cost.cost(make_config(architecture))
    pooler = 0 if CAUSAL[architecture] else 32 * 32  # its product is for one token of a text
    # What a causal mask hides is counted by torch as if it were computed.
    masked = model_cost.attention * length**2 if CAUSAL[architecture] else 0
    counted = counter.get_total_flops() + 2 * pooler * (length - 1)
    assert model_cost.operations(float(length)) + masked == pytest.approx(counted)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parameters_are_those_of_the_model(architecture) -> None:
    assert cost.cost(make_config(architecture)).parameters == make_model(architecture).num_parameters()


def test_memory_is_weights_and_the_hidden_states_of_a_batch() -> None:
    model_cost = cost.cost(make_config("llama"))
    assert model_cost.memory(0, 2) == 2 * model_cost.parameters
    assert model_cost.memory(100, 4) - model_cost.memory(0, 4) == 4 * 100 * (4 * 32 + 3 * 64)
