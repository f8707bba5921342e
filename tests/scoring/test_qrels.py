"""Files of judgements in all their forms, and files of runs and judgements that cannot be read."""

import gzip

import numpy as np
import pytest

from llara_eval.core.errors import DataError
from llara_eval.scoring.judgements import read_qrels
from llara_eval.scoring.trec import read_run

ODD_IDS = [
    *("Geneva Durben", "é", "\U0001f600", "NA", "null", "nan"),
    *("007", "7", "1e5", "100000", "7.0", '"q"', "#1"),
]
QRELS = {"q1": {"a": 1, "b": 0}, "q2": {"a": 2}}


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("q1 0 a 1\nq1 0 b 0\nq2 0 a 2\n", "qrels"),
        ("q1 Q0  a   1\nq1 0 b 0 \n  q2 0 a 2", "qrels"),
        ("q1\t0\ta\t1\nq1\t0\tb\t0\nq2\t0\ta\t2\n", "qrels"),
        ("q1\t0\ta\t1 \r\nq1\t0\tb\t0\r\n\r\nq2\t0\ta\t2\r\n", "qrels"),
        ("\ufeffq1\t0\ta\t1\nq1\t0\tb\t0\nq2\t0\ta\t2\n", "qrels.gz"),
        ("query-id\tcorpus-id\tscore\nq1\ta\t1\nq1\tb\t0\nq2\ta\t2\n", "qrels"),
        ("\ufeff\nquery-id\tcorpus-id\tscore\r\nq1\ta\t1\r\nq1\tb\t0\r\nq2\ta\t2\r\n", "qrels"),
        ("q1\ta\t1\nq1\tb\t0\nq2\ta\t2\n", "qrels"),
        ("q1 a 1\nq1 b 0\nq2 a 2\n", "qrels.gz"),
    ],
    ids=[
        "TREC",
        "TREC with spaces around",
        "MS MARCO",
        "MS MARCO with CRLF",
        "MS MARCO gz with BOM",
        "BEIR",
        "BEIR with BOM, blank line and CRLF",
        "BEIR without header",
        "BEIR gz with spaces",
    ],
)
def test_all_dialects_of_judgements_give_the_same(put, content, name) -> None:
    assert read_qrels(put(content, name)) == QRELS


def test_judgements_keep_odd_identifiers(put) -> None:
    lines = "".join(f"{odd}\t0\t{odd}\t1\n" for odd in ODD_IDS)
    assert read_qrels(put(lines)) == {odd: {odd: 1} for odd in ODD_IDS}


def test_negative_grades_are_kept(put) -> None:
    assert read_qrels(put("q 0 a -2\nq 0 b -1\n")) == {"q": {"a": -2, "b": -1}}


def test_the_largest_grades_and_leading_zeros_are_read(put) -> None:
    content = f"q 0 a 2147483647\nq 0 b -2147483647\nq 0 c {'0' * 5000}3\n"
    assert read_qrels(put(content)) == {"q": {"a": 2**31 - 1, "b": 1 - 2**31, "c": 3}}


def test_the_same_judgement_twice_is_accepted(put) -> None:
    assert read_qrels(put("q 0 a 1\nq 0 b 0\nq 0 a 1\n")) == {"q": {"a": 1, "b": 0}}


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        ("q 0\n", 1, "2 columns"),
        ("# a comment\n\nq 0\n", 3, "2 columns; judgements have"),
        ("q Q0 a 1 2.0 t\n", 1, "6 columns"),
        ("q 0 a 1\nq 0 b\n", 2, "3 columns, expected 4"),
        ("q 0 a 1\nq 0 Geneva Durben 1\n", 2, "5 columns, expected 4"),
        ("query-id\tcorpus-id\tscore\nq\ta\n", 2, "2 columns, expected 3"),
        ("q 0 a 1\n\nq 0 b 1.5\n", 3, "'1.5'"),
        ("q a high\nq b 1\n", 1, "'high'"),
        ("q\ta\tscore\n", 1, "'score'"),
        ("#q 0 a\n", 1, "'a'"),
        ("q 0 a 0.5\nq 0 b 1\n", 1, "'0.5'"),
        ("query-id\tcorpus-id\tscore\nq\ta\t1\nq\tb\tyes\n", 3, "'yes'"),
        ("query-id\tcorpus-id\tscore\nquery-id\tcorpus-id\tscore\n", 2, "'score'"),
        ("q 0 a \u00b2\n", 1, "'\u00b2'"),
        ("q\t0\ta\t\n", 1, "''"),
        ("q 0 a 2147483648\n", 1, "'2147483648' is beyond 2,147,483,647"),
        ("q 0 a 1\nq 0 b -9223372036854775809\n", 2, "'-9223372036854775809' is beyond"),
        (f"q 0 a {'9' * 5000}\n", 1, "…"),
        ("q 0 a 1\nq 0 a 2\n", 2, "query 'q' document 'a' is graded 1 and 2"),
        ("q 0 a 0\nq 0 b 1\nq 0 a -1\n", 3, "graded 0 and -1"),
        ("q\t0\ta\t1\n\t0\ta\t1\n", 2, "an identifier must be a non-empty string"),
        ("q\t0\ta\t1\nq\t0\t\t1\n", 2, "an identifier must be a non-empty string"),
        (b"q 0 a 1\nq 0 caf\xe9 1\n", 2, "not UTF-8"),
    ],
)
def test_malformed_judgements_name_file_line_and_value(put, content, line, problem) -> None:
    path = put(content)
    with pytest.raises(DataError) as caught:
        read_qrels(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert problem in str(caught.value)


def test_a_header_alone_is_no_judgement(put) -> None:
    with pytest.raises(DataError, match="no judgements"):
        read_qrels(put("query-id\tcorpus-id\tscore\n"))


@pytest.mark.parametrize("read", [read_run, read_qrels])
@pytest.mark.parametrize("content", ["", "\n \n\r\n", "\ufeff"])
@pytest.mark.parametrize("name", ["empty", "empty.gz"])
def test_an_empty_file_is_an_error(put, read, content, name) -> None:
    path = put(content, name)
    with pytest.raises(DataError, match="file is empty") as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("read", [read_run, read_qrels])
def test_a_missing_file_is_an_error(tmp_path, read) -> None:
    with pytest.raises(DataError, match="absent: no such file"):
        read(tmp_path / "absent")
    with pytest.raises(DataError, match="not a regular file; write its content to one"):
        read(tmp_path)


ROWS = np.random.default_rng(0).permutation(5000)
BIG = {
    read_run: b"".join(b"q Q0 d%d 1 %d t\n" % (row, row) for row in ROWS),
    read_qrels: b"".join(b"q 0 d%d %d\n" % (row, row) for row in ROWS),
}


@pytest.mark.parametrize("read", [read_run, read_qrels])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-4],
        lambda data: data[:6],
        lambda data: data[:10] + b"\xff" * 100 + data[110:],
        lambda data: data[:-8] + bytes(8),
    ],
    ids=["half", "end missing", "header cut", "content overwritten", "wrong checksum"],
)
def test_a_damaged_gz_is_an_error_that_names_the_file(put, read, damage) -> None:
    whole = put(gzip.compress(BIG[read]), "whole.gz")
    assert read(whole)
    path = put(damage(whole.read_bytes()), "damaged.gz")
    with pytest.raises(DataError, match=r"damaged\.gz:\d+: cannot be read further"):
        read(path)


@pytest.mark.parametrize("read", [read_run, read_qrels])
def test_plain_text_called_gz_is_an_error(tmp_path, read) -> None:
    (tmp_path / "plain.gz").write_bytes(BIG[read])
    with pytest.raises(DataError, match=r"plain\.gz:1: .*[Nn]ot a gzipped file"):
        read(tmp_path / "plain.gz")
