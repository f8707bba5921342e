"""``llara-eval repro``: verdicts, exit codes, what is measured and what is only listed."""

import json
from pathlib import Path
from types import MappingProxyType

import pytest
from commands import text_of
from typer.testing import CliRunner

import adapters
from adapters import System
from llara_eval.cli import app
from llara_eval.cli import repro as command
from llara_eval.core.errors import DataError, DriftError, MissingPartError, PartialResultsError
from llara_eval.evaluation import record
from llara_eval.reports.reproduction import DENSE, LEXICAL, Cell, Expected

DOCUMENTS = {"d1": "red apples", "d2": "green pears", "d3": "blue plums"}
QUERIES = {"q1": "apples", "q2": "pears", "q3": "cherries"}
QRELS = {"q1": {"d1": 1}, "q2": {"d2": 1}, "q3": {"d3": 1}}
"""Word overlap finds two of three: every measure is 2/3."""

RIGHT, NEAR, WRONG = 0.6667, 0.6660, 0.6789


@pytest.fixture(autouse=True)
def systems(monkeypatch):
    table = {
        "words": System("fakes:open_words", "words"),
        "broken": System("fakes:open_broken", "corrupt"),
        "missing": System("fakes:open_missing", "lacks a part"),
    }
    monkeypatch.setattr(adapters, "SYSTEMS", MappingProxyType(table))


@pytest.fixture
def data(make_collection, tmp_path) -> Path:
    """Return a data folder with two sets, ``tiny`` and ``other``."""
    make_collection(DOCUMENTS, QUERIES, QRELS)
    make_collection(DOCUMENTS, {"q1": "apples"}, {"q1": {"d1": 1}}, name="other")
    return tmp_path


def cell(*values: float, model: str | None = "words", dataset: str = "tiny", **more) -> Cell:
    measures = ("nDCG@10", "RR@10", "R@100")
    expected = [Expected(name, value, "a book") for name, value in zip(measures, values, strict=False)]
    return Cell(
        "bm25" if model else "llara", model, dataset, tuple(expected), more.pop("tolerance", LEXICAL), **more
    )


@pytest.fixture
def measure(data):
    """Return a function that measures cells of ours."""

    def go(*cells: Cell):
        return command.measure(
            cells,
            data_dir=data,
            runs_dir=data / "runs",
            on_existing="always",
            offline=True,
            quiet=True,
        )

    return go


@pytest.fixture
def repro(data, monkeypatch):
    """Return a function that runs the command on cells of ours."""

    def go(cells, *words: object):
        monkeypatch.setattr(command, "_all_cells", lambda: cells)
        arguments = ["repro", "--data-dir", data, "--runs-dir", data / "runs", *words]
        return CliRunner().invoke(app, [str(word) for word in arguments])

    return go


def test_values_are_compared_with_what_is_measured(measure):
    findings = measure(cell(RIGHT, NEAR, WRONG))
    assert [finding.verdict for finding in findings] == ["OK", "close", "FAIL"]
    assert {round(finding.measured, 9) for finding in findings} == {round(2 / 3, 9)}


def test_a_mean_is_over_the_means_of_its_data_sets(measure, monkeypatch):
    monkeypatch.setattr(Cell, "members", property(lambda self: ("tiny", "other")))
    (finding,) = measure(cell(0.8333, dataset="mean/both"))
    assert (finding.measured, finding.verdict) == (pytest.approx((2 / 3 + 1) / 2), "OK")
    monkeypatch.setattr(Cell, "members", property(lambda self: ("tiny", "absent")))
    (finding,) = measure(cell(0.6667, dataset="mean/both"))
    assert finding.measured is None


def test_a_fail_is_shown_and_the_exit_code_is_5(repro):
    result = repro((cell(WRONG, RIGHT),))
    assert result.exit_code == DriftError.exit_code == 5
    assert "FAIL -0.0122" in result.stdout
    assert "OK" in result.stdout
    assert "llara-eval evaluate -m words -d tiny  # a book\n" in result.stdout
    assert "1 OK, 0 close, 1 FAIL" in result.stderr
    assert "bm25 on tiny: nDCG@10 0.6667, published 0.6789" in result.stderr


def test_all_is_well_and_the_exit_code_is_0(repro):
    result = repro((cell(RIGHT, NEAR),))
    assert result.exit_code == 0
    assert "close +0.0007" in result.stdout
    assert "1 OK, 1 close, 0 FAIL" in result.stderr


def test_what_could_not_be_measured_does_not_hide_the_rest(repro):
    result = repro((cell(RIGHT, RIGHT, model="broken"), cell(RIGHT)))
    assert result.exit_code == PartialResultsError.exit_code == 6
    assert "not measured" in result.stdout
    assert "1 OK, 0 close, 0 FAIL, 2 not measured" in result.stderr
    assert "the checksum is wrong" in result.stderr
    assert repro((cell(RIGHT, model="broken"), cell(WRONG))).exit_code == 5


def test_if_nothing_could_be_measured_its_own_error_counts(repro):
    assert repro((cell(RIGHT, model="broken"),)).exit_code == DataError.exit_code
    assert repro((cell(RIGHT, model="missing"),)).exit_code == MissingPartError.exit_code


def test_json_has_an_object_for_each_value(repro):
    result = repro((cell(RIGHT, WRONG, tolerance=DENSE), cell(RIGHT, model="broken")), "--json", "--quiet")
    assert result.exit_code == 5
    right, wrong, none = map(json.loads, result.stdout.splitlines())
    assert right == {
        "system": "bm25",
        "dataset": "tiny",
        "split": None,
        "measure": "nDCG@10",
        "published": RIGHT,
        "tolerance": {"ok": 0.0005, "close": 0.005},
        "source": "a book",
        "also_published": [],
        "command": "llara-eval evaluate -m words -d tiny",
        "measured": pytest.approx(2 / 3),
        "verdict": "OK",
        "problem": None,
    }
    assert (wrong["measure"], wrong["verdict"]) == ("RR@10", "FAIL")
    assert (none["measured"], none["verdict"]) == (None, None)
    assert "checksum" in none["problem"]


def test_the_list_says_what_is_missing_and_measures_nothing(repro, data):
    cells = (cell(RIGHT, RIGHT), cell(RIGHT, dataset="absent"), cell(RIGHT, model=None))
    result = repro(cells, "--list")
    assert result.exit_code == 0
    for words in ("ready", "not at hand", "no checkpoint", "±0.0001, ±0.001", "-m CHECKPOINT -d tiny"):
        assert words in result.stdout
    assert not (data / "runs").exists()
    objects = [json.loads(line) for line in repro(cells, "--list", "--json").stdout.splitlines()]
    assert [item["state"] for item in objects] == ["ready", "ready", "not at hand", "no checkpoint"]
    assert {item["command"] for item in objects} >= {"llara-eval evaluate -m words -d tiny"}


def test_other_published_values_are_shown_with_their_source(repro):
    item = Expected("nDCG@10", RIGHT, "the jar", ("0.6000 (the table)",))
    shown = repro((cell()._replace(expected=(item,)),)).stdout
    assert "#   nDCG@10 also published as 0.6000 (the table)" in shown


def test_only_what_is_at_hand_is_measured_unless_it_is_named(repro):
    cells = (cell(RIGHT), cell(RIGHT, dataset="absent"), cell(RIGHT, model=None))
    assert repro(cells).exit_code == 0
    for words in (["-d", "tiny,absent"], ["-d", "absent", "-d", "tiny"]):
        named = repro(cells, *words)
        assert named.exit_code == 6
        assert "'absent' is neither a folder" in text_of(named)
    assert repro(cells[1:]).exit_code == DataError.exit_code


def test_systems_are_named_one_by_one_or_with_commas(repro):
    cells = (cell(RIGHT), cell(RIGHT, model=None), cell(RIGHT)._replace(system="repllama"))
    for words in (["--system", "llara,repllama"], ["--system", "llara", "--system", "repllama"]):
        listed = repro(cells, *words, "--list", "--json").stdout.splitlines()
        assert {json.loads(line)["system"] for line in listed} == {"llara", "repllama"}


def test_a_checkpoint_has_to_be_named(repro):
    cells = (cell(RIGHT), cell(RIGHT, model=None))
    result = repro(cells, "--system", "llara")
    assert (result.exit_code, "--model llara=PATH" in result.stderr) == (2, True)
    assert "--model llara=PATH" in repro(cells[1:]).stderr
    assert "expected SYSTEM=PATH" in repro(cells, "--model", "llara").stderr
    assert "given twice" in repro(cells, "--model", "llara=a", "--model", "llara=b").stderr
    named = repro(cells, "--system", "llara", "--model", "llara=words")
    assert named.exit_code == 0
    assert "llara-eval evaluate -m words -d tiny" in named.stdout


def test_a_kept_result_is_not_believed_unless_asked_for(repro, data):
    """A kept result would be OK even if the code had changed."""
    assert repro((cell(RIGHT),)).exit_code == 0
    folder = record.folder_of(data / "runs", "words", "tiny", "test")
    text = (folder / record.RESULT).read_text()
    (folder / record.RESULT).write_text(text.replace(str(2 / 3), "0.1"))
    assert repro((cell(RIGHT),), "--on-existing", "never").exit_code == 5
    assert repro((cell(RIGHT),)).exit_code == 0


def test_a_kept_result_without_the_measure_is_no_result(repro):
    assert repro((cell(RIGHT),)).exit_code == 0
    other = cell()._replace(expected=(Expected("AP@1000", RIGHT, "a book"),))
    result = repro((other,), "--on-existing", "never")
    assert result.exit_code == 3
    assert "has no AP@1000" in result.stderr


def test_a_folder_that_only_bears_a_public_name_proves_nothing(make_collection, repro):
    make_collection(DOCUMENTS, QUERIES, QRELS, name="scifact")
    result = repro((cell(RIGHT, dataset="beir/scifact"),))
    assert result.exit_code == 3
    assert "is not beir/scifact: 3 documents, not 5,183" in text_of(result)


@pytest.mark.parity
@pytest.mark.slow
@pytest.mark.real
def test_bm25_on_scifact_is_what_its_regression_says(real_data, tmp_path, monkeypatch):
    monkeypatch.undo()
    words = ["repro", "--system", "bm25", "-d", "scifact", "--data-dir", real_data, "--runs-dir", tmp_path]
    result = CliRunner().invoke(app, [*map(str, words), "--json", "--offline"])
    assert result.exit_code == 0, result.stderr
    verdicts = {item["measure"]: item["verdict"] for item in map(json.loads, result.stdout.splitlines())}
    assert verdicts == {"nDCG@10": "OK", "R@100": "OK", "R@1000": "OK"}
