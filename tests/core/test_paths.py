"""Paths that a user wrote, and names in files."""

import os
from pathlib import Path

import pytest

from llara_eval.core.errors import LlaraEvalError, UsageError
from llara_eval.core.files import atomic_write, refuse_inputs, write_text
from llara_eval.core.paths import data_dir, home, real_path, user_path


def test_a_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert user_path("~/x") == Path("/somewhere/x")
    assert user_path(Path("a/~/x")) == Path("a/~/x")


@pytest.mark.parametrize("path", ["~nobody-of-that-name/x", "a\0b"])
def test_a_path_that_names_nothing_is_refused(monkeypatch, path):
    with pytest.raises(UsageError):
        user_path(path)
    if "\0" not in path:
        monkeypatch.setenv("LLARA_EVAL_HOME", path)
        monkeypatch.setenv("LLARA_EVAL_DATA", path)
        for folder in (home, data_dir):
            with pytest.raises(UsageError, match="nobody-of-that-name"):
                folder()


def test_no_other_function_asks_for_a_home_folder():
    root = Path(__file__).parents[2]
    files = [*root.glob("llara_eval/**/*.py"), *root.glob("adapters/**/*.py")]
    users = [path.name for path in files if "expanduser()" in path.read_text(encoding="utf-8")]
    assert users == ["paths.py"]


def test_links_in_a_circle_are_refused_when_written(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.symlink_to(two)
    two.symlink_to(one)
    assert real_path(one).parent == tmp_path
    refuse_inputs(one, [tmp_path / "input"])
    with pytest.raises(LlaraEvalError, match="not a file that can be replaced"), atomic_write(one):
        pass
    with pytest.raises(LlaraEvalError):
        write_text(one / "x", "text")


def test_a_file_is_no_output_and_input_by_another_name(tmp_path):
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="would replace an input"):
        refuse_inputs(tmp_path / "link", [Path(os.path.relpath(tmp_path / "file"))])
