"""The reader of lines: gzipped or not; every error names the file and the line."""

import gzip
import json
from pathlib import Path

import pytest

from llara_eval.core.errors import DataError
from llara_eval.core.lines import find_file, objects, read_texts, text_lines

MANY = b"".join(json.dumps({"_id": str(i), "text": f"{i * i}"}).encode() + b"\n" for i in range(2_000))


def write(path: Path, content: bytes) -> Path:
    """Write bytes, compressed if the name says so."""
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def rows(path: Path) -> list[tuple[int, dict]]:
    return list(objects(path))


def test_plain_file_is_preferred_and_a_missing_one_is_named(tmp_path):
    gz = write(tmp_path / "corpus.jsonl.gz", MANY)
    assert find_file(tmp_path, "corpus.jsonl") == gz
    plain = write(tmp_path / "corpus.jsonl", MANY)
    assert find_file(tmp_path, "corpus.jsonl") == plain
    with pytest.raises(DataError, match=r"neither queries\.jsonl nor queries\.jsonl\.gz"):
        find_file(tmp_path, "queries.jsonl")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_lines_are_numbered_from_1_and_end_at_line_feeds_alone(tmp_path, name):
    path = write(tmp_path / name, "\ufeffone\r\n\ntwo \x85 \u2028 still\x0b two\rhere\nthree".encode())
    assert list(text_lines(path)) == [
        (1, "one"),
        (2, ""),
        (3, "two \x85 \u2028 still\x0b two\rhere"),
        (4, "three"),
    ]


def test_blank_lines_hold_no_object_and_keep_their_number(tmp_path):
    path = write(tmp_path / "rows.jsonl", b'\xef\xbb\xbf{"a": 1}\r\n\r\n   \n{"b": [1]}')
    assert rows(path) == [(1, {"a": 1}), (4, {"b": [1]})]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b'{"_id": "d2", "text": }', "not valid JSON"),
        (b'{"_id": "d2"', "not valid JSON"),
        (b'["d2", "text"]', "expected a JSON object"),
        (b'"d2"', "expected a JSON object"),
        ('{"_id": "d2", "text": "café"}'.encode("latin-1"), "not UTF-8"),
        (b"[" * 200_000, "not usable JSON"),
        (b'{"_id": ' + b"9" * 5_000 + b', "text": "x"}', "not usable JSON"),
    ],
)
def test_a_line_that_is_no_object_is_named_with_file_and_line(tmp_path, bad, message):
    path = write(tmp_path / "rows.jsonl", b'{"a": 1}\n\n' + bad + b'\n{"b": 1}\n')
    with pytest.raises(DataError) as caught:
        rows(path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_the_line_that_is_not_utf8_is_the_one_named_however_far_the_reader_looks_ahead(tmp_path, name):
    good = b"".join(json.dumps({"_id": f"d{i}", "text": "x" * 60}).encode() + b"\n" for i in range(400))
    path = write(tmp_path / name, good + b'{"_id": "e", "text": "\xe9"}\n' + b"{}\n" * 400)
    with pytest.raises(DataError, match=r":401: not UTF-8"):
        rows(path)


def test_a_cut_off_archive_is_refused(tmp_path):
    whole = gzip.compress(MANY)
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"rows\.jsonl\.gz:\d+: cannot be read further .*is it complete\?"):
        rows(path)


@pytest.mark.parametrize("damage", ["header", "body", "checksum"])
def test_a_damaged_archive_is_refused(tmp_path, damage):
    content = bytearray(gzip.compress(MANY))
    if damage == "header":
        content[:2] = b"no"
    elif damage == "body":
        content[500:540] = b"\xff" * 40
    else:
        content[-8] ^= 1
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"rows\.jsonl\.gz"):
        rows(path)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_progress_counts_the_bytes_on_disk(tmp_path, name):
    path = write(tmp_path / name, MANY)
    seen = []
    assert len(list(objects(path, seen.append))) == 2_000
    assert sum(seen) == path.stat().st_size


def test_texts_are_one_a_line_and_at_least_one(tmp_path):
    path = write(tmp_path / "texts.txt", b"one\n\n  two  \nthree\n")
    assert read_texts(path, 2) == ["one", "two"]
    with pytest.raises(DataError, match="holds no text"):
        read_texts(write(path, b" \n"), 2)
