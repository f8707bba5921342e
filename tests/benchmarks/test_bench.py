"""The benchmarks are correct: which competitors are timed, in which order, and how ratios are formed."""

import json
import sys
from pathlib import Path

import bench
import encode
import limit
import loops
import numpy as np
import ours
import peers
import pytest
import scoring
import search
import searchers
import startup
import torch
import worker
from rounds import Competitor, Outcome, Ratio, compete, ratio
from tiny_models import TEXTS, save_checkpoint
from transformers import AutoModel, AutoTokenizer

from llara_eval.checkpoints.export import export
from llara_eval.checkpoints.load import load
from llara_eval.encoding.templates import Template, Templates

LENGTH = 40
PEER = """
import time, pathlib, numpy as np
def make(log, name, value, hold=0, ready=True):
    print("chatter")
    if not ready:
        raise ValueError("no such thing")
    def once():
        with pathlib.Path(log).open("a") as file:
            file.write(name)
        held = np.ones(hold * 1_000_000, dtype=np.uint8)
        time.sleep(0.06)
        print("more chatter")
        return lambda: {"vectors": np.full((2, 3), value)}
    return once
"""
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


def differs(expected, output) -> str:
    return "" if np.array_equal(expected["vectors"], output["vectors"]) else "other vectors"


@LINUX
def test_a_competitor_with_another_output_is_refused_and_the_others_take_turns(tmp_path, monkeypatch) -> None:
    (tmp_path / "made_up_peer.py").write_text(PEER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    log = tmp_path / "log"

    def peer(name, value, **more) -> Competitor:
        return Competitor(name, "made_up_peer:make", {"log": str(log), "name": name, "value": value, **more})

    meter = peer("m", 9)._replace(compared=False)
    outcomes = compete(
        [peer("a", 1), peer("b", 1, hold=80), peer("w", 2), peer("f", 1, ready=False), meter], 3, differs
    )
    assert log.read_text() == "abwm" + 3 * "abm"
    assert [outcome.refused for outcome in outcomes] == [
        "",
        "",
        "other vectors",
        "failed: ValueError: no such thing",
        "",
    ]
    assert [len(outcome.rounds) for outcome in outcomes] == [3, 3, 0, 0, 3]
    assert all(0.05 < answer["seconds"] < 5 for answer in outcomes[0].rounds)
    assert outcomes[1].median("grown") > 75e6 > outcomes[0].median("grown")

    log.unlink()
    outcomes = compete([peer("a", 1), peer("b", 2)], 1, differs, reference=1)
    assert log.read_text() == "bab"
    assert [outcome.refused for outcome in outcomes] == ["other vectors", ""]
    with pytest.raises(ChildProcessError, match="no such thing"):
        compete([peer("a", 1, ready=False), peer("b", 2)], 1, differs)


def outcome(name: str, *seconds: float, **more) -> Outcome:
    return Outcome(name, rounds=[{"seconds": second, **more} for second in seconds])


def test_ratios_are_formed_within_rounds() -> None:
    slow, fast = outcome("slow", 2, 40, 6), outcome("fast", 1, 10, 2)
    assert ratio(slow, fast) == Ratio(3, 2, 4)  # of the medians it would be 6 / 2
    assert str(ratio(slow, fast)) == "3.00 (2.00–4.00)"
    assert str(Ratio(1234.5, 0.1, 99.994)) == "1,234 (0.10–99.99)"


def test_the_table_shows_ratios_and_refusals() -> None:
    own = outcome("llara-eval", 1, 2, padding=1.0)
    measured = {
        "model": "smollm2-135m",
        "dtype": "float32",
        "texts": 8,
        "tokens": 600,
        "operations": 6e9,
        "outcomes": [
            own,
            outcome("good", 3, 8, padding=1.5, batch=32),
            Outcome("bad", refused="other vectors: cosine 0.9300"),
            Outcome("limit", rounds=[{"speed": 12e9}, {"speed": 6e9}]),
        ],
        "shares": {"products": 0.75},
    }
    compared, share = map(str, encode.tables(measured, "somewhere"))
    assert "The median peer takes 3.50 times as long" in compared
    assert "| good | 109 | 3.50 (3.00–4.00) | 1.500 | 32 |" in compared
    assert "| bad | other vectors: cosine 0.9300 |  |  |  |" in compared
    assert "| ours of the best product | 0.50 (0.50–0.50) |" in share
    assert "| time: products | 75.0% |" in share


@pytest.mark.parametrize("name", loops.LOOPS)
@pytest.mark.parametrize(("architecture", "pooling"), [("llama", "last"), ("bert", "mean")])
def test_the_loops_give_the_vectors_of_ours(tmp_path, name, architecture, pooling) -> None:
    save_checkpoint(tmp_path, architecture)
    Templates(*[Template(pooling=pooling, max_length=LENGTH)] * 2).save(tmp_path)
    model, tokenizer = AutoModel.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    function, sizes = loops.LOOPS[name]
    expected = load(tmp_path, dtype="float32").encode(TEXTS, "document")
    for size in (*sizes, 2, 70):
        vectors = function(model, tokenizer, TEXTS, size, max_length=LENGTH, pooling=pooling)
        assert np.abs(vectors - expected).max() < 1e-5


def test_each_loop_pads_as_its_model_does(tmp_path) -> None:
    save_checkpoint(tmp_path)
    model, tokenizer = AutoModel.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    texts = ["a" * 7, "b" * 30, "c" * 8, "d" * 29]

    def tokens(name: str, size: int) -> list[int]:
        with peers.counted(model) as counts:
            loops.LOOPS[name][0](model, tokenizer, texts, size, max_length=LENGTH, pooling="last")
        return counts

    assert tokens("flag", 2) == [60, 16]  # sorted, to the longest
    assert tokens("tevatron", 2) == [64, 64]  # as they come, to a multiple of 16
    assert tokens("plain", 60) == [60, 16]
    assert tokens("plain", 8) == [30, 29, 8, 7]
    assert "forward" not in vars(model)


def test_the_better_batch_size_is_taken_and_the_first_round_is_not_encoded_twice(monkeypatch) -> None:
    class Model:
        def forward(self, input_ids):
            return input_ids

    calls, model = [], Model()
    clock = iter([0, 5, 5, 6])
    monkeypatch.setattr(peers.time, "perf_counter", lambda: next(clock))

    def run(texts, size):
        calls.append((len(texts), size))
        model.forward(input_ids=torch.zeros(len(texts), size))
        return np.zeros((len(texts), 2))

    once = peers.tuned(run, ["x"] * 20, [[1, 2]] * 20, model, (4, 3))
    assert calls == [(8, 4), (20, 4), (20, 3)]
    assert worker.notes == {"batch": 3, "padding": 1.5}
    output = once()()
    assert len(calls) == 3
    assert output["lengths"].tolist() == [2] * 20
    once()
    assert calls[3:] == [(20, 3)]
    assert peers.at_most((32, 128), ["x"] * 200) == [32, 50]
    assert peers.at_most((32, 128), ["x"] * 20) == [5]


@pytest.mark.parametrize("peer", ["sentence_transformers", "beir", "mteb", "loop"])
def test_the_peers_read_what_ours_reads(tmp_path, monkeypatch, peer) -> None:
    if peer == "mteb":
        pytest.importorskip("mteb", reason="mteb is installed by make bench alone")
    monkeypatch.setattr(peers, "TRIED", (2, 3))
    texts = [text + "x" * more for text in TEXTS for more in range(3)]
    save_checkpoint(tmp_path / "own")
    Templates(*[Template(suffix=("</s>",), pooling="last", max_length=LENGTH)] * 2).save(tmp_path / "own")
    export(tmp_path / "own", tmp_path / "exported")
    (tmp_path / "texts").write_text(json.dumps(texts))
    files = {name: str(tmp_path / name) for name in ("texts", "exported")}
    more = {"name": "flag", "pooling": "last", "max_length": LENGTH} if peer == "loop" else {}
    expected = ours.encode(str(tmp_path / "own"), **files, dtype="float32")()()
    output = getattr(peers, peer)(str(tmp_path / "own"), **files, dtype="float32", **more)()()
    assert expected["lengths"].tolist() == [*map(len, ours.token_ids(tmp_path / "own", texts))]
    assert encode.objection(expected, output) == ""
    assert worker.notes["padding"] > 1


def test_other_tokens_and_other_vectors_are_objected_to() -> None:
    right = {"ids": np.arange(5), "lengths": np.array([2, 3]), "vectors": np.eye(2)}
    assert encode.objection(right, {**right, "vectors": np.eye(2) * 7}) == ""
    swapped = encode.objection(right, {**right, "vectors": np.eye(2)[::-1]})
    assert swapped == "other vectors: cosine 0.0000, mean 0.0000"
    assert encode.objection(right, {**right, "vectors": np.array([[1, 0], [0, np.nan]])}).startswith(
        "other vectors"
    )
    angles = [0.07, *[0.01] * 9]  # cosines .9976 and .99995
    many, near = np.tile([1, 0], (10, 1)), np.stack([np.cos(angles), np.sin(angles)], axis=1)
    tokens = {"ids": np.arange(10), "lengths": np.ones(10, dtype=int)}
    expected, output = {**tokens, "vectors": many}, {**tokens, "vectors": near}
    assert encode.objection(expected, output) == "other vectors: cosine 0.9976, mean 0.9997"
    assert encode.objection(expected, output, lowest=encode.LOWEST["bfloat16"]) == ""
    assert encode.objection(expected, {**output, "vectors": near[[0] * 10]}, lowest=0.99) != ""
    longer = {**right, "ids": np.arange(9), "lengths": np.array([4, 5])}
    assert encode.objection(right, longer) == "other token ids: 9 tokens, not 5"
    assert encode.objection(right, {**right, "ids": np.arange(5) + 1})


def test_texts_are_drawn_of_both_collections_or_made_up(tmp_path) -> None:
    for name in encode.COLLECTIONS:
        (tmp_path / name).mkdir()
        rows = [json.dumps({"_id": f"{i}", "title": name, "text": str(i)}) for i in range(9)]
        (tmp_path / name / "corpus.jsonl").write_text("\n".join(rows))
    texts, source = encode.sample(tmp_path, 8)
    assert source == "scifact and arguana"
    assert sorted(text.split()[0] for text in texts) == ["arguana"] * 4 + ["scifact"] * 4
    assert encode.sample(tmp_path, 8)[0] == texts
    texts, source = encode.sample(tmp_path / "none", 8)
    assert len(texts) == 8
    assert source.startswith("made up")


@pytest.mark.parity
def test_all_searchers_find_the_same(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(search, "QUERIES", 5)
    monkeypatch.setattr(ours, "SHARD", 64)
    monkeypatch.setattr(searchers, "BLOCK", 100)
    search.write(tmp_path, search.Size(300, 16))
    expected = searchers.faiss(str(tmp_path), 20, built=True)()()
    assert search.objection(expected, searchers.faiss(str(tmp_path), 20, built=False)()()) == ""
    assert search.objection(expected, ours.search(str(tmp_path), 20)()()) == ""
    part = searchers.beir(str(tmp_path), 20, 150)
    part()
    assert search.objection(expected, part()()) == ""
    assert search.objection(expected, {**part()(), "searched": np.array(300)}).startswith("other hits")
    pytest.importorskip("mteb", reason="mteb is installed by make bench alone")
    assert search.objection(expected, searchers.mteb(str(tmp_path), 20, 300)()()) == ""


def test_hits_may_differ_only_where_scores_are_equal() -> None:
    def hits(rows, scores, searched=100) -> dict:
        return {
            "rows": np.array([rows]),
            "scores": np.array([scores], dtype=np.float32),
            "searched": np.array(searched),
        }

    right = hits([5, 2, 9], [0.9, 0.5, 0.4])
    assert search.objection(right, hits([2, 5, 9], [0.5, 0.9, 0.4])) == ""
    assert search.objection(right, hits([5, 2, 7], [0.9, 0.5, 0.4])) == ""  # a tie at the cut
    assert (
        search.objection(right, hits([5, 7, 9], [0.9, 0.5, 0.4])) == "other hits: 1 missing, 0 other scores"
    )
    assert (
        search.objection(right, hits([5, 2, 9], [0.8, 0.5, 0.4])) == "other hits: 0 missing, 1 other scores"
    )
    assert search.objection(right, hits([5, 2], [0.9, 0.5])) == "other hits: 2 a query"
    assert search.objection(right, hits([5, 2, 1], [0.9, 0.5, 0.1], searched=8)) == ""
    assert search.objection(right, hits([5, 3, 1], [0.9, 0.2, 0.1], searched=8)) != ""


@pytest.mark.parity
def test_all_scorers_agree(tmp_path, monkeypatch) -> None:
    pytest.importorskip("pytrec_eval")
    monkeypatch.setattr(scoring, "DEPTH", 120)
    files = scoring.write(tmp_path, 12)
    expected = ours.score(**files, measures=[*scoring.MEASURES])()()
    assert worker.notes["read"] > 0 < worker.notes["score"]
    assert 0 < expected["nDCG@10"].mean() < 1
    for scorer in (scoring.ir_measures, scoring.pytrec_eval):
        values = scorer(**files)()()
        assert scoring.objection(expected, values) == ""
        changed = {**values, "AP": values["AP"] + 1e-8}
        assert scoring.objection(expected, changed) == "other values: AP differs by 1.0e-08"
    assert scoring.objection(expected, {name: values[1:] for name, values in expected.items()})


def test_processor_time_of_a_command_is_its_own(tmp_path) -> None:
    spin = "import time\nwhile time.process_time() < 0.3: pass"
    outcomes = startup.measure(
        2,
        lambda _: None,
        {
            "spin": [sys.executable, "-c", spin],
            "sleep": [sys.executable, "-c", "import time; time.sleep(0.3)"],
            "fail": [sys.executable, "-c", "raise SystemExit(3)"],
            "none": [str(tmp_path / "none")],
        },
    )
    assert [len(outcome.rounds) for outcome in outcomes] == [2, 2, 0, 0]
    assert outcomes[0].median() > 0.29 > outcomes[1].median()
    assert "ended with 3" in outcomes[2].refused
    assert "| none | failed: " in str(startup.table(outcomes))


def test_the_limit_is_of_the_models_own_products(tmp_path, monkeypatch) -> None:
    save_checkpoint(tmp_path)
    assert ours.product_shapes(tmp_path) == [(16, 32), (32, 32), (32, 64), (64, 32)]
    assert ours.operations(tmp_path, [10, 20]) > 2 * 30 * 3 * (32 * 32 * 2 + 16 * 32 * 2 + 3 * 32 * 64)
    monkeypatch.setattr(limit, "SECONDS", 0.01)
    limit.products(str(tmp_path), "float32")()
    assert 1e6 < worker.notes["speed"] < 1e14
    (tmp_path / "texts").write_text(json.dumps(TEXTS))
    limit.profile(str(tmp_path), str(tmp_path / "texts"), "float32")()
    shares = worker.notes["shares"]
    assert sum(shares.values()) - shares["tokenising"] < 1.01 <= 0.02 + sum(shares.values())
    assert shares["products"] > 0 < shares["attention"]
    operators = {
        "aten::addmm": "products",
        "aten::_scaled_dot_product_flash_attention_for_cpu": "attention",
        "aten::silu": "elementwise",
        "aten::embedding": "embedding",
        "aten::copy_": "copies",
        "aten::view": "other operators",
    }
    assert {name: limit.kind_of(name) for name in operators} == operators


def test_an_unknown_part_is_refused(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["bench.py", "serch"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "serch: not one of startup" in capsys.readouterr().err


def test_every_peer_is_pinned_exactly() -> None:
    lines = Path(bench.__file__).with_name("requirements.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins == sorted(pins, key=lambda pin: pin.split("==")[0].lower())
    assert all(line.count("==") == 1 for line in pins)
    assert "torch==2.13.0" in pins
