"""All workers of a store take what the first of them chose, on one machine and at a URL."""

import threading
from pathlib import Path

import pytest

from llara_eval.core.errors import DataError
from llara_eval.vectors.remote import open_store_folder
from llara_eval.vectors.vector_store import VectorStore

KEY = {"checkpoint": "abc"}


def store_at(address: str | None, home: Path) -> VectorStore:
    """Return a store as a worker with this cache folder opens it."""
    return VectorStore(open_store_folder(address, home) / "vectors", KEY, "x")


def test_of_many_at_once_one_chooses(tmp_path: Path) -> None:
    together, agreed = threading.Barrier(8), []

    def work(number: int) -> None:
        store = store_at(None, tmp_path)
        together.wait()
        agreed.append(store.agree(lambda: {"engine": number}))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(agreed) == 8
    assert all(choice == agreed[0] for choice in agreed)


def test_workers_of_other_machines_agree_at_a_url(tmp_path: Path, url: str) -> None:
    first, second = (store_at(url, tmp_path / name) for name in ("one", "two"))
    assert first.agree(lambda: {"engine": "a"}) == {"engine": "a"}
    assert second.agree(lambda: {"engine": "b"}) == {"engine": "a"}


def test_a_damaged_agreement_is_named(tmp_path: Path) -> None:
    store = store_at(None, tmp_path)
    store.agree(lambda: {"engine": "a"})
    (store.folder.path / "engine.json").write_text("{")
    with pytest.raises(DataError, match=r"engine\.json is damaged; delete"):
        store.agree(lambda: {"engine": "b"})
