"""``llara-eval msmarco``, and other commands on the same data sets."""

import json
from pathlib import Path
from types import MappingProxyType

import fakes
import pytest
from commands import text_of
from typer.testing import CliRunner

import adapters
from adapters import System
from llara_eval.cli import app
from llara_eval.datasets.known import KNOWN
from llara_eval.evaluation.record import load
from llara_eval.scoring.measures import DEFAULT_MEASURES


@pytest.fixture
def call(monkeypatch, official, tmp_path):
    """Return a function that runs ``llara-eval msmarco`` with a system of our own."""
    table = {"words": System("fakes:open_words", "words"), "bm25": System("fakes:open_words", "a stand-in")}
    monkeypatch.setattr(adapters, "SYSTEMS", MappingProxyType(table))

    def go(*words: object):
        common = ["--data-dir", official, "--runs-dir", tmp_path / "runs", "--offline"]
        arguments = ["msmarco", *words, *([] if "-m" in words else ["-m", "words"]), *common]
        return CliRunner().invoke(app, list(map(str, arguments)))

    return go


@pytest.mark.parametrize(
    ("words", "system", "dataset", "measure"),
    [
        (["--task", "passage"], "words", "msmarco-passage/dev", "RR@10"),
        (["--task", "passage", "--titled"], "words", "msmarco-passage-titled/dev", "RR@10"),
        (["--task", "document"], "words", "msmarco-document/dev", "RR@100"),
        (
            ["--task", "document", "--documents", "maxp"],
            "words,passages=maxp",
            "msmarco-document/dev",
            "RR@100",
        ),
        (["--task", "trec-dl-2019"], "words", "msmarco-passage/trec-dl-2019", "nDCG@10"),
        (["--task", "trec-dl-2020", "--titled"], "words", "msmarco-passage-titled/trec-dl-2020", "nDCG@10"),
        (["--task", "trec-dl-2020-document"], "words", "msmarco-document/trec-dl-2020", "nDCG@10"),
    ],
)
def test_each_task_is_one_data_set(call, pinned, words, system, dataset, measure):
    done = call(*words, "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert (result["system"], result["dataset"], next(iter(result["measures"]))) == (system, dataset, measure)
    assert ("R@1000" in result["measures"]) is (dataset.endswith("dev") and "passage" in dataset)


def test_only_documents_that_are_one_text_are_read_at_length(call, pinned, monkeypatch):
    lengths = []
    monkeypatch.setattr(fakes.WordOverlap, "on", lambda self, *names: lengths.append(names[1]) or self)
    for words in (["passage"], ["document"], ["document", "--documents", "maxp"]):
        assert call("--task", *words).exit_code == 0
    assert lengths == [None, 2_048, None]


def test_evaluate_reads_a_data_set_as_msmarco_does(call, pinned, monkeypatch, official, tmp_path):
    """Otherwise, the number of a system would depend on the command that came first."""
    contexts, original = [], fakes.open_words
    monkeypatch.setattr(
        fakes, "open_words", lambda *arguments: contexts.append(arguments[-1]) or original(*arguments)
    )
    lengths = []
    monkeypatch.setattr(fakes.WordOverlap, "on", lambda self, *names: lengths.append(names[1]) or self)
    names = ["msmarco-passage/dev", "demo", "msmarco-document/dev", "msmarco-document/trec-dl-2019", "demo"]
    words = ["evaluate", "-m", "words", *(word for name in names for word in ("-d", name))]
    folders = ["--data-dir", str(official), "--runs-dir", str(tmp_path / "runs")]
    done = CliRunner().invoke(app, [*words, *folders, "--measures", "RR@100", "--offline"])
    assert done.exit_code == 0, done.output
    assert lengths == [None, None, 2_048, 2_048]
    assert len(contexts) == 1, "opened once"


@pytest.mark.parametrize("command", ["evaluate", "beir"])
@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("trec-dl-2019", "msmarco-passage/trec-dl-2019"),
        ("trec-dl-2020-document", "msmarco-document/trec-dl-2020"),
        ("document", "msmarco-document/dev"),
    ],
)
def test_other_commands_measure_a_data_set_as_msmarco_does(
    request, call, official, tmp_path, command, real, task, name
):
    if real:
        request.getfixturevalue("pinned")
    folders = ["--data-dir", str(official), "--runs-dir", str(tmp_path / "runs"), "--offline"]
    done = CliRunner().invoke(app, [command, "-m", "words", "-d", f"demo,{name}", *folders, "--json"])
    assert done.exit_code == 0, done.output
    demo, result = map(json.loads, done.stdout.splitlines())
    assert result["dataset"] == (name if real else f"data/{name}")
    assert list(demo["measures"]) == list(DEFAULT_MEASURES)
    known = KNOWN[name]
    assert list(result["measures"]) == [item for item in known.measures if item != "R@1000"]
    assert load(Path(result["run"]).parent).depth == known.depth
    again = call("--task", task)
    assert again.exit_code == 0, again.output
    assert "(kept from an earlier run)" in again.stderr


def test_measures_and_depth_that_are_asked_for_count(call, pinned, official, tmp_path):
    words = ["evaluate", "-m", "words", "-d", "msmarco-passage/trec-dl-2019", "--measures", "R@5,R@50"]
    folders = ["--data-dir", str(official), "--runs-dir", str(tmp_path / "runs"), "--offline", "--json"]
    done = CliRunner().invoke(app, [*words, "--depth", "20", *folders])
    assert list(json.loads(done.stdout)["measures"]) == ["R@5"]


def test_the_table_stands_beside_published_values(call, pinned):
    untitled = call("--task", "passage").stdout
    assert "0.1840*" in untitled
    assert "0.1875*" in untitled
    assert "BM25: Lucene with k1=0.9, b=0.4" in untitled
    assert "0.4120*§" in untitled, "published with titles"
    titled = call("--task", "passage", "--titled").stdout
    assert "0.4120*" in titled
    assert "§" not in titled.split("published")[0]
    assert "0.1840" not in titled, "BM25 was published without titles"
    trec = call("--task", "trec-dl-2019").stdout
    assert "0.7501*" in trec, "published recall is that of grade 2"


def test_the_table_prefers_what_was_measured(call, pinned):
    assert call("--task", "document", "-m", "bm25", "--quiet").exit_code == 0
    shown = call("--task", "document").stdout
    assert "0.2299*" not in shown
    assert "0.2778*" in shown


def test_nothing_published_stands_beside_another_data_set(call):
    shown = call("--task", "passage")
    assert "data/msmarco-passage/dev" in shown.stdout
    assert "*" not in shown.stdout.split("published")[0].removesuffix("* ")
    assert "8,841,823" in shown.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "document", "--titled"], "--titled is for passages"),
        (["--task", "trec-dl-2019", "--documents", "maxp"], "--documents maxp is for documents"),
    ],
)
def test_what_makes_no_sense_is_refused(call, words, message):
    done = call(*words)
    assert done.exit_code == 2
    assert message in text_of(done)


@pytest.mark.parametrize(
    ("real", "name"),
    [
        (True, "msmarco-document/dev"),
        (False, "msmarco-document/dev"),
        (False, "data/msmarco-document/dev"),
    ],
)
def test_two_results_can_be_compared_by_the_name_of_the_set(request, call, official, tmp_path, real, name):
    if real:
        request.getfixturevalue("pinned")
    call("--task", "document")
    call("--task", "document", "-m", "bm25")
    folders = ["--runs-dir", tmp_path / "runs", "--data-dir", official]
    words = ["compare", "words", "bm25", "-d", name, *folders, "--json"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["n_queries"] == 40
