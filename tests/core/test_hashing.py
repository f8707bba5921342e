"""Hashes of records: no two different lists of records have one hash."""

import hashlib

import pytest

from llara_eval.core.hashing import add_record


def hash_of(*records: tuple[str, ...]) -> str:
    """Return the hash of some records."""
    content = hashlib.sha256()
    for record in records:
        add_record(content, record)
    return content.hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        [("a\x1fb", "c")],
        [("a", "b\x1fc")],
        [("ab", "c")],
        [("a", "b", "c")],
        [("a",), ("b\x1fc",)],
        [("a", "b"), ("c",)],
        [("a", "b\x1ec")],
        [("a", "", "bc")],
        [("a\x1c2bc",)],
        [("a\x1c", "bc")],
        [("\ud800", "c")],
    ],
)
def test_records_that_differ_have_different_hashes(other: list[tuple[str, ...]]) -> None:
    """A separator inside of a text, or a boundary at another place, is another hash."""
    assert hash_of(*other) != hash_of(("a", "bc"))


def test_equal_records_have_equal_hashes() -> None:
    """The hash depends on the fields alone."""
    assert hash_of(("ä", "bc"), ("d",)) == hash_of(("ä", "bc"), ("d",))
