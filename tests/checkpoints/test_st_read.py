"""Folders in sentence-transformers layout are read as that library reads them."""

import json

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from tiny_models import (
    TEXTS,
    make_sentence_transformer,
)

from llara_eval.checkpoints.load import LoadOptions, load
from llara_eval.core.errors import UsageError
from llara_eval.encoding.templates import SIDES, Template


@pytest.mark.parity
@pytest.mark.parametrize(("mode", "pooling"), [("mean", "mean"), ("cls", "first"), ("lasttoken", "last")])
@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_a_sentence_transformers_folder_gives_its_own_vectors(tmp_path, architecture, mode, pooling) -> None:
    prompts = {"prompts": {"query": "search: ", "document": "text: "}}
    folder = make_sentence_transformer(
        tmp_path / "st", architecture, mode, config_sentence_transformers=prompts
    )
    encoder = load(folder, dtype="float32")
    assert encoder.templates.document == Template(pooling=pooling, prompt="text: ", max_length=48)
    peer = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    for side in SIDES:
        assert np.allclose(encoder.encode(TEXTS, side), peer.encode(TEXTS, prompt_name=side), atol=1e-5)


def test_a_limit_is_found_wherever_sentence_transformers_writes_it(tmp_path) -> None:
    older = make_sentence_transformer(tmp_path / "st", "bert")
    (older / "sentence_bert_config.json").rename(older / "sentence_roberta_config.json")
    peer = SentenceTransformer(str(older), device="cpu", local_files_only=True)
    newer = tmp_path / "newer"
    peer.max_seq_length = 24
    peer.save(str(newer))
    for folder, limit in ((older, 48), (newer, 24)):
        peer = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        encoder = load(folder, dtype="float32")
        assert peer.max_seq_length == encoder.templates.document.max_length == limit
        long = [" ".join(TEXTS * 3)]
        assert np.allclose(encoder.encode(long, "document"), peer.encode(long), atol=1e-5)


@pytest.mark.parametrize("backend", ["transformers", "sentence-transformers"])
def test_a_setting_that_lowers_the_case_of_texts_is_refused(tmp_path, backend) -> None:
    settings = {"max_seq_length": 48, "do_lower_case": True}
    folder = make_sentence_transformer(tmp_path / "st", "bert", sentence_bert_config=settings)
    with pytest.raises(UsageError, match=r"do_lower_case.* save it again"):
        load(folder, LoadOptions(engine=backend))
    peer = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    peer.save(str(tmp_path / "again"))
    texts = ["The Moon And The EARTH"]
    vectors = load(tmp_path / "again", LoadOptions(engine=backend), dtype="float32").encode(texts, "document")
    assert float((vectors * peer.encode(texts)).sum()) > 0.9999


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"similarity_fn_name": "euclidean"}, "similarity_fn_name 'euclidean'; only cosine and dot"),
        ({"truncate_dim": 8}, "use --dims 8"),
    ],
)
def test_settings_that_change_vectors_or_scores_are_not_ignored(tmp_path, setting, message) -> None:
    folder = make_sentence_transformer(tmp_path / "st", "bert", config_sentence_transformers=setting)
    with pytest.raises(UsageError, match=message):
        load(folder)


def test_modes_of_pooling_may_be_a_list(tmp_path) -> None:
    folder = make_sentence_transformer(tmp_path / "st", "bert")
    pooling = {"word_embedding_dimension": 32, "pooling_mode": ["cls", "mean"]}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    with pytest.raises(UsageError, match=r"pooling 'cls\+mean'; only"):
        load(folder)


def test_modules_and_poolings_we_cannot_reproduce_are_refused(tmp_path) -> None:
    folder = make_sentence_transformer(tmp_path / "st", pooling="max")
    with pytest.raises(UsageError, match="pooling 'max'"):
        load(folder)
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UsageError, match="Dense"):
        load(folder)
