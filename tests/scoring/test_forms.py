"""Judgements and runs in the forms of other tools: headers, comments, JSON, rows with named columns."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from llara_eval.core.errors import DataError
from llara_eval.reports.score import score
from llara_eval.scoring.inputs import as_run
from llara_eval.scoring.judgements import read_qrels
from llara_eval.scoring.trec import read_hits, read_run
from llara_eval.scoring.written import has_gaps, reciprocal_ranks

QRELS = {"q1": {"d1": 2, "d2": 0}, "q2": {"d3": 1}}
RUN = {"q2": {"d3": 0.5, "d1": 0.25}, "q1": {"d2": 3.0}}


def write(path, content):
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


def write_table(path, rows):
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
        return path
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def qrels_rows(query="query-id", doc="corpus-id", grade="score", kind=int):
    return [
        {query: query_id, doc: doc_id, grade: kind(value)}
        for query_id, docs in QRELS.items()
        for doc_id, value in docs.items()
    ]


def as_lists(run):
    return [(query_id, list(docs), scores.tolist()) for query_id, docs, scores in run]


@pytest.mark.parametrize(
    "header",
    [
        "query-id\tcorpus-id\tscore",
        "Query_ID\tdoc_id\trelevance",
        "qid\tdocid\tlabel",
        "qid\titer\tdocno\trel",
    ],
)
def test_a_header_that_names_columns_is_no_judgement(tmp_path, header):
    constant = "\t0" * (header.count("\t") - 2)
    lines = [f"{q}{constant}\t{d}\t{grade}" for q, docs in QRELS.items() for d, grade in docs.items()]
    assert read_qrels(write(tmp_path / "qrels", "\n".join([header, *lines]))) == QRELS


def test_a_first_line_that_names_no_columns_is_a_judgement(tmp_path):
    with pytest.raises(DataError, match=r"qrels:1: the grade 'relevant' is not an integer"):
        read_qrels(write(tmp_path / "qrels", "q1\td1\trelevant\nq1\td2\t1\n"))


def test_comments_are_skipped_and_identifiers_may_hold_the_sign(tmp_path):
    text = "# a comment\nq1 0 d#1 2\n#\n#q 0 d2 0\n# q1 0 d9 1\nq2 0 #d3 1\n"
    assert read_qrels(write(tmp_path / "qrels", text)) == {
        "q1": {"d#1": 2},
        "#q": {"d2": 0},
        "q2": {"#d3": 1},
    }
    text = "# a comment\nq1 Q0 d#1 1 2.0 t\n# another\n#q Q0 d2 1 1.0 t\n"
    expected = [("q1", ["d#1"], [2.0]), ("#q", ["d2"], [1.0])]
    assert as_lists(read_run(write(tmp_path / "run", text))) == expected


@pytest.mark.parametrize("grades", ["1.0 0.0 2.", "+1 -0 2.00", "1 0 2"])
def test_whole_grades_may_be_written_with_a_point(tmp_path, grades):
    text = "".join(f"q 0 d{row} {grade}\n" for row, grade in enumerate(grades.split()))
    assert read_qrels(write(tmp_path / "qrels", text)) == {"q": {"d0": 1, "d1": 0, "d2": 2}}


@pytest.mark.parametrize("name", ["test.jsonl", "test.jsonl.gz", "test.parquet"])
@pytest.mark.parametrize("kind", [int, float])
def test_rows_with_named_columns_are_judgements(tmp_path, name, kind):
    assert read_qrels(write_table(tmp_path / name, qrels_rows(kind=kind))) == QRELS
    rows = qrels_rows("query_id", "doc_id", "relevance", kind)
    assert read_qrels(write_table(tmp_path / name, rows)) == QRELS


def test_rows_without_a_grade_are_relevant(tmp_path):
    rows = [{"query-id": "q1", "corpus-id": ["d1", "d2"]}, {"query-id": "2", "corpus-id": ["3"]}]
    for name in ("test.jsonl", "test.parquet"):
        assert read_qrels(write_table(tmp_path / name, rows)) == {"q1": {"d1": 1, "d2": 1}, "2": {"3": 1}}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            [{"query-id": "q", "corpus-id": "d", "score": 1.5}],
            "test.jsonl:1: the grade 1.5 is not an integer",
        ),
        (
            [{"query-id": "q", "doc": "d", "score": 1}],
            "test.jsonl:1: expected a field doc_id or .*found query-id",
        ),
        ([{"query-id": "q", "corpus-id": "", "score": 1}], "test.jsonl:1: an identifier must be"),
        (
            [{"query-id": "q", "corpus-id": "d", "score": 0}, {"query-id": "q", "corpus-id": "e"}],
            "test.jsonl:2: expected a field relevance or score",
        ),
        (
            [{"query-id": "q", "corpus-id": "d"}, {"query-id": "q", "corpus-id": "e", "score": 0}],
            "test.jsonl:2: has a relevance, which the first row lacks",
        ),
        ([], "the file is empty"),
    ],
)
def test_a_malformed_row_is_named(tmp_path, rows, says):
    with pytest.raises(DataError, match=says):
        read_qrels(write_table(tmp_path / "test.jsonl", rows))


def test_a_run_without_rows_is_refused(tmp_path):
    with pytest.raises(DataError, match="the file is empty"):
        read_run(write_table(tmp_path / "run.jsonl", []))


def test_json_of_ranx_and_pytrec_eval_is_read(tmp_path):
    assert read_qrels(write(tmp_path / "qrels.json", json.dumps(QRELS))) == QRELS
    for name in ("run.json", "run.json.gz"):
        run = read_run(write(tmp_path / name, json.dumps({**RUN, "q3": {}})))
        assert as_lists(run) == as_lists(as_run({**RUN, "q3": {}}))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"q1": {"d1": 1, "d1": 2}}', "the key 'd1' is twice"),
        ('{"q1": {"d1": 1}, "q1": {}}', "the key 'q1' is twice"),
        ('{"q1": {"d1": 1}', "not usable JSON"),
        ('{"q1": ["d1"]}', "expected query id → document id"),
        ('{"q1": {"d1": {"d": 1}}}', "is not a number"),
        ("[]", "expected query id → document id"),
    ],
)
def test_malformed_json_is_named(tmp_path, content, says):
    with pytest.raises(DataError, match=says) as caught:
        read_run(write(tmp_path / "run.json", content))
    assert "run.json" in str(caught.value)


@pytest.mark.parametrize("name", ["run.jsonl", "run.parquet"])
def test_rows_with_scores_are_a_run(tmp_path, name):
    rows = [{"qid": q, "docno": d, "rank": 1, "score": v} for q, docs in RUN.items() for d, v in docs.items()]
    assert as_lists(read_run(write_table(tmp_path / name, rows))) == as_lists(as_run(RUN))


def test_a_damaged_table_and_a_pointer_of_git_lfs_are_named(tmp_path):
    path = write_table(tmp_path / "test.parquet", qrels_rows())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"test\.parquet:1: cannot be read further .*is it complete"):
        read_qrels(path)
    with pytest.raises(DataError, match=r"pointer of Git LFS.*git lfs pull"):
        read_qrels(write(path, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"))


@pytest.mark.parametrize(
    "text",
    [
        "q2 d3 1 0.5\nq2 d1 2 0.25\nq1 d2 1 3.0\n",
        "q2\td3\t1\t0.5\nq2\td1\t2\t0.25\nq1\td2\t1\t3.0\n",
        "q2 Q0\td3 1\t0.5 t\nq2 Q0 d1\t2\t0.25\tt\nq1\tQ0\td2\t1\t3.0\tt\n",
        "q2\tQ0\td3\t1\t0.5\tt\nq2 Q0 d1 2 0.25 t\nq1 Q0\td2\t1 3.0 t\n",
    ],
    ids=["four columns", "four columns between tabs", "mixed, spaces first", "mixed, tabs first"],
)
def test_runs_of_four_columns_and_mixed_white_space_are_read(tmp_path, text):
    assert as_lists(read_run(write(tmp_path / "run", text))) == as_lists(as_run(RUN))


@pytest.mark.parametrize("text", ["q1 0 d1 1\n", "q1\t0\t17\t1\n", "q1 Q0 d1 1\n", "q1 d1 first 0.5\n"])
def test_judgements_are_not_taken_for_a_run_of_four_columns(tmp_path, text):
    with pytest.raises(DataError, match="run:1: 4 columns; a run has 6"):
        read_run(write(tmp_path / "run", text))


def script(lines, qrels, cutoff):
    """Count as the official script of MS MARCO does: a list of places, filled by rank."""
    places = {}
    for line in lines:
        query_id, doc_id, rank = line.split()
        places.setdefault(query_id, [""] * 1000)[int(rank) - 1] = doc_id
    total = 0.0
    for query_id, listed in places.items():
        for place in range(cutoff):
            if query_id in qrels and listed[place] in qrels[query_id]:
                total += 1 / (place + 1)
                break
    return total / len(qrels)


@pytest.mark.parametrize("seed", range(5))
def test_written_ranks_count_as_in_the_official_script(tmp_path, seed):
    rng = np.random.default_rng(seed)
    qrels = {f"q{q}": {f"d{d}": 1 for d in rng.integers(0, 30, 2)} for q in range(40)}
    lines = []
    for query in range(38):
        docs = rng.permutation(30)[:20]
        ranks = rng.integers(1, 31, 20) if seed else np.sort(rng.permutation(30)[:20] + 1)
        lines += [f"q{query}\td{doc}\t{rank}" for doc, rank in zip(docs, ranks, strict=True)]
    path = write(tmp_path / "run.tsv", "\n".join(lines))
    hits = read_hits(path)
    assert has_gaps(hits)
    written = reciprocal_ranks(hits, qrels, ["RR@10", "RR@5", "nDCG@10", "RR"])
    assert written == pytest.approx({"RR@10": script(lines, qrels, 10), "RR@5": script(lines, qrels, 5)})
    scored = score(path, qrels, ["RR@10", "R@10"])
    assert scored.by_written_ranks == pytest.approx({"RR@10": script(lines, qrels, 10)})
    assert scored.means["RR@10"] != pytest.approx(scored.by_written_ranks["RR@10"])
    assert "RR@10 by the written ranks" in [row["measure"] for row in scored.rows()]


def test_whole_ranks_have_one_value_only(tmp_path):
    path = write(tmp_path / "run.tsv", "q1\td2\t2\nq1\td1\t1\nq2\td1\t1\n")
    assert not has_gaps(read_hits(path))
    assert score(path, QRELS, ["RR@10"]).by_written_ranks == {}
    assert score(RUN, QRELS, ["RR@10"]).by_written_ranks == {}


def test_a_space_beside_a_tab_belongs_to_no_id(tmp_path):
    """trec_eval divides columns at any white space; an id inside of which spaces stand keeps them."""
    assert read_qrels(write(tmp_path / "test.tsv", "q1 \t0 \td1 \t1\nq1\t0\td 2\t2\n")) == {
        "q1": {"d1": 1, "d 2": 2}
    }
