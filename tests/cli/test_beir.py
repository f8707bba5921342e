"""``llara-eval beir``: measured values beside published ones, and means where every member is there."""

import json
from dataclasses import replace

import pytest
from commands import DOCUMENTS, QRELS, QUERIES, call, text_of

from llara_eval.datasets import known as catalogue
from llara_eval.evaluation.record import load, save
from llara_eval.reports import averages as means

pytestmark = pytest.mark.usefixtures("systems")


def test_beir_shows_published_values_marked_beside_the_measured_ones(like_scifact, tmp_path):
    words = ["--data-dir", like_scifact, "--runs-dir", tmp_path / "runs"]
    result = call("beir", "--model", "words", *words)
    assert result.exit_code == 0, result.stderr
    (row,) = [line for line in result.stdout.splitlines() if "beir/scifact" in line]
    assert "0.6667" in row
    assert "0.6789*" in row, "BM25 as published, marked"
    assert "BM25: Lucene with k1=0.9, b=0.4" in result.stdout
    assert "BEIR-13" not in result.stdout, "no mean of a part"
    assert json.loads(call("beir", "--model", "words", *words, "--json").stdout)["dataset"] == "beir/scifact"


def test_beir_compares_with_what_was_measured_on_the_same_data(like_scifact, tmp_path):
    words = ["--data-dir", like_scifact, "--runs-dir", tmp_path / "runs"]
    assert call("beir", "--model", "words", *words).exit_code == 0
    measured = load(tmp_path / "runs" / "words" / "beir--scifact")
    measures = {"nDCG@10": {"mean": 0.4321, "low": 0.4, "high": 0.5}}
    baseline = tmp_path / "runs" / "bm25" / "beir--scifact"
    broken = tmp_path / "runs" / "broken" / "beir--scifact" / "result.json"
    broken.parent.mkdir(parents=True)
    broken.write_text('{"schema": 2}')
    for fingerprint, shown in ((measured.dataset_fingerprint, "0.4321 "), ("0" * 64, "0.6789*")):
        record = replace(measured, system="bm25", measures=measures, dataset_fingerprint=fingerprint)
        save(baseline, record)
        result = call("beir", "--model", "words", *words)
        assert result.exit_code == 0, result.stderr
        (row,) = [line for line in result.stdout.splitlines() if "beir/scifact" in line]
        assert shown in row
        assert "not shown" in result.stderr
        assert "this version reads 1" in text_of(result)


def test_beir_runs_the_public_sets_and_those_licensed_ones_that_are_there(
    like_scifact, make_collection, monkeypatch, tmp_path
):
    news = catalogue.KnownDataset(name="beir/news", folder="news", obtain="Apply.")
    monkeypatch.setattr(catalogue, "KNOWN", {**catalogue.KNOWN, news.name: news})
    monkeypatch.setattr(catalogue, "BEIR", (*catalogue.BEIR, news.name))
    words = ["--data-dir", like_scifact, "--runs-dir", tmp_path / "runs", "--json", "--offline"]
    for expected in (["beir/scifact"], ["beir/scifact", "beir/news"]):
        result = call("beir", "--model", "words", *words)
        assert result.exit_code == 0, result.stderr
        assert [json.loads(line)["dataset"] for line in result.stdout.splitlines()] == expected
        if len(expected) == 1:
            make_collection(DOCUMENTS, QUERIES, QRELS, name="news")


def test_beir_shows_a_mean_with_its_n_where_every_member_is_measured(like_scifact, monkeypatch, tmp_path):
    averages = {"beir-13": ("beir/scifact",), "beir-14": ("beir/scifact", "beir/nq")}
    for module in (catalogue, means):
        monkeypatch.setattr(module, "AVERAGES", averages)
    words = ["--data-dir", like_scifact, "--runs-dir", tmp_path / "runs", "-d", "beir-13,scifact"]
    result = call("beir", "--model", "words", *words)
    assert result.exit_code == 0, result.stderr
    (row,) = [line for line in result.stdout.splitlines() if "BEIR-13 (n = 1)" in line]
    assert "0.6667" in row
    assert "0.6789*" in row
    assert "BEIR-14" not in result.stdout
    assert "failed" not in result.stderr, "scifact is asked for once"
