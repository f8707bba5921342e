"""Files of others: nothing but regular files is opened, and no more of them is read than memory holds."""

import gzip
import os
import socket
from pathlib import Path

import pytest

from llara_eval.core.decode import read_record
from llara_eval.core.errors import DataError, LlaraEvalError, UsageError
from llara_eval.core.files import read_json, sha256_of
from llara_eval.core.lines import find_file, objects, open_bytes, text_lines
from llara_eval.core.reading import is_present, largest, open_regular, read_whole
from llara_eval.core.sealed import sealed
from llara_eval.core.tables import open_json, rows
from llara_eval.evaluation.record import load_per_query, run_sha256
from llara_eval.scoring.judgements import read_qrels
from llara_eval.scoring.trec import read_run
from llara_eval.training.pairs import read_pairs
from llara_eval.vectors.store_folder import StoreFolder

LARGEST = "LLARA_EVAL_LARGEST_MIB"


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


def _loop(path: Path) -> None:
    path.symlink_to(path)


ODD = {
    "a FIFO": os.mkfifo,
    "a folder": Path.mkdir,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a socket": _socket,
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": _loop,
}
READERS = {
    "open_regular": ("x", open_regular),
    "read_whole": ("x", read_whole),
    "is_present": ("x", is_present),
    "read_json": ("x.json", read_json),
    "read_record": ("x.json", lambda path: read_record(path, dict)),
    "sha256_of": ("x", sha256_of),
    "open_bytes": ("x.gz", lambda path: open_bytes(path).__enter__()),
    "text_lines": ("x", lambda path: list(text_lines(path))),
    "find_file": ("x", lambda path: find_file(path.parent, path.name)),
    "a table": ("x.jsonl", lambda path: list(rows(path))),
    "Parquet": ("x.parquet", lambda path: list(rows(path))),
    "JSON": ("x.json", open_json),
    "a run": ("run.trec", read_run),
    "a run of JSON": ("run.json", read_run),
    "a run of Parquet": ("run.parquet", read_run),
    "judgements": ("qrels.tsv", read_qrels),
    "a stored run": ("run.trec.gz", lambda path: run_sha256(path.parent)),
    "per-query values": ("per_query.tsv", load_per_query),
    "a cache key": ("key.json", lambda path: StoreFolder(path.parent).claim({"model": "m"})),
    "training rows": ("rows.jsonl", lambda path: read_pairs([path], cache=path.parent)),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, monkeypatch, odd, reader):
    name, read = READERS[reader]
    monkeypatch.chdir(tmp_path)
    ODD[odd](tmp_path / name)
    with pytest.raises(LlaraEvalError, match=name):
        read(tmp_path / name)


@pytest.mark.parametrize("odd", ODD)
def test_a_sealed_file_that_is_no_regular_file_is_damaged(tmp_path, monkeypatch, odd):
    monkeypatch.chdir(tmp_path)
    ODD[odd](tmp_path / "record.json")
    assert sealed(tmp_path / "record.json", tmp_path / "file") is None


def test_a_missing_file_is_absent_and_a_link_counts_as_its_target(tmp_path):
    assert not is_present(tmp_path / "x")
    assert not is_present(tmp_path / "x" / "y")
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "x")
    (tmp_path / "y").write_bytes(b"content")
    (tmp_path / "x").symlink_to("y")
    assert is_present(tmp_path / "x")
    assert not is_present(tmp_path / "x" / "y"), "a file has no files in it"
    assert read_whole(tmp_path / "x") == b"content"


def test_a_name_that_is_too_long_is_an_error_of_data(tmp_path):
    with pytest.raises(DataError, match="too long"):
        is_present(tmp_path / ("x" * 300))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_is_an_error_of_data(tmp_path):
    (tmp_path / "x").touch(0o000)
    with pytest.raises(DataError, match="Permission denied"):
        open_regular(tmp_path / "x")


def test_a_record_is_no_larger_than_the_limit(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    path.write_text(f'"{"x" * 3_000}"')
    monkeypatch.setenv(LARGEST, "0.001")
    with pytest.raises(DataError, match=r"x\.json: a file of more than .* MiB"):
        read_json(path)
    with pytest.raises(DataError, match="a file of more than"):
        read_record(path, str)
    monkeypatch.setenv(LARGEST, "0.01")
    assert read_json(path) == "x" * 3_000


@pytest.mark.parametrize("value", ["0", "-1", "x", "nan", "inf", "1e-9"])
def test_a_limit_is_a_positive_number(monkeypatch, value):
    monkeypatch.setenv(LARGEST, value)
    with pytest.raises(UsageError, match=LARGEST):
        largest()


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_a_line_is_no_larger_than_the_limit(tmp_path, monkeypatch, name):
    path = tmp_path / name
    content = b'{"a": 1}\n{"b": "' + b"x" * 3_000 + b'"}\n{"c": 1}\n'
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    assert len(list(objects(path))) == 3
    monkeypatch.setenv(LARGEST, "0.001")
    with pytest.raises(DataError, match=rf"{name}:2: a line of more than 0\.00\d+ MiB"):
        list(objects(path))


def test_a_line_of_exactly_the_limit_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv(LARGEST, str(100 / 2**20))
    (tmp_path / "x").write_bytes(b"x" * 99 + b"\n" + b"y" * 100)
    assert [len(line) for _, line in text_lines(tmp_path / "x")] == [99, 100]
    (tmp_path / "x").write_bytes(b"x" * 100 + b"\n")
    with pytest.raises(DataError, match="x:1: a line of more than"):
        list(text_lines(tmp_path / "x"))


@pytest.mark.parametrize("name", ["run.trec", "run.trec.gz"])
@pytest.mark.parametrize("separator", [" ", "\t"])
def test_a_run_with_an_enormous_line_names_it(tmp_path, monkeypatch, name, separator):
    path = tmp_path / name
    row = separator.join(["q", "Q0", "d", "1", "2.0", "t"])
    content = f"{row}\n{row.replace('d', 'd' * 3_000)}\n".encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    monkeypatch.setenv(LARGEST, "0.001")
    monkeypatch.setattr("llara_eval.scoring.trec._BLOCK", 9)
    with pytest.raises(DataError, match=f"{name}:2: a line of more than"):
        read_run(path)


def test_training_rows_with_an_enormous_line_name_it(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"query": "q", "pos": ["p"]}\n{"query": "' + "q" * 3_000 + '", "pos": ["p"]}\n')
    monkeypatch.setenv(LARGEST, "0.001")
    with pytest.raises(DataError, match=r"rows\.jsonl:2: a line of more than"):
        read_pairs([path], cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("lines", lambda path: list(text_lines(path))),
        ("run.trec", read_run),
        ("qrels.tsv", read_qrels),
        ("per_query.tsv", load_per_query),
    ],
)
@pytest.mark.parametrize("marks", [("\ufeff\ufeff", "", "1"), ("\ufeff", "\ufeff", "2"), ("", "\ufeff", "2")])
def test_a_second_byte_order_mark_is_no_part_of_an_identifier(tmp_path, name, read, marks):
    first, second, line = marks
    rows = {"run.trec": "q Q0 d 1 2.0 t", "qrels.tsv": "q 0 d 1", "per_query.tsv": "query_id\tnDCG@10"}
    text = rows.get(name, "x")
    (tmp_path / name).write_text(f"{first}{text}\n{second}{text.replace('q', 'p')}\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"{name}:{line}: begins with a byte-order mark"):
        read(tmp_path / name)
