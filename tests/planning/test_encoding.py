"""Plans of encoding: the needs of a data set, and the documents that represent a shard."""

import numpy as np
import pytest
from tiny_models import make_config

from llara_eval.planning import cost, encoding
from llara_eval.planning.workload import Workload


def test_the_needs_of_a_data_set_are_those_of_all_its_texts() -> None:
    model = cost.cost(make_config("llama"))
    load = Workload("tiny", 30, 3, np.array([10.0, 20.0]), np.array([5.0]), "sample")
    row = encoding.row(load, model)
    assert row.tokens == 30 * 15 + 3 * 5
    short, long, query = (model.operations(tokens) for tokens in (10.0, 20.0, 5.0))
    assert row.operations == 15 * (short + long) + 3 * query
    assert (row.vector_bytes, row.shards) == (30 * 32 * 2, 1)


def test_a_probe_draws_from_collections_as_they_are_mixed() -> None:
    one = np.array([1.0])
    mixed = encoding.one_shard(
        [
            Workload("few", 100, 1, np.array([10.0]), one, "sample"),
            Workload("many", 900, 1, np.array([20.0, 30.0]), one, "sample"),
        ]
    )
    assert len(mixed) == 1000
    assert mixed.count(10) == pytest.approx(100, abs=40)
    assert mixed.count(20) == pytest.approx(450, abs=70)
