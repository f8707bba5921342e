import json
import os
import shutil
import threading
import time

import numpy as np
import pytest
from stores import CountingEncoder, store_vectors
from tiny_models import make_tokenizer

from llara_eval.core.errors import CheckFailedError, DataError
from llara_eval.core.leases import Leases
from llara_eval.encoding.templates import Template
from llara_eval.vectors import shards
from llara_eval.vectors.store_folder import StoreFolder
from llara_eval.vectors.token_store import TokenStore
from llara_eval.vectors.vector_store import VectorStore, fill

ITEMS = [(f"d{i}", f"text number {i}") for i in range(100)]
KEY = {"checkpoint": "abc"}
TEMPLATE = Template(suffix=("</s>",), max_length=16)
TOKENIZER = make_tokenizer()
SEQUENCES = TEMPLATE.token_ids(TOKENIZER, [text for _, text in ITEMS])


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_SIZE", 16)


def fill_store(root, encoder, key=KEY, items=ITEMS, name="x"):
    store = VectorStore(StoreFolder(root / "vectors"), key, name)
    tokens = TokenStore(StoreFolder(root / "tokens"), TOKENIZER, TEMPLATE)
    return store, fill(store, encoder, tokens, iter(items), "document", total=len(items))


def contents(root):
    kinds = (".npy", ".ids", ".npz")
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.suffix in kinds
    }


def test_all_items_are_stored_in_order(tmp_path) -> None:
    encoder = CountingEncoder()
    store, cost = fill_store(tmp_path, encoder)
    parts = list(store)
    assert len(parts) > 3
    assert [i for part in parts for i in part.ids] == [i for i, _ in ITEMS]
    assert encoder.sequences == SEQUENCES
    assert all(part.vectors.dtype == np.float16 for part in parts)
    assert [row[0] for part in parts for row in part.vectors] == [len(sequence) for sequence in SEQUENCES]
    assert (cost["rows"], cost["tokens"], cost["reused"]) == (100, sum(map(len, SEQUENCES)), 0)


def test_a_complete_store_is_not_encoded_again_nor_are_its_texts_read(tmp_path) -> None:
    fill_store(tmp_path, CountingEncoder())
    shutil.rmtree(tmp_path / "tokens")
    encoder = CountingEncoder()
    _, cost = fill_store(tmp_path, encoder)
    assert encoder.sequences == []
    assert cost["reused"] == 100
    assert cost["tokens"] == sum(map(len, SEQUENCES))  # what the vectors cost when they were made
    assert not list((tmp_path / "tokens").rglob("*.npz"))


def test_an_interrupted_encoding_goes_on_and_ends_byte_identical(tmp_path) -> None:
    fill_store(tmp_path / "whole", CountingEncoder())
    first = CountingEncoder(stop_after=40)
    with pytest.raises(KeyboardInterrupt):
        fill_store(tmp_path / "broken", first)
    encoder = CountingEncoder()
    fill_store(tmp_path / "broken", encoder)
    assert first.sequences + encoder.sequences == SEQUENCES
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


@pytest.mark.parametrize("suffix", ["npy", "json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_shard_is_made_again_and_the_others_are_kept(tmp_path, suffix, damage) -> None:
    store, _ = fill_store(tmp_path, CountingEncoder())
    before = contents(tmp_path)
    shard = store.listing.shards[1]
    path = store.folder.path / f"{shard.content}.{suffix}"
    data = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(data[:-3] if damage == "truncate" else data[:-1] + bytes([data[-1] ^ 1]))
    encoder = CountingEncoder()
    fill_store(tmp_path, encoder)
    first = store.listing.shards[0].rows
    assert encoder.sequences == SEQUENCES[first : first + shard.rows]
    assert contents(tmp_path) == before


def test_a_damaged_list_of_identifiers_is_made_again(tmp_path) -> None:
    store, _ = fill_store(tmp_path, CountingEncoder())
    before = contents(tmp_path)
    (store.folder.path / "x.ids").write_text("d7\n")
    with pytest.raises(DataError, match="not a complete store"):
        list(store)
    encoder = CountingEncoder()
    fill_store(tmp_path, encoder)
    assert encoder.sequences == []
    assert contents(tmp_path) == before


def test_collections_that_share_texts_share_their_vectors(tmp_path) -> None:
    fill_store(tmp_path, CountingEncoder())
    encoder = CountingEncoder()
    more = [(f"other {i}", text) for i, (_, text) in enumerate(ITEMS)] + [("new", "one more text")]
    store, cost = fill_store(tmp_path, encoder, items=more, name="y")
    assert len(encoder.sequences) <= 32
    assert cost["reused"] == 101 - len(encoder.sequences)
    assert [i for part in store for i in part.ids] == [i for i, _ in more]


def test_equal_shards_in_one_collection_are_made_once(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shards, "SHARD_SIZE", 1)
    encoder = CountingEncoder()
    store, cost = fill_store(tmp_path, encoder, items=[("a", "the same"), ("b", "the same")])
    assert [i for part in store for i in part.ids] == ["a", "b"]
    assert (cost["rows"], len(encoder.sequences)) == (2, 1)


def test_another_key_is_another_store(tmp_path) -> None:
    fill_store(tmp_path, CountingEncoder())
    encoder = CountingEncoder()
    fill_store(tmp_path, encoder, {**KEY, "checkpoint": "other"})
    assert len(encoder.sequences) == len(ITEMS)


def test_a_store_that_holds_another_key_is_refused(tmp_path) -> None:
    store, _ = fill_store(tmp_path, CountingEncoder())
    other = VectorStore(StoreFolder(tmp_path / "vectors"), {"checkpoint": "other"}, "x")
    shutil.rmtree(other.folder.path)
    store.folder.path.rename(other.folder.path)
    with pytest.raises(DataError, match="another key"):
        VectorStore(StoreFolder(tmp_path / "vectors"), {"checkpoint": "other"}, "x")


def test_an_incomplete_store_cannot_be_searched(tmp_path) -> None:
    with pytest.raises(DataError, match="not a complete store"):
        list(VectorStore(StoreFolder(tmp_path), KEY, "x"))


def test_no_pickle_is_ever_read(tmp_path) -> None:
    store = store_vectors(tmp_path, ["a"], np.ones((1, 4), dtype=np.float32), [1])
    path = store.folder.path / "made0.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        list(store)


def test_records_say_what_the_work_cost(tmp_path) -> None:
    store, _ = fill_store(tmp_path, CountingEncoder())
    shard = store.listing.shards[0]
    record = json.loads((store.folder.path / f"{shard.content}.json").read_text())
    assert (record["rows"], record["tokens"]) == (shard.rows, sum(map(len, SEQUENCES[: shard.rows])))
    assert record["seconds"] >= 0


def test_a_shard_is_written_while_the_next_is_encoded(tmp_path, monkeypatch) -> None:
    next_is_begun, write = threading.Event(), VectorStore.write

    class Telling(CountingEncoder):
        def start(self, sequences, side, advance):
            if self.sequences:
                next_is_begun.set()
            return super().start(sequences, side, advance)

    def patient(self, content, vectors, cost):
        assert next_is_begun.wait(timeout=60)
        write(self, content, vectors, cost)

    monkeypatch.setattr(VectorStore, "write", patient)
    store, cost = fill_store(tmp_path, Telling())
    assert len(list(store)) > 3
    assert cost["rows"] == 100


@pytest.mark.parametrize("number", [1, 3])
def test_an_error_while_a_shard_is_written_ends_the_work(tmp_path, monkeypatch, number) -> None:
    write, written = VectorStore.write, []

    def fails(self, content, vectors, cost):
        written.append(content)
        if len(written) == number:
            raise DataError("no room")
        write(self, content, vectors, cost)

    with monkeypatch.context() as patched, pytest.raises(DataError, match="no room"):
        patched.setattr(VectorStore, "write", fails)
        fill_store(tmp_path, CountingEncoder())
    assert not list(tmp_path.rglob("*.lease"))
    store, cost = fill_store(tmp_path, CountingEncoder())
    assert cost["reused"] > 0
    assert [identifier for part in store for identifier in part.ids] == [name for name, _ in ITEMS]


def test_what_float16_cannot_hold_is_not_stored(tmp_path) -> None:
    class Large(CountingEncoder):
        def start(self, *arguments):
            started = super().start(*arguments)
            return started._replace(vectors=lambda: 1e5 * started.vectors())

    with pytest.raises(CheckFailedError, match="ends at 65,504"):
        fill_store(tmp_path, Large())
    assert not list(tmp_path.rglob("*.npy"))


class Slow(CountingEncoder):
    def start(self, sequences, side, advance):
        time.sleep(0.05)
        return super().start(sequences, side, advance)


def test_several_workers_share_the_work_and_end_byte_identical(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("llara_eval.core.leases._POLL", 0.01)
    monkeypatch.setattr(shards, "SHARD_SIZE", 4)
    fill_store(tmp_path / "one", CountingEncoder())
    encoders, costs = [Slow(), Slow(), Slow()], []
    threads = [
        threading.Thread(target=lambda each=each: costs.append(fill_store(tmp_path / "many", each)[1]))
        for each in encoders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(each.sequences) for each in encoders) == len(ITEMS)
    assert min(len(each.sequences) for each in encoders) > 0
    assert sum(100 - cost["reused"] for cost in costs) == len(ITEMS)
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert not list((tmp_path / "many").rglob("*.lease"))


def test_what_a_silent_worker_holds_is_waited_for_and_taken_over(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr("llara_eval.core.leases._POLL", 0.01)
    monkeypatch.setattr("llara_eval.core.leases._PATIENCE", 0.05)
    store, _ = fill_store(tmp_path, CountingEncoder())
    content = store.listing.shards[2].content
    (store.folder.path / f"{content}.json").unlink()
    hung = Leases(store.folder.path / "leases")
    hung.take(content)
    lease = hung.folder / f"{content}.lease"
    threading.Timer(0.2, os.utime, [lease, (0, 0)]).start()
    encoder = CountingEncoder()
    fill_store(tmp_path, encoder)
    assert len(encoder.sequences) == store.listing.shards[2].rows
    assert f"holds {lease}, until" in caplog.text
