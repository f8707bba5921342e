"""What a model's configuration says of its cost is what torch counts."""

import pytest
import torch
from tiny_models import CAUSAL, KINDS, make_config, make_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel

from llara_eval.planning import cost


@pytest.mark.parametrize("kind", CAUSAL)
@pytest.mark.parametrize("length", [1, 40])
def test_operations_are_those_torch_counts(kind, length) -> None:
    model = AutoModel.from_config(make_config(kind), attn_implementation="eager")  # all of it is counted
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(input_ids=torch.ones(1, length, dtype=torch.long))
    found = cost.cost(make_config(kind))
    pooler = 0 if CAUSAL[kind] else 32 * 32  # its product is for one token of a text
    # What a causal mask hides is counted by torch as if it were computed.
    hidden = found.attention * length**2 if CAUSAL[kind] else 0
    counted = counter.get_total_flops() + 2 * pooler * (length - 1)
    assert found.operations(float(length)) + hidden == pytest.approx(counted)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_those_of_the_model(kind) -> None:
    assert cost.cost(make_config(kind)).parameters == make_model(kind).num_parameters()


def test_memory_is_weights_and_the_states_of_a_batch() -> None:
    found = cost.cost(make_config("llama"))
    assert found.memory(0, 2) == 2 * found.parameters
    assert found.memory(100, 4) - found.memory(0, 4) == 4 * 100 * (4 * 32 + 3 * 64)
