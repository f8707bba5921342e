"""Random run and judgement files, scored from the file to the value beside an oracle and pytrec_eval."""

from pathlib import Path
from typing import Any

import pytest
import pytrec_eval
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from oracle import oracle

from llara_eval.core.errors import DataError
from llara_eval.reports.score import score

pytestmark = [pytest.mark.parity, pytest.mark.nightly]

PYTREC_NAMES = {
    **{"nDCG@10": "ndcg_cut_10", "nDCG@3": "ndcg_cut_3", "R@5": "recall_5", "P@5": "P_5"},
    **{"RR": "recip_rank", "AP": "map"},
}
MEASURES = [*PYTREC_NAMES, "Judged@5", "RR@3", "R@2", "AP@3"]

# Ids of any script and of characters that mean something elsewhere; white space divides the columns.
ID_CHARACTERS = st.characters(codec="utf-8", exclude_categories=["Z", "C"])
IDS = st.text(ID_CHARACTERS, min_size=1, max_size=4).filter(lambda text: text.split() == [text])
GRADES = st.one_of(
    st.integers(-1, 4), st.sampled_from([100, 127])
)  # trec_eval reserves memory for the largest
SCORES = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.sampled_from([0.0, -0.0, 16.000001, 16.0000011, 1e-40, 1.0, 1.00000001]),
    st.integers(-3, 3).map(float),
)
SPACES = st.sampled_from([" ", "\t", "  ", " \t"])
ENDS = st.sampled_from(["\n", "\r\n"])


@st.composite
def cases(draw: Any) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]]]:
    """Draw judgements and results over few ids, so that many documents are judged and tied."""
    docs = st.sampled_from(draw(st.lists(IDS, min_size=2, max_size=12, unique=True)))
    query_ids = IDS.filter(lambda text: text != "#")  # "# …" is a comment
    queries = draw(st.lists(query_ids, min_size=1, max_size=4, unique=True))
    qrels = {query_id: draw(st.dictionaries(docs, GRADES, min_size=1, max_size=12)) for query_id in queries}
    answered = [queries[0], *draw(st.lists(st.sampled_from([*queries[1:], "another"]), unique=True))]
    results = {query_id: draw(st.dictionaries(docs, SCORES, min_size=1)) for query_id in answered}
    return qrels, results


def lines(rows: list[tuple[object, ...]], space: str, end: str) -> str:
    return "".join(space.join(map(str, row)) + end for row in rows)


@settings(
    max_examples=300,
    phases=[Phase.explicit, Phase.generate],
    report_multiple_bugs=False,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=cases(), space=SPACES, end=ENDS, columns=st.sampled_from([4, 6]), data=st.data())
def test_files_are_scored_as_by_definition_and_as_by_pytrec_eval(
    tmp_path: Path, case: Any, space: str, end: str, columns: int, data: Any
) -> None:
    qrels, results = case
    hits = [(query_id, doc_id, value) for query_id, docs in results.items() for doc_id, value in docs.items()]
    hits = data.draw(st.permutations(hits))
    judged = [(q, 0, doc_id, grade) for q, docs in qrels.items() for doc_id, grade in docs.items()]
    if columns == 4 and {doc_id for _, doc_id, _ in hits} & {"0", "Q0"}:
        columns = 6  # four columns with a 0 in the second may be judgements, and are refused
    if columns == 4:
        rows = [(q, doc_id, rank, repr(value)) for rank, (q, doc_id, value) in enumerate(hits, 1)]
    else:
        rows = [(q, "Q0", doc_id, rank, repr(value), "x") for rank, (q, doc_id, value) in enumerate(hits, 1)]
    (tmp_path / "run").write_text(lines(rows, space, end), encoding="utf-8", newline="")
    (tmp_path / "qrels").write_text(lines(judged, space, end), encoding="utf-8", newline="")
    scored = score(tmp_path / "run", tmp_path / "qrels", MEASURES)
    ours = {
        query_id: {name: float(scored.per_query.values[name][row]) for name in MEASURES}
        for row, query_id in enumerate(scored.per_query.query_ids)
    }
    expected = oracle(qrels, results, MEASURES)
    assert ours == {query_id: pytest.approx(row, abs=1e-9) for query_id, row in expected.items()}
    for name in MEASURES:
        mean = sum(row[name] for row in expected.values()) / len(expected)
        assert scored.means[name] == pytest.approx(mean, abs=1e-9)
    theirs = pytrec_eval.RelevanceEvaluator(qrels, set(PYTREC_NAMES.values())).evaluate(results)
    for query_id, row in theirs.items():
        for name, their_name in PYTREC_NAMES.items():
            assert ours[query_id][name] == pytest.approx(row[their_name], abs=1e-9), (query_id, name)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(run=st.binary(max_size=200), qrels=st.binary(max_size=200))
def test_any_bytes_are_scored_or_refused(tmp_path_factory: Any, run: bytes, qrels: bytes) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "run").write_bytes(run)
    (folder / "qrels").write_bytes(qrels)
    try:
        score(folder / "run", folder / "qrels", ["nDCG@10"])
    except DataError as error:
        assert str(folder) in str(error) or "no judged query" in str(error)
