"""``llara-eval verify-joint``: does one pass over a joint sequence give what two passes give?"""

import json
from pathlib import Path

import pytest
import torch
from commands import text_of
from tiny_models import make_tokenizer
from training_commands import call
from transformers import AutoModelForCausalLM, BloomConfig

from adapters.llara import verify_joint


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("the moon passes\n\nbetween the sun\nand the earth " + "sun " * 40, encoding="utf-8")
    return path


def test_verify_joint_compares_one_pass_with_two(base: Path, text_file: Path) -> None:
    shown = call("verify-joint", "--model", base, "--text-file", text_file, "--json")
    assert shown.exit_code == 0, shown.stderr
    report = json.loads(shown.stdout)
    assert report["texts"] == 3
    assert report["isolation_error"] < 1e-5
    assert report["leaked_attention"] == 0
    assert report["holds"]
    assert report["cost_ratio"] == report["joint_tokens"] / report["separate_tokens"] < 1
    assert report["time_ratio"] == report["joint_seconds"] / report["separate_seconds"]
    table = call("verify-joint", "--model", base, "--text-file", text_file, "--variant", "paper")
    assert table.exit_code == 0
    assert "two passes" in table.stdout


def test_verify_joint_says_why_a_model_takes_no_joint_sequence(tmp_path: Path, text_file: Path) -> None:
    config = BloomConfig(hidden_size=32, n_layer=2, n_head=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    refused = call("verify-joint", "--model", tmp_path, "--text-file", text_file)
    assert refused.exit_code == 2
    assert "BloomModel cannot be adapted: it takes no joint sequence" in text_of(refused)


def test_verify_joint_exits_4_where_next_sees_self(
    base: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.llara.joint.joint_mask", causal_only)
    shown = call("verify-joint", "--model", base, "--text-file", text_file, "--json")
    assert shown.exit_code == 4
    report = json.loads(shown.stdout)
    assert not report["holds"]
    assert report["isolation_error"] > verify_joint.LARGEST_ERROR
    assert "cannot be adapted with joint sequences" in text_of(shown)


def causal_only(segments: torch.Tensor) -> torch.Tensor:
    """Let NEXT see SELF."""
    length = segments.shape[1]
    allowed = torch.ones(length, length, dtype=torch.bool).tril() & (segments > 0)[:, None, :]
    return (allowed | torch.eye(length, dtype=torch.bool))[:, None]


def test_verify_joint_needs_text_and_a_known_variant(base: Path, tmp_path: Path, text_file: Path) -> None:
    words = ["verify-joint", "--model", base, "--text-file", text_file]
    unknown = call(*words, "--variant", "nope")
    assert unknown.exit_code == 2
    assert "'nope' is not one of released, paper, paper-acl" in text_of(unknown)
    (tmp_path / "empty.txt").write_text("\n")
    assert call("verify-joint", "--model", base, "--text-file", tmp_path / "empty.txt").exit_code == 3
    text_file.write_bytes("the moon\ncrème brûlée\n".encode("latin-1"))
    unreadable = call(*words)
    assert unreadable.exit_code == 3
    assert "texts.txt:2: not UTF-8" in text_of(unreadable)
