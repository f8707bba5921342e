"""The loop over systems × data sets: what is opened, what follows a failure, and what is announced."""

import sys
import weakref
from dataclasses import replace
from types import MappingProxyType, SimpleNamespace

import pytest
from commands import DOCUMENTS, QRELS, QUERIES
from fakes import FakeRetriever, WordOverlap

import adapters
from adapters import System
from llara_eval.core.errors import DataError, LlaraEvalError, MissingPartError, UsageError
from llara_eval.datasets.load import load
from llara_eval.evaluation.record import RUN
from llara_eval.evaluation.suite import Conditions, Failure, encode_all, evaluate_all, require_own_adapters


@pytest.fixture
def folders(make_collection):
    return [str(make_collection(DOCUMENTS, QUERIES, QRELS, name=name)) for name in ("one", "two")]


class Failing(WordOverlap):
    """Fails in its search, as a system with damaged vectors does."""

    def search(self, queries, depth, progress=None):
        try:
            raise OSError(5, "Input/output error")
        except OSError as error:
            raise DataError("the vectors are damaged") from error


@pytest.fixture
def opened(monkeypatch):
    """Put systems of our own in the table, and return what is opened: (name, context)."""
    calls = []
    alive = weakref.WeakSet()

    def open_recorded(name, base, options, context):
        assert not alive, "one system at a time is in memory"
        calls.append((name, context))
        if name == "broken":
            raise DataError("the weights are damaged")
        retriever = Failing(name=name) if name == "failing" else WordOverlap(name=name)
        alive.add(retriever)
        return retriever

    monkeypatch.setitem(sys.modules, "recorded", SimpleNamespace(open_recorded=open_recorded))
    names = ("words", "others", "broken", "failing")
    table = {name: System("recorded:open_recorded", "for tests") for name in names}
    monkeypatch.setattr(adapters, "SYSTEMS", MappingProxyType(table))
    return calls


def test_each_system_is_opened_once_and_all_is_announced_as_it_comes(folders, opened, tmp_path, capfd):
    outcomes, failures = [], []
    returned = evaluate_all(
        ["words", "broken", "others"],
        [*folders, folders[0]],
        Conditions(runs_dir=tmp_path / "runs"),
        announce=outcomes.append,
        announce_failure=failures.append,
    )
    assert returned == (outcomes, failures)
    pairs = [(outcome.result.system, outcome.result.dataset) for outcome in outcomes]
    assert pairs == [("words", "one"), ("words", "two"), ("others", "one"), ("others", "two")]
    assert [(failure.system, failure.dataset) for failure in failures] == [
        ("broken", folder) for folder in folders
    ]
    assert {str(failure.error) for failure in failures} == {"the weights are damaged"}
    assert [name for name, _ in opened] == ["words", "broken", "broken", "others"]
    assert all(outcome.folder.is_relative_to(tmp_path / "runs") for outcome in outcomes)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("maxp", "length"), [(False, 2_048), (True, None)])
def test_a_system_that_is_open_is_told_each_data_set_and_how_long_its_documents_are(
    folders, opened, monkeypatch, tmp_path, maxp, length
):
    read = []
    monkeypatch.setattr(WordOverlap, "on", lambda self, *names: read.append(names) or self)
    long = replace(load(folders[1], data_dir=tmp_path), text_length=2_048)
    _, failures = evaluate_all(
        ["words"], [folders[0], long], Conditions(runs_dir=tmp_path / "runs", maxp=maxp)
    )
    assert not failures
    assert read == [("one", None), ("two", length)]
    assert len(opened) == 1


def test_retrievers_and_data_sets_are_taken_as_they_are(folders, opened, tmp_path):
    dataset = load(folders[0], data_dir=tmp_path)
    retriever = FakeRetriever({"q1": {"d1": 1.0}}, name="mine")
    outcomes, failures = evaluate_all(
        [retriever, "words"], [dataset, folders[1]], Conditions(runs_dir=tmp_path / "runs")
    )
    assert not failures
    pairs = [(outcome.result.system, outcome.result.dataset) for outcome in outcomes]
    assert pairs == [("mine", "one"), ("mine", "two"), ("words", "one"), ("words", "two")]
    assert retriever.indexed == 2
    assert all((outcome.folder / RUN).is_file() for outcome in outcomes)


def test_a_retriever_that_is_open_may_search_passages_but_takes_no_options(folders, tmp_path):
    retriever = WordOverlap(name="mine")
    (outcome,), _ = evaluate_all([retriever], folders[:1], Conditions(runs_dir=tmp_path, maxp=True))
    assert outcome.result.system == "mine,passages=maxp"
    outcomes, failures = evaluate_all([retriever], folders, Conditions(runs_dir=tmp_path, options={"k1": 1}))
    assert not outcomes
    assert {str(failure.error) for failure in failures} == {"mine is open already: it takes no options here"}


def test_measures_and_depth_are_those_of_the_call_or_else_of_the_data_set(folders, tmp_path):
    second = replace(load(folders[1], data_dir=tmp_path), measures=("RR@10",), depth=10)
    folders = [folders[0], second]
    outcomes, _ = evaluate_all([WordOverlap()], folders, Conditions(runs_dir=tmp_path / "a"))
    assert [outcome.result.depth for outcome in outcomes] == [1_000, 10]
    assert list(outcomes[1].result.means) == ["RR@10"]
    outcomes, _ = evaluate_all(
        [WordOverlap()], folders, Conditions(runs_dir=tmp_path / "b", depth=5, measures=["R@5"])
    )
    assert [(outcome.result.depth, list(outcome.result.means)) for outcome in outcomes] == [(5, ["R@5"])] * 2


def test_a_data_set_that_is_missing_is_a_failure_and_a_fault_of_the_program_is_not(folders, tmp_path):
    outcomes, failures = evaluate_all([WordOverlap()], ["nowhere", folders[0]], Conditions(runs_dir=tmp_path))
    assert len(outcomes) == 1
    assert isinstance(failures[0], Failure)
    assert failures[0].dataset == "nowhere"
    assert isinstance(failures[0].error, LlaraEvalError)

    class Faulty(WordOverlap):
        def search(self, queries, depth, progress=None):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        evaluate_all([Faulty(name="faulty")], folders, Conditions(runs_dir=tmp_path))


def test_a_system_that_failed_is_not_kept_in_memory_by_its_error(folders, opened, tmp_path):
    outcomes, failures = evaluate_all(["failing", "words"], folders, Conditions(runs_dir=tmp_path))
    assert (len(outcomes), len(failures)) == (2, 2)
    assert [name for name, _ in opened] == ["failing", "words"], "and not while the next one is opened"


def test_only_dense_systems_encode(folders, opened):
    with pytest.raises(UsageError, match="words encodes nothing: it is not a dense retriever"):
        encode_all("words", folders, Conditions())


def test_encoding_ends_with_the_first_error(folders, opened):
    with pytest.raises(DataError, match="the weights are damaged"):
        encode_all("broken", folders, Conditions())
    assert len(opened) == 1


@pytest.mark.parametrize(
    "call",
    [
        require_own_adapters,
        lambda: evaluate_all([], [], Conditions()),
        lambda: encode_all("x", [], Conditions()),
    ],
)
def test_a_package_of_the_same_name_is_refused(tmp_path, monkeypatch, call):
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "adapters")
    with pytest.raises(MissingPartError, match=f"{tmp_path}.* belongs to another project: pip"):
        call()
