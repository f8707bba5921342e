"""Files that are complete or absent: what cannot be written is an error with a way out."""

import json

import pytest

from llara_eval.cli.config import _plain
from llara_eval.core.errors import DataError
from llara_eval.core.files import text_writer, write_json, write_text


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
