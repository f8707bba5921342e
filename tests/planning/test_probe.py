"""The probe: which texts and which model are timed on this machine, and for how long."""

import pytest
from tiny_models import ARCHITECTURES, make_config, make_tokenizer, save_checkpoint

from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.checkpoints.load import load
from llara_eval.encoding.templates import Template, Templates
from llara_eval.planning import cost
from llara_eval.planning.probe import open_encoder, time_encoder
from llara_eval.planning.workload import Reading

TEMPLATES = Templates(*[Template(max_length=512)] * 2)


@pytest.mark.parametrize("lengths", [[3] * 40 + [60] * 10, [128] * 5])
def test_the_probe_encodes_texts_of_the_lengths_asked_for(tmp_path, lengths) -> None:
    encoder = load(save_checkpoint(tmp_path, "llama"), batch_tokens=10_000)
    timing = time_encoder(encoder, lengths, seconds=30)
    assert timing.tokens == sum(lengths)
    model = cost.cost(make_config("llama"))
    assert timing.operations == sum(model.operations(float(length)) for length in lengths)
    assert (timing.layers, timing.seconds > 0) == (3, True)


def test_the_probe_stops_when_its_time_is_over_and_leaves_out_the_first_batch(tmp_path, monkeypatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr("llara_eval.planning.probe.time.perf_counter", lambda: float(next(ticks)))
    encoder = load(save_checkpoint(tmp_path, "llama"), batch_tokens=100)
    timing = time_encoder(encoder, [50] * 200, seconds=12)
    assert 0 < timing.tokens <= 6 * 100
    assert timing.tokens % 100 == 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_weights_a_short_model_of_the_same_shape_is_timed(tmp_path, architecture) -> None:
    make_config(architecture).save_pretrained(tmp_path)
    encoder = open_encoder(Checkpoint(tmp_path), Reading(TEMPLATES), dtype="float32")
    assert encoder.model.config.num_hidden_layers == 2
    timing = time_encoder(encoder, [20, 30], seconds=1)
    assert (timing.tokens, timing.layers) == (50, 2)
    whole = cost.cost(make_config(architecture)).operations(30.0) - cost.cost(
        encoder.model.config
    ).operations(30.0)
    assert 0.25 < whole / timing.operations < 1


def test_weights_that_do_not_fit_are_not_read(tmp_path, monkeypatch) -> None:
    checkpoint = Checkpoint(save_checkpoint(tmp_path, "llama"))
    reading = Reading(TEMPLATES, make_tokenizer())
    assert open_encoder(checkpoint, reading).model.config.num_hidden_layers == 3
    monkeypatch.setattr("llara_eval.planning.probe._memory", lambda device: 1000)
    assert open_encoder(checkpoint, reading).model.config.num_hidden_layers == 2
