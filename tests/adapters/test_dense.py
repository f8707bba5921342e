"""The settings of a dense system name the machine and the software that computed its vectors."""

import torch
from tiny_models import save_checkpoint

from adapters import open_system
from adapters.options import Context
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
