"""Checksums of files that this program made."""

from pathlib import Path

import pytest

from llara_eval.core.sealed import CHECKSUMS, cached_file, changes, is_whole, seal_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with its list of checksums."""
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    (folder / "a").write_bytes(b"one")
    (folder / "below" / "b").write_bytes(b"two")
    seal_folder(folder)
    return folder


def test_a_folder_is_whole_as_it_was_sealed(folder: Path, tmp_path: Path) -> None:
    assert is_whole(folder)
    assert is_whole(folder.rename(tmp_path / "moved"))
    assert not is_whole(folder)


@pytest.mark.parametrize("damage", ["change", "remove", "add", "no list", "another list", "no JSON"])
def test_a_folder_that_was_changed_is_not_whole(folder: Path, damage: str) -> None:
    if damage == "change":
        (folder / "below" / "b").write_bytes(b"twp")
    elif damage == "remove":
        (folder / "a").unlink()
    elif damage == "add":
        (folder / "c").touch()
    elif damage == "no list":
        (folder / CHECKSUMS).unlink()
    else:
        (folder / CHECKSUMS).write_text("[]" if damage == "another list" else "[")
    assert not is_whole(folder)


def test_what_changed_in_a_folder_is_named(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    seal_folder(tmp_path)
    assert changes(tmp_path) == []
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").unlink()
    (tmp_path / "d").touch()
    assert changes(tmp_path) == ["a", "b", "d"]


def test_a_cached_file_is_made_once_and_again_if_it_is_damaged(tmp_path: Path) -> None:
    times = []

    def make() -> bytes:
        path = cached_file(tmp_path / "file", lambda file: times.append(file.write(b"content")))
        return path.read_bytes()

    assert [make(), make()] == [b"content"] * 2
    assert len(times) == 1
    for path in (tmp_path / "file", tmp_path / "file.json"):
        path.write_bytes(path.read_bytes()[:-3])
        assert make() == b"content"
    assert len(times) == 3


def test_a_cached_file_whose_content_cannot_be_made_is_absent(tmp_path: Path) -> None:
    def fail(file: object) -> None:
        raise ValueError("no content")

    with pytest.raises(ValueError, match="no content"):
        cached_file(tmp_path / "file", fail)
    assert not list(tmp_path.iterdir())
