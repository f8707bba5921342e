"""A checkpoint can be saved before the first step is made, whatever the class of its tokenizer."""

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoint_kinds import change
from tiny_training import make_base, make_groups, run
from transformers import PreTrainedTokenizerFast

from adapters.finetune import FinetuningRun
from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.checkpoints.load import load
from llara_eval.core.errors import CheckFailedError
from llara_eval.training.config import Conditions, Contrast, Schedule
from llara_eval.training.log import LOG


def make_gpt2_base(folder: Path) -> Path:
    """Write a base model whose tokenizer's class lists no tokenizer.json, as SmolLM2's does."""
    make_base(folder)
    change(folder / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    assert type(Checkpoint(folder).tokenizer).__name__ == "GPT2Tokenizer"
    return folder


def finetune(folder: Path) -> Path:
    return FinetuningRun(
        make_gpt2_base(folder / "base"),
        [make_groups(folder / "groups.jsonl")],
        Contrast(group_size=2),
        Schedule(learning_rate=1e-3, batch_size=4, steps=1, lora=None),
        Conditions(output=folder / "out", micro_tokens=512, dtype="float32"),
    ).run()


def adapt(folder: Path) -> Path:
    make_gpt2_base(folder / "base")
    return run(folder, 1)


@pytest.mark.parametrize("train", [finetune, adapt])
def test_a_base_model_with_gpt2s_tokenizer_is_trained_saved_and_read_again(tmp_path, train) -> None:
    out = train(tmp_path)
    texts = ["The moon passes  between", "sun <s9> and </s> 日本"]
    expected = Checkpoint(tmp_path / "base").tokenizer(texts)["input_ids"]
    assert load(out, dtype="float32").tokenizer(texts)["input_ids"] == expected
    assert json.loads((out / "training.json").read_text())["steps"] == 1


def _lose(self: Any, folder: Path, **options: Any) -> None:
    """Save a tokenizer as it was before tokens were added."""
    (Path(folder) / "tokenizer_config.json").write_text("{}")


@pytest.mark.parametrize("train", [finetune, adapt])
def test_saving_is_tried_before_the_first_step(tmp_path, monkeypatch, train) -> None:
    make_gpt2_base(tmp_path / "base")
    for tokenizer in (PreTrainedTokenizerFast, type(Checkpoint(tmp_path / "base").tokenizer)):
        monkeypatch.setattr(tokenizer, "save_pretrained", _lose)
    with pytest.raises(CheckFailedError, match=r"a checkpoint saved for .*out could not be read.*tokenizer"):
        train(tmp_path)
    assert not (tmp_path / "out" / LOG).exists()
    assert not (tmp_path / "out").exists()
