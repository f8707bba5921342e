import tracemalloc

import ir_measures
import numpy as np
import pytest
import pytrec_eval
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llara_eval.core.errors import DataError
from llara_eval.core.types import Hits
from llara_eval.scoring import trec
from llara_eval.scoring.inputs import as_run
from llara_eval.scoring.ranking import rank
from llara_eval.scoring.trec import read_run, write_run

ODD_IDS = [
    *("Geneva Durben", "é", "\U0001f600", "NA", "null", "nan"),
    *("007", "7", "1e5", "100000", "7.0", '"q"', "#1"),
]


def as_lists(run):
    return [(query_id, list(docs), scores.tolist()) for query_id, docs, scores in run]


TREC = "q1 Q0 b 1 2.5 tag\nq1 Q0 a 2 1.5 tag\nq2 Q0 a 1 -0.5 tag\n"
TREC_AS_LISTS = [("q1", ["b", "a"], [2.5, 1.5]), ("q2", ["a"], [-0.5])]


@pytest.mark.parametrize("name", ["run.txt", "run.trec.gz"])
def test_a_written_run_reads_back_the_same(tmp_path, name) -> None:
    run = as_run({query_id: {d: float(len(d) % 3) for d in ODD_IDS} for query_id in reversed(ODD_IDS)})
    write_run(tmp_path / name, run, "tag")
    back = read_run(tmp_path / name)
    assert as_lists(back) == as_lists(run)
    assert {type(doc_id) for doc_id in [*back.doc_ids, *back.query_ids]} == {str}


def test_numbers_stay_the_identifiers_they_were(put) -> None:
    run = read_run(put("007\tQ0\t01\t1\t2.0\tt\n007\tQ0\t1\t2\t1.0\tt\n7\tQ0\t1e5\t1\t1.0\tt\n"))
    assert as_lists(run) == [("007", ["01", "1"], [2.0, 1.0]), ("7", ["1e5"], [1.0])]


def test_every_float32_score_survives(tmp_path) -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 30_000, dtype=np.uint32)
    values = bits.view(np.float32)
    values = np.unique(np.append(values[np.isfinite(values)], np.float32([1e-45, -1e-45, 3.4028235e38, 0.1])))
    run = as_run({"q": {f"d{i}": value for i, value in enumerate(values.tolist())}})
    write_run(tmp_path / "run", run, "t")
    assert (read_run(tmp_path / "run").scores == values[::-1]).all()


def test_the_file_is_tab_separated_trec_with_ranks_from_one(tmp_path) -> None:
    write_run(tmp_path / "run", as_run({"q 1": {"a": 0.1, "b b": 1.0, "c": 0.1}}), "my  tag\n")
    assert (tmp_path / "run").read_text() == (
        "q 1\tQ0\tb b\t1\t1.0\tmy_tag\nq 1\tQ0\tc\t2\t0.1\tmy_tag\nq 1\tQ0\ta\t3\t0.099999994\tmy_tag\n"
    )


def test_a_run_is_written_without_holding_its_lines(tmp_path):
    run = as_run({f"q{i}": {f"d{j}": float(j) for j in range(50)} for i in range(400)})
    tracemalloc.start()
    write_run(tmp_path / "run.gz", run, "t")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * len(run.doc_ids)  # a line is a string of some 100 bytes


def test_compressed_runs_are_equal_byte_for_byte(tmp_path) -> None:
    run = as_run({"q": {"a": 1.0, "b": 2.0}})
    for name in ("one.gz", "two.gz"):
        write_run(tmp_path / name, run, "t")
    data = (tmp_path / "one.gz").read_bytes()
    assert data == (tmp_path / "two.gz").read_bytes()
    assert data[3:8] == bytes(5), "no file name and no time stamp in the header"


@pytest.mark.parity
def test_other_tools_rebuild_the_same_order(tmp_path) -> None:
    scores = {"q1": {f"d{i}": 0.25 for i in range(40)}, "q2": {f"d{i}": -float(i % 4) for i in range(40)}}
    scores["q3"] = {f"d{i}": 0.0 for i in range(20)} | {f"e{i}": -1e-45 for i in range(20)}
    run = as_run(scores)
    write_run(tmp_path / "run", run, "t")
    text = (tmp_path / "run").read_text()
    by_trec_eval = pytrec_eval.parse_run(text.splitlines())
    by_ir_measures = list(ir_measures.read_trec_run(str(tmp_path / "run")))
    for query_id, docs, _ in run:
        for position, doc_id in enumerate(docs, 1):
            qrels = {query_id: {doc_id: 1}}
            values = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(by_trec_eval)
            assert values[query_id]["recip_rank"] == 1 / position
        rows = sorted((row for row in by_ir_measures if row.query_id == query_id), key=lambda row: -row.score)
        assert [row.doc_id for row in rows] == list(docs)
        for position in (1, 2, 10, 11, 39, 40):
            values = ir_measures.calc_aggregate(
                [ir_measures.RR @ 100, ir_measures.RR], {query_id: {docs[position - 1]: 1}}, by_ir_measures
            )
            assert set(values.values()) == {1 / position}


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (TREC, "run"),
        (TREC.replace(" ", "   "), "run"),
        (TREC.replace(" ", "\t"), "run"),
        (TREC.replace("\n", " \n "), "run"),
        (TREC.replace("\n", "\r\n"), "run"),
        (TREC.replace("\n", "\r\n").replace(" ", "\t"), "run"),
        ("\ufeff" + TREC, "run"),
        ("\ufeff" + TREC.replace(" ", "\t"), "run"),
        ("\n\n" + TREC.replace("\n", "\n\n  \n\t\n") + "\n", "run"),
        (TREC.replace(" ", "\t").replace("\n", "\n\n\t\t\n"), "run"),
        (TREC.rstrip("\n"), "run"),
        (TREC, "run.gz"),
        ("\ufeff" + TREC.replace("\n", "\r\n"), "run.gz"),
        ("".join(reversed(TREC.splitlines(keepends=True)[:2])) + TREC.splitlines()[2], "run"),
    ],
    ids=[
        "spaces",
        "many spaces",
        "tabs",
        "spaces at both ends",
        "CRLF",
        "CRLF and tabs",
        "BOM",
        "BOM and tabs",
        "blank lines",
        "blank lines among tabs",
        "no last newline",
        "gz",
        "gz with BOM and CRLF",
        "ranks out of order",
    ],
)
def test_all_dialects_of_trec_give_the_same_run(put, content, name) -> None:
    assert as_lists(read_run(put(content, name))) == TREC_AS_LISTS


@pytest.mark.parametrize(
    "content",
    [
        TREC,
        TREC.replace(" ", "\t"),
        TREC.replace(" ", "\t").replace("a", "Geneva Durben").replace("q1", "é\u2003"),
        TREC.replace("\n", "\r\n"),
        "\ufeff" + TREC,
        "\n" + TREC + "\r\n\n",
        "q1 b 1\nq1 a 2\nq2 a 1\n",
        'q1 Q0 "b 1 2.5 #\nq1 Q0 NA 2 +1.5e0 t\n',
    ],
    ids=["spaces", "tabs", "spaces inside tabs", "CRLF", "BOM", "blank lines around", "MS MARCO", "quotes"],
)
@pytest.mark.parametrize("name", ["run", "run.gz"])
def test_plain_files_are_read_by_column(put, monkeypatch, content, name) -> None:
    path = put(content, name)
    expected = as_lists(rank(Hits.of_rows(trec._run_rows(path, trec._form(path))), depth=9))
    monkeypatch.setattr(trec, "_run_rows", None)
    assert as_lists(read_run(path)) == expected


ODD = [
    *("\t", " ", "\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1f", "\x00", "\x85", "\xa0", "\u2003"),
    *("\u2028", "\ufeff", '"', "'", "\\", "#", ",", "é", "\U0001f600", "NA", "null", "nan", "nan(1)", "inf"),
    *("-", "+", ".", "_", "e", "e400", "e-400", "0x", "\uff11", "3.4028235677973366e38", "0" * 400),
    "t\nq1 Q0 d1 1 2.0 ",
]
PLAIN_ROWS = st.lists(
    st.tuples(
        st.sampled_from(["q1", "NA", "007"]),
        st.sampled_from(["d1", "d2", "d3", "1e5", "NA", "é"]),
        st.integers(-4, 4) | st.floats(allow_nan=False, width=32),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda row: row[:2],
)


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(
    rows=PLAIN_ROWS,
    dialect=st.tuples(st.sampled_from([6, 3]), st.sampled_from("\t "), st.sampled_from(["\n", "\r\n"])),
    odd=st.lists(st.tuples(st.integers(0, 200), st.sampled_from(ODD) | st.text(max_size=2)), max_size=2),
    raw=st.none() | st.integers(0, 200),
    block=st.integers(1, 80),
)
@example([("q1", "d1", 1)], (6, "\t", "\n"), [(0, "\ufeff\ufeff")], None, 9)
@example([("q1", "d1", 1), ("q2", "d1", 1)], (6, "\t", "\n"), [(16, "\ufeff")], None, 1)
@example([("q1", "d1", 1)], (6, "\t", "\n"), [(15, "\rq1\tQ0\td2\t1\t2.0\tt")], None, 9)
@example([("q1", "d1", 1)], (6, " ", "\n"), [(3, " ")], None, 9)
@example([("q1", "d1", 1)], (6, " ", "\n"), [(2, "\u2003")], None, 9)
@example([("q1", "d1", 1), ("q2", "d1", 1)], (6, "\t", "\n"), [(17, " ")], None, 80)
@example([("q1", "d1", 1), ("q2", "d1", 1)], (6, "\t", "\n"), [(17, "\u2003")], None, 80)
def test_both_readers_agree_on_whatever_stands_in_a_file(tmp_path_factory, rows, dialect, odd, raw, block):
    columns, separator, end = dialect
    cells = [(q, "Q0", d, "1", str(v), "t") if columns == 6 else (q, d, str(v)) for q, d, v in rows]
    text = "".join(separator.join(row) + end for row in cells)
    for position, inserted in odd:
        position %= len(text) + 1
        text = text[:position] + inserted + text[position:]
    data = text.encode()
    path = tmp_path_factory.getbasetemp() / "odd.run"
    path.write_bytes(data if raw is None else data[:raw] + b"\xff" + data[raw:])

    def outcome():
        try:
            run = read_run(path)
        except DataError as error:
            return str(error)
        return as_lists(run), run.ties_next.tolist()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trec, "_BLOCK", block)
        by_column = outcome()
        patch.setattr(trec, "_hits_by_column", lambda *_: None)
        assert by_column == outcome()


def test_scores_not_ranks_decide_and_ties_are_broken(put) -> None:
    run = read_run(put("q Q0 a 1 1.0 t\nq Q0 b 2 3.0 t\nq Q0 c 3 1.0 t\n"))
    assert as_lists(run)[0][1] == ["b", "c", "a"]
    assert run.ties_next.tolist() == [False, True, False]


def test_queries_may_be_scattered_over_the_file(put) -> None:
    run = read_run(put("q2 Q0 a 1 1.0 t\nq1 Q0 a 1 1.0 t\nq2 Q0 b 1 2.0 t\n"))
    assert as_lists(run) == [("q2", ["b", "a"], [2.0, 1.0]), ("q1", ["a"], [1.0])]


@pytest.mark.parametrize("separator", ["\t", " "])
def test_ms_marco_runs_have_three_columns_and_small_ranks_are_good(put, separator) -> None:
    content = "1 20 3\n1 10 1\n1 30 2\n2 007 1\n".replace(" ", separator)
    assert [(q, list(docs)) for q, docs, _ in read_run(put(content))] == [
        ("1", ["10", "30", "20"]),
        ("2", ["007"]),
    ]


def test_depth_cuts_a_run_that_is_read_and_sees_the_tie_at_the_cut(put) -> None:
    path = put("".join(f"q Q0 d{i:02} 1 {1 - i // 9} t\n" for i in range(15)))
    assert [len(read_run(path, depth=depth).doc_ids) for depth in (5, 15, 99)] == [5, 15, 15]
    assert len(read_run(path).doc_ids) == 15
    assert read_run(path, depth=10).ties_at(10) == 1.0


LATIN = "q Q0 café 2 1.0 t\n".encode("latin-1")


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        ("q Q0 a 1\n", 1, "4 columns"),
        ("q Q0 a 1 2.0 t\nq Q0 b 2 1.0\n", 2, "5 columns, expected 6"),
        ("q Q0 a 1 2.0 t\n\nq Q0 Geneva Durben 2 1.0 t\n", 3, "7 columns, expected 6"),
        ("q\tQ0\ta\t1\t2.0\tt\nq\tQ0\tGeneva\tDurben\t2\t1.0\tt\n", 2, "7 columns, expected 6"),
        ("q\tQ0\ta\t1\t2.0\tt\nq Q0 b 2 1.0\n", 2, "1 columns, expected 6"),
        ("q 0 10 1\n", 1, "4 columns; a run has"),
        ("# a comment\nq Q0\n", 2, "2 columns; a run has"),
        ("q a 1\nq b\n", 2, "2 columns, expected 3"),
        ("q a 1\nq b 2 0.3\n", 2, "4 columns, expected 3"),
        ("q Q0 a 1 2.0 t\nq Q0 b 2 high t\n", 2, "'high'"),
        ("q\tQ0\ta\t1\t2.0\tt\nq\tQ0\tb\t2\t\tt\n", 2, "''"),
        ("q Q0 a 1 1_000 t\n", 1, "'1_000'"),
        ("q Q0 a 1 2.0 t\r\nq Q0 b 2 nan t\r\n", 2, "'nan'"),
        ("q Q0 a 1 NaN t\n", 1, "'NaN'"),
        ("q Q0 a 1 2.0 t\nq Q0 b 2 -inf t\n", 2, "'-inf'"),
        ("q Q0 a 1 2.0 t\nq Q0 b 2 1e39 t\n", 2, "'1e39'"),
        ("q Q0 a 1 -3.4028236e38 t\n", 1, "'-3.4028236e38'"),
        ("q a 1\nq b first\n", 2, "'first'"),
        ("q a 1\nq b 0.75\n", 2, "'0.75' is not a rank; a run with scores has six columns"),
        ("q\ta\t12\nq\tb\t-3\n", 2, "'-3' is not a rank"),
        ("q\tQ0\ta\t1\t2.0\tt\n\tQ0\tb\t2\t1.0\tt\n", 2, "an identifier must be a non-empty string"),
        ("q\tQ0\ta\t1\t2.0\tt\nq\tQ0\t\t2\t1.0\tt\n", 2, "an identifier must be a non-empty string"),
        (TREC.encode() + LATIN, 4, "not UTF-8"),
        (b"".join(b"q Q0 d%d 1 1 t\n" % i for i in range(4000)) + LATIN, 4001, "not UTF-8"),
    ],
)
def test_a_malformed_run_names_file_line_and_value(put, content, line, problem) -> None:
    path = put(content)
    with pytest.raises(DataError) as caught:
        read_run(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert problem in str(caught.value)


def test_a_document_ranked_twice_names_the_file(put) -> None:
    path = put("q Q0 a 1 2.0 t\nq Q0 a 2 1.0 t\n")
    with pytest.raises(DataError, match="'a' is ranked more than once for query 'q'") as caught:
        read_run(path)
    assert str(path) in str(caught.value)
