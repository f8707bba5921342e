"""Plans of encoding: which documents stand for a shard, and devices that are refused."""

import numpy as np
import pytest
from tiny_models import make_config, make_tokenizer

from llara_eval.core.errors import UsageError
from llara_eval.encoding.templates import Template, Templates
from llara_eval.planning import cost, encoding
from llara_eval.planning.workload import Reading, Workload, workloads


def test_a_folder_is_counted_with_the_models_own_tokenizer_and_template(make_collection, tmp_path) -> None:
    documents = {f"d{i}": ("title", "x" * i) for i in range(1, 31)}
    folder = make_collection(documents, {"q1": "what", "q2": "unjudged"}, {"q1": {"d1": 1}})
    template = Template(prefix=("<s>",), suffix=("</s>",), prompt="p:", max_length=20)
    how = Reading(Templates(query=template, document=template), make_tokenizer())
    (load,) = workloads([str(folder)], how, data_dir=tmp_path)
    own = len("p:") + 2
    assert (load.name, load.documents, load.queries, load.tokens_from) == ("tiny", 30, 1, "sample")
    expected = [min(20, own + len("title ") + i) for i in range(1, 31)]
    assert sorted(load.document_tokens) == expected
    assert load.query_tokens.tolist() == [own + len("what")]
    row = encoding.row(load, cost.cost(make_config("llama")))
    assert row.tokens == sum(expected) + own + len("what")
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


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="utilisation 0"):
        encoding.device("h100", 0)
