"""Systems of our own, a small collection, and results of both, for the tests of the commands."""

import json
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from commands import DOCUMENTS, QRELS, QUERIES, call

import adapters
from adapters import System
from llara_eval.datasets import known as catalogue


@pytest.fixture
def systems(monkeypatch, tmp_path) -> None:
    """Put systems of our own in the table; one lives in a module nobody has imported."""
    (tmp_path / "modules").mkdir()
    source = "import fakes\n\n\ndef open_it(name, *rest):\n    return fakes.WordOverlap(name=name)\n"
    (tmp_path / "modules" / "a_system_of_ours.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    table = {
        "ours": System("a_system_of_ours:open_it", "in a module of its own"),
        "words": System("fakes:open_words", "words"),
        "stems": System("fakes:open_words", "first letters", {"letters": 3}),
        "broken": System("fakes:open_broken", "corrupt"),
        "missing": System("fakes:open_missing", "lacks a part"),
        "interrupted": System("fakes:open_interrupted", "Ctrl-C"),
        "bm25": adapters.SYSTEMS["bm25"],
    }
    monkeypatch.setattr(adapters, "SYSTEMS", MappingProxyType(table))


@pytest.fixture
def tiny(make_collection) -> Path:
    return make_collection(DOCUMENTS, QUERIES, QRELS)


@pytest.fixture
def evaluate(systems, tiny, tmp_path):
    """Return a function that runs ``llara-eval evaluate`` on the small collection."""

    def go(*words: str, models=("words",), data=tiny):
        chosen = [part for model in models for part in ("--model", model)]
        return call("evaluate", *chosen, "--dataset", data, "--runs-dir", tmp_path / "runs", *words)

    return go


@pytest.fixture
def two(evaluate, tmp_path) -> Path:
    """Return a runs folder with two systems on the small collection."""
    assert evaluate(models=["words", "stems"]).exit_code == 0
    return tmp_path / "runs"


@pytest.fixture
def like_scifact(make_collection, monkeypatch) -> Path:
    """Return a data folder with a small set that is taken for SciFact, the only public set."""
    folder = make_collection(DOCUMENTS, QUERIES, QRELS, name="scifact")
    known = replace(catalogue.KNOWN["beir/scifact"], documents=4, queries=3, judgements=4)
    monkeypatch.setattr(catalogue, "KNOWN", {known.name: known})
    monkeypatch.setattr(catalogue, "BEIR", (known.name,))
    return folder.parent


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """Return a tiny language model."""
    from tiny_training import make_base

    return make_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    """Return rows to adapt to."""
    from tiny_training import make_rows

    return make_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", 12)


@pytest.fixture(scope="module")
def groups(tmp_path_factory) -> Path:
    """Return queries with positives and negatives."""
    from tiny_training import WORDS

    path = tmp_path_factory.mktemp("groups") / "groups.jsonl"
    lines = [{"query": word, "pos": [f"about the {word}"], "neg": ["about bees", "other"]} for word in WORDS]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path
