"""``llara-eval plan``: its numbers against those computed by hand, and what it refuses."""

import json
from pathlib import Path

import pytest
from commands import text_of
from tiny_models import make_sentence_transformer, save_checkpoint
from typer.testing import CliRunner

from llara_eval.cli import app

LLAMA_2_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
}

BY_HAND = """
msmarco           8841823 103 6.67 72.4
msmarco-document  3213835 473 11.18 26.3
trec-covid         171332 272 0.34 1.4
bioasq           14914603 329 35.94 122.2
nfcorpus             3633 381 0.01 0.0
nq                2681468 136 2.67 22.0
hotpotqa          5233329 93 3.56 42.9
fiqa                57638 200 0.08 0.5
signal1m          2866316 46 0.97 23.5
trec-news          594977 456 1.99 4.9
robust04           528155 395 1.53 4.3
arguana              8674 244 0.02 0.1
webis-touche2020   382545 301 0.84 3.1
cqadupstack        457199 252 0.84 3.7
quora              522931 37 0.14 4.3
dbpedia-entity    4635922 99 3.34 38.0
scidocs             25657 271 0.05 0.2
fever             5416568 143 5.66 44.4
climate-fever     5416593 143 5.66 44.4
scifact              5183 366 0.01 0.0
"""
"""LLaMA-2-7B: documents, tokens of one, hours of an H100 at half of 989 TFLOP/s, GB of float16 vectors."""


@pytest.fixture
def llama_2_7b(tmp_path: Path) -> Path:
    """Return a checkpoint folder that is nothing but a configuration."""
    folder = tmp_path / "llama-2-7b"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA_2_7B), encoding="utf-8")
    return folder


def plan(folder: Path, *words: str, data_dir: Path = Path("absent")):
    command = ["plan", "--model", str(folder), "--data-dir", str(data_dir), *words]
    return CliRunner().invoke(app, command, env={"COLUMNS": "160"})


def object_of(result) -> dict:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_llama_2_7b_over_everything_takes_what_was_computed_by_hand(llama_2_7b) -> None:
    planned = object_of(plan(llama_2_7b, "--no-probe", "--json"))
    rows = {row["name"].removeprefix("beir/"): row for row in planned["datasets"]}
    lines = [line.split() for line in BY_HAND.strip().split("\n")]
    assert set(rows) == {name for name, *_ in lines}
    for name, documents, tokens, hours, gigabytes in lines:
        row = rows[name]
        assert row["documents"] == int(documents), name
        assert row["tokens_per_document"] == pytest.approx(float(tokens), abs=0.01), name
        assert row["gpu_hours"] == pytest.approx(float(hours), rel=0.02, abs=0.005), name
        assert row["vector_bytes"] / 1e9 == pytest.approx(float(gigabytes), abs=0.0501), name
    everything = planned["total"]
    assert everything["documents"] / 1e6 == pytest.approx(55.98, abs=0.005)
    assert everything["tokens"] / 1e9 == pytest.approx(11.14, rel=0.002)
    assert everything["gpu_hours"] == pytest.approx(81.5, rel=0.002)
    assert everything["vector_bytes"] / 1e9 == pytest.approx(459, abs=0.5)
    assert everything["shards"] == sum(-(-int(line[1]) // 4096) for line in lines)
    assert planned["gflop_per_token"] == pytest.approx(12.95, rel=0.01)
    assert 2 * planned["products"] / 1e9 == pytest.approx(12.95, rel=0.001)


def test_data_sets_are_named_one_by_one_or_with_commas(llama_2_7b) -> None:
    planned = object_of(plan(llama_2_7b, "--no-probe", "--json", "-d", "nq,fiqa", "--datasets", "scifact"))
    assert [row["name"] for row in planned["datasets"]] == ["beir/nq", "beir/fiqa", "beir/scifact"]


def test_a_checkpoint_is_timed_on_what_is_at_hand(make_collection, tmp_path) -> None:
    documents = {f"d{i}": "x" * i for i in range(60)}
    folder = make_collection(documents, {"q": "what"}, {"q": {"d1": 1}})
    model = save_checkpoint(tmp_path / "model", "llama")
    planned = object_of(
        plan(model, "-d", str(folder), "--json", "--max-length", "128", "--batch-tokens", "512")
    )
    probe, row = planned["probe"], planned["datasets"][0]
    assert row["hours_here"] == pytest.approx(
        row["operations"] * probe["seconds"] / probe["operations"] / 3600
    )
    assert row["hours_here"] * 3600 == pytest.approx(row["tokens"] / probe["tokens_per_second"])
    assert probe["layers"] == planned["layers"] == 3
    shown = plan(model, "-d", str(folder), "-q", "--max-length", "64")
    assert shown.exit_code == 0
    assert "time here" in shown.stdout
    assert "sample" in shown.stdout


def test_tokens_are_counted_with_the_prompts_and_lengths_of_each_data_set(make_collection, tmp_path) -> None:
    one, two = (
        make_collection({"d": "text"}, {"q": "what"}, {"q": {"d": 1}}, name=name) for name in ("one", "two")
    )
    model = make_sentence_transformer(tmp_path / "model", "bert")
    file = tmp_path / "own.json"
    file.write_text(json.dumps({"one": {"query": "q: ", "document": "doc: "}, "two": "longer: "}))
    words = ["-d", f"{one},{two}", "--no-probe", "--json"]

    def tokens(*more: str) -> list[float]:
        return [row["tokens"] for row in object_of(plan(model, *words, *more))["datasets"]]

    without = len("text") + len("what")
    assert tokens() == [without, without]  # every byte is a token
    assert tokens("--prompts", str(file)) == [without + len("q: doc: "), without + len("longer: ")]
    file.write_text(json.dumps({"one": "q: "}))
    refused = plan(model, *words, "--prompts", str(file))
    assert (refused.exit_code, "own.json has no prompt for two" in refused.stderr) == (3, True)


def test_hours_follow_device_utilisation_and_number(llama_2_7b) -> None:
    def hours(*words: str) -> tuple[float, float]:
        planned = object_of(plan(llama_2_7b, "-d", "nq", "--no-probe", "--json", *words))
        return planned["total"]["gpu_hours"], planned["wall_hours"]

    usual, _ = hours()
    assert hours("--device-tflops", "A100")[0] == pytest.approx(usual * 989 / 312)
    assert hours("--device-tflops", "494.5", "--utilisation", "1")[0] == pytest.approx(usual)
    assert hours("--gpus", "8") == (pytest.approx(usual), pytest.approx(usual / 8))


def test_disk_shards_and_memory(llama_2_7b) -> None:
    def plan_json(*words: str) -> dict:
        return object_of(plan(llama_2_7b, "-d", "nfcorpus", "--no-probe", "--json", *words))

    usual = plan_json()
    assert usual["total"]["vector_bytes"] == 3633 * 4096 * 2
    assert usual["total"]["shards"] == 1
    assert plan_json("--max-length", "128")["total"]["tokens_per_document"] <= 128
    assert plan_json("-o", "max_length=128") == plan_json("--max-length", "128")
    assert usual["peak_memory_bytes"] / 2**30 == pytest.approx(12.3 + 6.0, abs=0.1)
    assert plan_json("--dtype", "float32")["peak_memory_bytes"] == 2 * usual["peak_memory_bytes"]


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (["-d", ","], 2, "--dataset ',' names nothing"),
        (["-d", "nothing"], 3, "Without their texts, these can be planned: msmarco, trec-covid"),
        (["-d", "demo"], 3, "the tokens of demo cannot be counted: the checkpoint has no tokenizer"),
        (["--device-tflops", "tpu"], 2, "expected its TFLOP/s, or one of h100"),
        (["--device-tflops", "nan"], 2, "expected its TFLOP/s"),
        (["--utilisation", "50"], 2, "expected a share above 0 and at most 1"),
        (["--utilisation", "0"], 2, "utilisation 0: expected a share above 0"),
        (["-o", "template=llara"], 2, "--option template: needs a tokenizer"),
        (["-o", "lenght=128"], 2, "has no option 'lenght'; it has query_prompt"),
    ],
)
def test_what_cannot_be_planned_is_refused(llama_2_7b, words, code, problem) -> None:
    shown = plan(llama_2_7b, "--no-probe", *words)
    assert shown.exit_code == code
    assert problem in text_of(shown)


def test_a_configuration_that_cannot_be_read_is_named(tmp_path) -> None:
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    shown = plan(tmp_path, "--no-probe")
    assert shown.exit_code == 3
    assert "config.json: cannot be read as JSON" in text_of(shown)
