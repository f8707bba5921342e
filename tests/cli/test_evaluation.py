"""The workers of commands that evaluate, and what encode leaves for them."""

import itertools
import json
from contextlib import contextmanager

from commands import text_of
from tiny_models import save_checkpoint
from typer.testing import CliRunner

from adapters import maxp
from llara_eval.cli import app, launch
from llara_eval.core.types import Document
from llara_eval.evaluation.suite import Conditions, evaluate_all


def test_workers_of_an_evaluation_get_its_options_and_the_collection(make_collection, monkeypatch, tmp_path):
    called: list[tuple[list[str], int]] = []

    @contextmanager
    def beside(words, workers):
        called.append((words, workers))
        yield

    monkeypatch.setattr(launch, "beside", beside)
    model = save_checkpoint(tmp_path / "model", "bert")
    folder = make_collection({"d": "text"}, {"q": "text", "r": "word"}, {"q": {"d": 1}, "r": {"d": 1}})
    words = ["-m", str(model), "-d", str(folder), "--limit", "1", "--query-prompt", "a\\nb", "--offline"]
    more = ["--runs-dir", str(tmp_path / "runs"), "--workers", "3", "-o", "pooling=first", "--depth", "10"]
    result = CliRunner().invoke(app, ["evaluate", *words, *more])
    assert result.exit_code == 0, result.stderr
    ((started, workers),) = called
    assert (started[0], workers) == ("encode", 3)
    pairs = set(itertools.pairwise(started))
    assert {("--model", str(model)), ("--dataset", str(folder)), ("--limit", "1")} <= pairs
    assert {("--query-prompt", "a\nb"), ("--option", "pooling=first"), ("--workers", "1")} <= pairs
    assert "--offline" in started
    assert not {"--depth", "--runs-dir"} & set(started)
    again = CliRunner().invoke(app, ["evaluate", *words, *more])
    assert again.exit_code == 0, again.stderr
    assert len(called) == 1, "a result that is kept encodes nothing"


def test_passages_that_were_encoded_are_found_by_an_evaluation(make_collection, tmp_path) -> None:
    model = str(save_checkpoint(tmp_path / "model", "bert"))
    folder = str(make_collection({"d": "word " * 400, "e": "text"}, {"q": "text"}, {"q": {"d": 1}}))
    passages = len(list(maxp.passages(Document("d", "", "word " * 400), 150, 75))) + 1
    result = CliRunner().invoke(
        app, ["encode", "-m", model, "-d", folder, "--documents", "maxp", "--offline", "--json"]
    )
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["documents"]["made"] == passages > 2
    conditions = Conditions(maxp=True, offline=True, runs_dir=tmp_path / "runs")
    (outcome,), _ = evaluate_all([model], [folder], conditions)
    assert outcome.result.phases["index"]["reused"] == passages


def test_workers_of_a_system_that_encodes_nothing(evaluate, make_collection, tmp_path) -> None:
    result = evaluate("--workers", "2", models=("words", "stems"))
    assert result.exit_code == 0, result.stderr
    assert "words encodes nothing: --workers has no effect on it" in text_of(result)
    assert "--workers" not in evaluate("--workers", "2", "--quiet", "--on-existing", "always").stderr
