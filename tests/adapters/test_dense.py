"""The settings of a dense system name the machine and the software that computed its vectors."""

import hashlib

import pytest
import torch
from checkpoint_kinds import all_kinds
from tiny_models import make_sentence_transformer, save_checkpoint

from adapters import open_system
from adapters.options import Context
from llara_eval.core.errors import UsageError
from llara_eval.core.provenance import describe


def test_a_result_names_processor_instructions_threads_engine_and_dtype(tmp_path) -> None:
    folder = save_checkpoint(tmp_path / "model")
    options = {"dtype": "float32"}
    settings = open_system(str(folder), options, Context(home=tmp_path, offline=True)).settings
    runtime = settings["runtime"]
    assert settings["dtype"] == "float32"
    assert describe()["processor"]
    if torch.cuda.is_available():
        assert (runtime["device"], runtime["gpu"]) == ("cuda", torch.cuda.get_device_name())
    else:
        assert runtime["instructions"] == torch.backends.cpu.get_cpu_capability()
        assert runtime["threads"] == torch.get_num_threads()
        assert runtime["backend"] == "packed"


def test_lengths_of_one_side_come_before_those_of_both_and_of_the_task(tmp_path) -> None:
    folder = save_checkpoint(tmp_path / "model")

    def lengths(text_length: int | None = None, **options: int) -> tuple[int, int]:
        system = open_system(str(folder), options, Context(home=tmp_path)).on("pages", text_length)
        templates = system.encoder.templates
        return templates.query.max_length, templates.document.max_length

    assert lengths(query_length=100, document_length=110) == (100, 110)
    assert lengths(max_length=100, document_length=110) == (100, 110)
    assert lengths(text_length=120, query_length=100) == (100, 120)
    with pytest.raises(UsageError, match="document_length 129 is more than the model has positions: 128"):
        lengths(document_length=129)


def test_a_system_has_the_name_that_the_user_gives_it(tmp_path) -> None:
    folder = save_checkpoint(tmp_path / "checkpoint-1000")
    context = Context(home=tmp_path)
    names = [
        open_system(str(folder), options, context).name
        for options in ({}, {"name": "mine"}, {"name": "mine", "query_length": "100", "normalize": "false"})
    ]
    assert names == ["checkpoint-1000", "mine", "mine,query_length=100,normalize=False"]


def test_code_that_ran_is_recorded_with_its_hash(tmp_path) -> None:
    kind = next(kind for kind in all_kinds() if kind.options == {"trust_remote_code": True})
    kind.make(tmp_path / "model")
    system = open_system(str(tmp_path / "model"), kind.options, Context(home=tmp_path, offline=True))
    expected = hashlib.sha256((tmp_path / "model" / "own.py").read_bytes()).hexdigest()
    assert system.settings["code_sha256"] == {"own.py": expected}


def test_modules_that_normalise_cannot_be_told_not_to(tmp_path) -> None:
    folder = make_sentence_transformer(tmp_path / "model")
    options = {"backend": "sentence-transformers", "normalize": "false"}
    with pytest.raises(UsageError, match="its own modules normalise the vectors: leave out normalize=false"):
        open_system(str(folder), options, Context(home=tmp_path))
