"""Measures that others compute: no judgements crash their C code, and their values stay trec_eval's."""

import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval

from llara_eval.core.errors import DataError, LlaraEvalError, UsageError
from llara_eval.scoring.inputs import as_run
from llara_eval.scoring.measures import parse_measures, score

NAMES = [
    *("Rprec", "Bpref", "infAP", "SetP", "SetR", "SetF", "SetAP", "NumRet", "NumRel", "NumQ", "Compat"),
    *("Rprec(rel=3)", "Bpref(rel=2147483647)", "infAP(rel=3)", "NumRet(rel=2)", "SetP(relative=True)"),
    *("P(judged_only=True)@5", "AP(rel=3,judged_only=True)", "RR(judged_only=True)", "IPrec@0.1"),
    *("nDCG(judged_only=True)@5", "nDCG(gains={1:0,2:127})@10", "nDCG(dcg='exp-log2')@10", "Accuracy@3"),
    *("R(judged_only=True)@5", "Success(judged_only=True)@5", "IPrec(judged_only=True)@1.0"),
]

TREC_NAMES = {"Rprec": "Rprec", "Bpref": "bpref", "infAP": "infAP", "SetAP": "set_map", "SetP": "set_P"}


def random_input(random_number):
    """Return judgements with grades of any size, often all negative, and a run."""
    top = random_number.choice([0, 1, 4, 127, 128, 2**31 - 1])
    low = random_number.choice([0, -1, -2, -100, 1 - 2**31])
    queries, documents = random_number.choice([1, 3, 40]), random_number.choice([1, 5, 50])
    qrels = {}
    for query in range(queries):
        highest = random_number.choice([top, top, min(top, -1), -2])
        qrels[f"q{query}"] = {
            f"d{document}": random_number.choice(
                [low, highest, random_number.randint(min(low, highest), highest)]
            )
            for document in range(documents)
        }
    run = {
        query: {f"d{document}": random_number.uniform(-3e38, 3e38) for document in range(documents + 2)}
        for query in qrels
    }
    return qrels, as_run(run)


def score_random_inputs(number: int) -> None:
    random_number = random.Random(0)
    for _ in range(number):
        qrels, run = random_input(random_number)
        with suppress(LlaraEvalError):
            scores = score(qrels, run, random_number.sample(NAMES, 3))
            assert all(np.isfinite(column).all() for column in scores.values.values())


@pytest.mark.parametrize("number", [300, pytest.param(10_000, marks=pytest.mark.nightly)])
def test_no_grades_crash_the_process(number: int) -> None:
    """An error of the C code ends a process with a signal, so that it has to be another process."""
    program = f"from {Path(__file__).stem} import score_random_inputs as go; go({number})"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parent, stderr=subprocess.PIPE, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]


@pytest.mark.parametrize("grade", [-2, -100, 1 - 2**31])
@pytest.mark.parametrize("measure", ["Rprec", "Bpref", "infAP", "P(judged_only=True)@5", "Judged@10"])
def test_all_negative_grades_mean_the_same(measure, grade) -> None:
    run = as_run({"q1": {"a": 3.0, "b": 2.0, "c": 1.0}, "q2": {"a": 1.0}})
    expected = score({"q1": {"a": -1, "b": 1, "c": 0}, "q2": {"a": -1}}, run, [measure])
    scores = score({"q1": {"a": grade, "b": 1, "c": 0}, "q2": {"a": grade}}, run, [measure])
    assert scores.values[measure].tolist() == expected.values[measure].tolist()


@pytest.mark.parity
@pytest.mark.parametrize("rel", [1, 2, 4])
@pytest.mark.parametrize("name", TREC_NAMES)
def test_a_smallest_relevant_grade_means_what_it_means_to_trec_eval(name, rel) -> None:
    random_number = random.Random(rel)
    grades = {f"d{number}": random_number.randint(-1, 4) for number in range(60)}
    docs = [f"d{number}" for number in random_number.sample(range(80), 70)]
    results = {"1": {doc: float(-rank) for rank, doc in enumerate(docs)}}
    evaluator = pytrec_eval.RelevanceEvaluator({"1": grades}, {TREC_NAMES[name]}, relevance_level=rel)
    (expected,) = evaluator.evaluate(results)["1"].values()
    (standard,) = parse_measures([f"{name}(rel={rel})"])
    assert score({"1": grades}, as_run(results), [standard]).means[standard] == pytest.approx(expected)


@pytest.mark.parametrize("measure", ["nDCG(dcg='exp-log2')@10", "nDCG(judged_only=True)@10"])
def test_grades_too_large_for_gains_are_named(measure) -> None:
    run = as_run({"q": {"a": 1.0}})
    assert score({"q": {"a": 127}}, run, [measure]).means[measure] == 1
    with pytest.raises(DataError, match=r"takes grades up to 127; document 'a' of query 'q' has 128"):
        score({"q": {"a": 128}}, run, [measure])
    assert score({"q": {"a": 2**31 - 1}}, run, ["nDCG@10"]).means["nDCG@10"] == 1


def test_a_measure_that_is_not_defined_for_a_ranking_is_an_error() -> None:
    with pytest.raises(DataError, match="Accuracy is not defined"):
        score({"q": {"a": 1}}, as_run({"q": {"a": 1.0}}), ["Accuracy"])


@pytest.mark.parametrize(
    "name",
    [
        *("P@2147483648", f"P(judged_only=True)@{10**30}", "Bpref(rel=2147483648)", "P(rel=0)", "IPrec@-1.0"),
        *("nDCG(gains={1:-2})@10", "nDCG(gains={1:128})@10", "nDCG(gains={1:0.5})@10", "IPrec@1e9"),
        *("nDCG@" + "9" * 5000, "-" * 100_000 + "1", "AP(" * 500, "\x00"),
    ],
)
def test_numbers_out_of_range_are_no_measure(name) -> None:
    with pytest.raises(UsageError, match="is not a measure"):
        parse_measures([name])
