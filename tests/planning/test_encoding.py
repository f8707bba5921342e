"""What an evaluation is said to take: against a table computed by hand, and against what is encoded."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_models import make_config, make_tokenizer, save_checkpoint
from typer.testing import CliRunner

from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.cli import app
from llara_eval.core.errors import DataError, UsageError
from llara_eval.datasets.known import BEIR, CQADUPSTACK, expand, find
from llara_eval.encoding.templates import Template, Templates
from llara_eval.planning import corpus_sizes, cost, encoding
from llara_eval.planning.workload import SAMPLE, Reading, Workload, workloads

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


def reading(limit: int = 512) -> Reading:
    """Return how texts are read where every byte is a token and nothing is around them."""
    template = Template(max_length=limit)
    return Reading(Templates(template, template), make_tokenizer())


# What is known without texts


def test_llama_2_7b_over_everything_takes_what_was_computed_by_hand(llama_2_7b) -> None:
    found = object_of(plan(llama_2_7b, "--no-probe", "--json"))
    rows = {row["name"].removeprefix("beir/"): row for row in found["datasets"]}
    lines = [line.split() for line in BY_HAND.strip().split("\n")]
    assert set(rows) == {name for name, *_ in lines}
    for name, documents, tokens, hours, gigabytes in lines:
        row = rows[name]
        assert row["documents"] == int(documents), name
        assert row["tokens_per_document"] == pytest.approx(float(tokens), abs=0.01), name
        assert row["gpu_hours"] == pytest.approx(float(hours), rel=0.02, abs=0.005), name
        assert row["vector_bytes"] / 1e9 == pytest.approx(float(gigabytes), abs=0.0501), name
    everything = found["total"]
    assert everything["documents"] / 1e6 == pytest.approx(55.98, abs=0.005)
    assert everything["tokens"] / 1e9 == pytest.approx(11.14, rel=0.002)
    assert everything["gpu_hours"] == pytest.approx(81.5, rel=0.002)
    assert everything["vector_bytes"] / 1e9 == pytest.approx(459, abs=0.5)
    assert everything["shards"] == sum(-(-int(line[1]) // 4096) for line in lines)
    assert found["gflop_per_token"] == pytest.approx(12.95, rel=0.01)
    assert 2 * found["products"] / 1e9 == pytest.approx(12.95, rel=0.001)


def test_documents_and_queries_are_those_of_the_catalogue() -> None:
    for name, size in corpus_sizes.load().items():
        known = [find(part) for part in expand(name)]
        if None not in known:
            assert size.queries == sum(member.queries for member in known), name
            if len(known) == 1:
                assert size.documents == known[0].documents, name
    assert set(BEIR) - set(CQADUPSTACK) < set(corpus_sizes.load())


def test_data_sets_are_named_one_by_one_or_with_commas(llama_2_7b) -> None:
    found = object_of(plan(llama_2_7b, "--no-probe", "--json", "-d", "nq,fiqa", "--datasets", "scifact"))
    assert [row["name"] for row in found["datasets"]] == ["beir/nq", "beir/fiqa", "beir/scifact"]


def test_names_of_the_catalogue_are_understood() -> None:
    assert corpus_sizes.find("scifact") is corpus_sizes.find("beir/scifact")
    assert corpus_sizes.find("msmarco-passage/trec-dl-2019") is corpus_sizes.find("msmarco")
    assert corpus_sizes.find("msmarco-document/dev") is corpus_sizes.find("msmarco-document")
    for unknown in ("msmarco-passage-titled/dev", "scifact/other", "cqadupstack/android", "beir", ""):
        assert corpus_sizes.find(unknown) is None, unknown
    groups = {name: corpus_sizes.expand(name) for name in ("beir-13", "beir-14", "beir-15", "BEIR-18")}
    assert [len(set(members)) for members in groups.values()] == [13, 14, 15, 18]
    assert all(corpus_sizes.find(member) for members in groups.values() for member in members)


@pytest.mark.parametrize("name", corpus_sizes.load())
def test_lengths_have_the_mean_of_the_table_and_grow_with_the_limit(name) -> None:
    size = corpus_sizes.load()[name]
    means = [reading(limit).with_template(size.lengths(), "document").mean() for limit in (64, 512, 2048)]
    assert np.minimum(size.lengths() + corpus_sizes.TEMPLATE_TOKENS, 512).mean() == pytest.approx(size.tokens)
    assert means == sorted(means)
    assert means[0] <= 64


# Texts at hand


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


def test_a_large_corpus_is_counted_whole_and_sampled_evenly(make_collection, tmp_path) -> None:
    total = 5 * SAMPLE
    documents = {f"d{i}": "x" * (1 + i * 100 // total) for i in range(total)}
    folder = make_collection(documents, {"q": "what"}, {"q": {"d0": 1}})
    (load,), (again,) = (workloads([str(folder)], reading(), data_dir=tmp_path) for _ in range(2))
    assert (load.documents, len(load.document_tokens)) == (total, SAMPLE)
    assert load.document_tokens.mean() == pytest.approx(50.5, abs=4 * 29 / SAMPLE**0.5)
    assert np.array_equal(load.document_tokens, again.document_tokens)


def test_a_named_set_is_sampled_where_it_is_at_hand_and_looked_up_elsewhere(
    make_collection, tmp_path
) -> None:
    make_collection({"d": "some text"}, {"q": "what"}, {"q": {"d": 1}}, name="scifact")
    found = workloads(["scifact", "beir/scifact", "nfcorpus", "demo"], reading(), data_dir=tmp_path)
    assert [(load.name, load.documents, load.tokens_from) for load in found] == [
        ("beir/scifact", 1, "sample"),
        ("beir/nfcorpus", 3633, "published"),
        ("demo", 180, "sample"),
    ]
    without = Reading(reading().templates)
    assert workloads(["scifact"], without, data_dir=tmp_path)[0].tokens_from == "published"


def test_cqadupstack_is_one_collection_and_at_hand_only_with_all_forums(make_collection, tmp_path) -> None:
    for name in CQADUPSTACK[1:]:
        make_collection({"d": "x"}, {"q": "y"}, {"q": {"d": 1}}, name=name.removeprefix("beir/"))
    (load,) = workloads(["cqadupstack"], reading(), data_dir=tmp_path)
    assert (load.documents, load.tokens_from) == (457_199, "published")
    forum = CQADUPSTACK[0].removeprefix("beir/")
    make_collection({"d": "x", "e": "x"}, {"q": "y"}, {"q": {"d": 1}}, name=forum)
    (load,) = workloads(["cqadupstack"], reading(), data_dir=tmp_path)
    assert (load.name, load.documents, load.queries, load.tokens_from) == (
        "beir/cqadupstack",
        13,
        12,
        "sample",
    )


def test_ms_marco_is_sampled_from_its_official_files(tmp_path) -> None:
    folder = tmp_path / "msmarco-passage"
    folder.mkdir()
    (folder / "queries.dev.small.tsv").write_text("q\twhat\nr\tunjudged\n")
    (folder / "qrels.dev.small.tsv").write_text("q\t0\t1\t1\n")
    (folder / "corpus.jsonl").write_text('{"docid": "1", "title": "title", "text": "some text"}\n')
    names = ["msmarco-passage/dev", "msmarco-passage-titled/dev"]
    first, second = workloads(names, reading(), data_dir=tmp_path)
    assert (first.name, first.tokens_from) == ("beir/msmarco", "published"), "titled passages are another set"
    assert (second.name, second.documents, second.queries) == (names[1], 1, 1)
    (folder / "collection.tsv").write_text("1\tsome text\n2\tmore\n")
    loads = workloads([*names, "msmarco-passage", "msmarco-document"], reading(), data_dir=tmp_path)
    assert [(load.documents, load.tokens_from) for load in loads] == [
        (2, "sample"),
        (1, "sample"),
        (3_213_835, "published"),
    ]
    assert loads[0].document_tokens.tolist() == [9, 4]
    assert loads[1].document_tokens.tolist() == [15]


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


# The command


def test_a_checkpoint_is_timed_on_what_is_at_hand(make_collection, tmp_path) -> None:
    documents = {f"d{i}": "x" * i for i in range(60)}
    folder = make_collection(documents, {"q": "what"}, {"q": {"d1": 1}})
    model = save_checkpoint(tmp_path / "model", "llama")
    found = object_of(
        plan(model, "-d", str(folder), "--json", "--max-length", "128", "--batch-tokens", "512")
    )
    probe, row = found["probe"], found["datasets"][0]
    assert row["hours_here"] == pytest.approx(
        row["operations"] * probe["seconds"] / probe["operations"] / 3600
    )
    assert row["hours_here"] * 3600 == pytest.approx(row["tokens"] / probe["tokens_per_second"])
    assert probe["layers"] == found["layers"] == 3
    shown = plan(model, "-d", str(folder), "-q", "--max-length", "64")
    assert shown.exit_code == 0
    assert "time here" in shown.stdout
    assert "sample" in shown.stdout


def test_hours_follow_device_utilisation_and_number(llama_2_7b) -> None:
    def hours(*words: str) -> tuple[float, float]:
        found = object_of(plan(llama_2_7b, "-d", "nq", "--no-probe", "--json", *words))
        return found["total"]["gpu_hours"], found["wall_hours"]

    usual, _ = hours()
    assert hours("--device-tflops", "A100")[0] == pytest.approx(usual * 989 / 312)
    assert hours("--device-tflops", "494.5", "--utilisation", "1")[0] == pytest.approx(usual)
    assert hours("--gpus", "8") == (pytest.approx(usual), pytest.approx(usual / 8))


def test_disk_shards_and_memory(llama_2_7b) -> None:
    def found(*words: str) -> dict:
        return object_of(plan(llama_2_7b, "-d", "nfcorpus", "--no-probe", "--json", *words))

    usual = found()
    assert usual["total"]["vector_bytes"] == 3633 * 4096 * 2
    assert usual["total"]["shards"] == 1
    assert found("--max-length", "128")["total"]["tokens_per_document"] <= 128
    assert found("-o", "max_length=128") == found("--max-length", "128")
    assert usual["peak_memory_bytes"] / 2**30 == pytest.approx(12.3 + 6.0, abs=0.1)
    assert found("--dtype", "float32")["peak_memory_bytes"] == 2 * usual["peak_memory_bytes"]


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (["-d", ","], 2, "--dataset ',' names no data set"),
        (["-d", "nothing"], 3, "Without their texts, these can be planned: msmarco, trec-covid"),
        (["-d", "demo"], 3, "the tokens of demo cannot be counted: the checkpoint has no tokenizer"),
        (["--device-tflops", "tpu"], 2, "expected a number, or one of h100"),
        (["--device-tflops", "nan"], 2, "expected a number"),
        (["--utilisation", "50"], 2, "expected a share above 0 and at most 1"),
        (["-o", "template=llara"], 2, "--option template: needs a tokenizer"),
        (["-o", "lenght=128"], 2, "has no option 'lenght'; it has max_length"),
    ],
)
def test_what_cannot_be_planned_is_refused(llama_2_7b, words, code, problem) -> None:
    shown = plan(llama_2_7b, "--no-probe", *words)
    assert shown.exit_code == code
    assert problem in " ".join(shown.stderr.split())


def test_a_configuration_that_cannot_be_read_is_named(tmp_path) -> None:
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    shown = plan(tmp_path, "--no-probe")
    assert shown.exit_code == 3
    assert "its configuration cannot be read" in " ".join(shown.stderr.split())


def test_errors_of_a_collection_at_hand_are_not_covered_up(make_collection, tmp_path) -> None:
    folder = make_collection({"d": "x"}, {"q": "y"}, {"q": {"d": 1}}, split="dev")
    with pytest.raises(DataError, match="no judgements for split 'test'; there are: dev"):
        workloads([str(folder)], reading(), data_dir=tmp_path)
    assert workloads([str(folder)], reading(), data_dir=tmp_path, split="dev")[0].queries == 1
    (folder / "corpus.jsonl").write_text("{\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"corpus\.jsonl:1: not valid JSON"):
        workloads([str(folder)], reading(), data_dir=tmp_path, split="dev")


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="--utilisation 0"):
        encoding.device("h100", 0)


# Real collections


@pytest.mark.real
@pytest.mark.models
def test_the_table_agrees_with_real_texts(real_data, packaged_model) -> None:
    from adapters import checkpoint_folder, checkpoint_texts

    model = packaged_model("all-minilm-l6-v2")
    tokenizer, templates = checkpoint_texts(model, {}, Checkpoint(checkpoint_folder(model, offline=True)))
    how = Reading(templates.with_changes(max_length=512 - corpus_sizes.TEMPLATE_TOKENS + 2), tokenizer)
    for name in ("scifact", "arguana"):
        (load,) = workloads([name], how, data_dir=real_data)
        text = load.document_tokens.mean() - 2  # [CLS] and [SEP]
        published = corpus_sizes.load()[f"beir/{name}"].tokens - corpus_sizes.TEMPLATE_TOKENS
        assert 1.10 * text == pytest.approx(published, rel=0.1), name
