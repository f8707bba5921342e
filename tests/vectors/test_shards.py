import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llara_eval.vectors import shards
from llara_eval.vectors.shards import Listing, cut
from llara_eval.vectors.store_folder import StoreFolder

TEXTS = [f"text number {i}" for i in range(400)]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_SIZE", 16)


def items(texts):
    return [(f"d{i}", text) for i, text in enumerate(texts)]


def test_nothing_is_lost_or_moved_and_sizes_are_within_limits() -> None:
    parts = list(cut(items(TEXTS)))
    assert [pair for shard in parts for pair in zip(shard.ids, shard.texts, strict=True)] == items(TEXTS)
    assert all(4 <= len(shard.texts) <= 32 for shard in parts[:-1])
    assert 8 <= len(TEXTS) / len(parts) <= 24
    assert not list(cut([]))


@pytest.mark.parametrize("at", [0, 137, 399])
def test_collections_that_differ_in_a_text_share_all_other_shards(at: int) -> None:
    one = [shard.content for shard in cut(items(TEXTS))]
    other = [shard.content for shard in cut(items([*TEXTS[:at], "one more", *TEXTS[at:]]))]
    assert len(set(other) - set(one)) <= 2


def test_a_shard_is_named_by_its_texts_not_by_their_identifiers() -> None:
    renamed = [(f"other {i}", text) for i, text in enumerate(TEXTS)]
    assert [s.content for s in cut(items(TEXTS))] == [s.content for s in cut(renamed)]
    assert next(cut([("a", "ab"), ("b", "c")])).content != next(cut([("a", "a"), ("b", "bc")])).content
    assert next(cut([("a", "\ud800")])).content  # half a surrogate pair, as broken collections have them


@settings(max_examples=20)
@given(st.lists(st.text(max_size=5), min_size=1, max_size=100), st.integers(0, 99))
def test_a_listing_reads_back_as_it_was_written(tmp_path_factory, texts, seed) -> None:
    folder = StoreFolder(tmp_path_factory.mktemp("listing"))
    numbers = random.Random(seed).sample(range(1000), len(texts))
    named = [(f"é{number}", text) for number, text in zip(numbers, texts, strict=True)]
    with Listing.writer(folder, "x") as add:
        parts = list(cut(named))
        for shard in parts:
            add(shard)
    listing = Listing.load(folder, "x")
    assert [list(listing.ids(number)) for number in range(len(parts))] == [list(s.ids) for s in parts]
    assert [shard[:2] for shard in listing.shards] == [(s.content, len(s.texts)) for s in parts]
    listing.copy_to(folder / "copy")
    assert Listing.load(folder / "copy", "x").shards == listing.shards


@pytest.mark.parametrize("suffix", ["ids", "json"])
def test_a_listing_that_is_not_whole_is_none(tmp_path, suffix: str) -> None:
    with Listing.writer(StoreFolder(tmp_path), "x") as add:
        add(next(cut(items(TEXTS))))
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(path.read_bytes()[:-2])
    assert Listing.load(StoreFolder(tmp_path), "x") is None


def test_a_listing_whose_writing_failed_does_not_exist(tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt), Listing.writer(StoreFolder(tmp_path), "x") as add:
        add(next(cut(items(TEXTS))))
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
