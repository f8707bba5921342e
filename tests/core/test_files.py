"""A file is complete or absent, whatever fails while it is written."""

import gzip
import json
import os

import pytest

from llara_eval.cli.config import _plain
from llara_eval.core import files
from llara_eval.core.errors import DataError, LlaraEvalError
from llara_eval.core.files import atomic_write, text_writer, write_json, write_text


def test_an_atomic_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "file"
    write_text(path, "old")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), atomic_write(path) as file:
            file.write(b"half of the new")
            assert path.read_text() == "old", "not visible before it is whole"
            raise error
    assert path.read_text() == "old"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["file", "file.gz"])
def test_a_text_that_fails_leaves_nothing(tmp_path, name):
    with pytest.raises(KeyboardInterrupt), text_writer(tmp_path / name) as file:
        file.write("half of a text " * 10_000)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_atomic_write_follows_links_and_replaces_nothing_but_files(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(LlaraEvalError, match="is not a file that can be replaced"):
            write_text(path, "text")


def test_an_atomic_write_replaces_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644


def test_equal_text_gives_equal_compressed_bytes(tmp_path, monkeypatch):
    write_text(tmp_path / "a.gz", "text")
    monkeypatch.setattr("time.time", lambda: 4_000_000_000.0)
    write_text(tmp_path / "b.gz", "text")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"text"


def test_json_is_readable_text_with_a_final_newline(tmp_path):
    write_json(tmp_path / "x.json", {"é": 1})
    assert (tmp_path / "x.json").read_text() == '{\n  "é": 1\n}\n'
    assert json.loads((tmp_path / "x.json").read_text()) == {"é": 1}


def test_sha256_is_of_the_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert (
        files.sha256_of(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


@pytest.mark.parametrize("name", ["x.txt", "x.txt.gz"])
def test_half_a_character_is_not_written(tmp_path, name):
    with pytest.raises(DataError, match=rf"{name} cannot be written as UTF-8: '\\udcff' in its text"):
        write_text(tmp_path / name, "a path \udcff")
    with pytest.raises(DataError, match=r"'\\ud800'"), text_writer(tmp_path / name) as file:
        file.write("a" * 100_000)
        file.write("\ud800")
    assert not list(tmp_path.iterdir())


def test_a_path_that_is_not_utf_8_is_recorded_with_escapes(tmp_path):
    write_json(tmp_path / "x.json", {"store": _plain("out/\udcff"), "depth": _plain(5)})
    assert json.loads((tmp_path / "x.json").read_text("utf-8")) == {"store": r"out/\udcff", "depth": 5}
