import json
import shutil

import numpy as np
import pytest

from llara_eval import vectors
from llara_eval.encoder import Work
from llara_eval.errors import DataError
from llara_eval.vectors import VectorStore, fill

ITEMS = [(f"d{i}", f"text number {i}") for i in range(25)]
KEY = {"checkpoint": "abc", "content": "def"}


class CountingEncoder:
    """Gives each text a vector made of its characters, and counts the texts."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.texts: list[str] = []
        self.work = Work()
        self.stop_after = stop_after

    def encode(self, texts, side, advance=None):
        if self.stop_after is not None and len(self.texts) >= self.stop_after:
            raise KeyboardInterrupt
        self.texts += texts
        self.work.tokens += len(texts)
        self.work.padded += len(texts)
        return np.array([[len(text), sum(map(ord, text)) % 97, 1.0] for text in texts], dtype=np.float32)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(vectors, "SHARD_SIZE", 10)


def fill_store(root, encoder, key=KEY):
    store = VectorStore(root, key)
    return store, fill(store, encoder, ITEMS, "document", total=len(ITEMS))


def contents(root):
    return {path.name: path.read_bytes() for path in root.rglob("*") if path.suffix in (".npy", ".ids")}


def test_all_items_are_stored_in_order(tmp_path) -> None:
    store, cost = fill_store(tmp_path, CountingEncoder())
    shards = list(store)
    assert [len(shard.ids) for shard in shards] == [10, 10, 5]
    assert [i for shard in shards for i in shard.ids] == [i for i, _ in ITEMS]
    assert all(shard.vectors.dtype == np.float16 for shard in shards)
    assert (cost["rows"], cost["tokens"], cost["reused"]) == (25, 25, 0)


def test_a_complete_store_is_not_encoded_again(tmp_path) -> None:
    fill_store(tmp_path, CountingEncoder())
    encoder = CountingEncoder()
    _, cost = fill_store(tmp_path, encoder)
    assert encoder.texts == []
    assert cost["reused"] == 25
    assert cost["tokens"] == 25  # what the vectors cost when they were made


def test_an_interrupted_encoding_goes_on_and_ends_byte_identical(tmp_path) -> None:
    fill_store(tmp_path / "whole", CountingEncoder())
    with pytest.raises(KeyboardInterrupt):
        fill_store(tmp_path / "broken", CountingEncoder(stop_after=10))
    encoder = CountingEncoder()
    fill_store(tmp_path / "broken", encoder)
    assert len(encoder.texts) == 15
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


@pytest.mark.parametrize("kind", ["npy", "ids", "json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_shard_is_made_again_and_the_others_are_kept(tmp_path, kind, damage) -> None:
    store, _ = fill_store(tmp_path, CountingEncoder())
    before = contents(tmp_path)
    path = store.folder / f"shard-00001.{kind}"
    data = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(data[:-3] if damage == "truncate" else data[:-1] + bytes([data[-1] ^ 1]))
    encoder = CountingEncoder()
    fill_store(tmp_path, encoder)
    assert encoder.texts == [text for _, text in ITEMS[10:20]]
    assert contents(tmp_path) == before


def test_another_key_is_another_store(tmp_path) -> None:
    fill_store(tmp_path, CountingEncoder())
    encoder = CountingEncoder()
    fill_store(tmp_path, encoder, {**KEY, "checkpoint": "other"})
    assert len(encoder.texts) == len(ITEMS)


def test_a_store_that_holds_another_key_is_refused(tmp_path) -> None:
    store, _ = fill_store(tmp_path, CountingEncoder())
    other = VectorStore(tmp_path, {**KEY, "content": "other"})
    shutil.rmtree(other.folder)
    store.folder.rename(other.folder)
    with pytest.raises(DataError, match="another key"):
        VectorStore(tmp_path, {**KEY, "content": "other"})


def test_an_incomplete_store_cannot_be_searched(tmp_path) -> None:
    store = VectorStore(tmp_path, KEY)
    with pytest.raises(DataError, match="not a complete store"):
        list(store)


def test_no_pickle_is_ever_read(tmp_path) -> None:
    store, _ = fill_store(tmp_path, CountingEncoder())
    path = store.folder / "shard-00000.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        list(store)


def test_sidecars_say_what_the_work_cost(tmp_path) -> None:
    store, _ = fill_store(tmp_path, CountingEncoder())
    record = json.loads((store.folder / "shard-00002.json").read_text())
    assert (record["rows"], record["tokens"]) == (5, 5)
    assert record["seconds"] >= 0
