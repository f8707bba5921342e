"""Adapters that must not be followed: of themselves, of bases that may not be downloaded, without bound."""

import json

import pytest
from checkpoint_kinds import change
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModel

from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.checkpoints.load import LoadOptions, load
from llara_eval.checkpoints.lora import is_harmless
from llara_eval.core.errors import DataError
from llara_eval.encoding.templates import Template, Templates


@pytest.mark.parametrize("base", [".", "../adapter", "{here}"])
def test_an_adapter_of_itself_is_refused(tmp_path, base) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": base.format(here=folder)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="is the adapter itself"):
        _ = Checkpoint(folder).config


def test_adapters_of_each_other_are_refused(tmp_path) -> None:
    for name, other in (("a", "../b"), ("b", "../a")):
        (tmp_path / name).mkdir()
        config = {"peft_type": "LORA", "base_model_name_or_path": other}
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="an adapter of it"):
        _ = Checkpoint(tmp_path / "a").content_hash


def test_the_base_of_an_adapter_is_not_downloaded_if_downloads_are_forbidden(tmp_path, monkeypatch) -> None:
    seen = []

    def download(*_, local_files_only, **__):
        seen.append(local_files_only)
        raise OSError("not here")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    config = {"peft_type": "LORA", "base_model_name_or_path": "someone/base"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    for offline in (True, False):
        with pytest.raises((DataError, OSError)):
            _ = Checkpoint(tmp_path, offline=offline).base
    assert seen == [True, False]


@pytest.fixture
def adapter(bare, tmp_path):
    """Write an adapter of a tiny model, as peft does."""
    model = AutoModel.from_pretrained(bare)
    config = LoraConfig(r=4, target_modules=["q_proj"], task_type=TaskType.FEATURE_EXTRACTION)
    get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("target_modules", "(([a-z_.0-9]+)+)+!", "no pattern that surely ends"),
        ("target_modules", "(", "no pattern that surely ends"),
        ("exclude_modules", "(.*)*(.*)*!", "no pattern that surely ends"),
        ("rank_pattern", {"(a|a)*b": 4}, "no pattern that surely ends"),
        ("alpha_pattern", {r"(.)\1+": 4}, "no pattern that surely ends"),
        ("rank_pattern", {"q_proj": 10**9}, "a rank of 1000000000"),
        ("r", 10**9, "a rank of 1000000000"),
        ("megatron_config", {"x": 1}, "Megatron"),
        ("bias", 7, "cannot be loaded as an adapter"),
    ],
)
def test_settings_without_bound_are_refused(adapter, setting, value, message) -> None:
    change(adapter / "adapter_config.json", **{setting: value})
    with pytest.raises(DataError, match=message):
        load(adapter, LoadOptions(make_templates=lambda _: Templates(Template(), Template())))


@pytest.mark.parametrize(
    "pattern",
    [
        "all-linear",
        r".*\.(q_proj|v_proj)$",
        r".*decoder.*(SelfAttention|EncDecAttention).*(q|v)$",
        r"(?:.*?(?:language|text).*?(?:self_attn|attention|mlp).*?(?:q_proj|k_proj).*?)"
        r"|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)\.(?:(?:q_proj|k_proj)))",
    ],
)
def test_patterns_that_are_in_use_are_taken(pattern) -> None:
    assert is_harmless(pattern)
