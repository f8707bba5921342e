"""Stores at URLs of fsspec: the same bytes, whatever breaks in between."""

import json
import shutil
import sys
import threading
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from stores import CountingEncoder
from tiny_models import make_tokenizer
from typer.testing import CliRunner

from llara_eval.cli import app
from llara_eval.core.errors import DataError, LlaraEvalError, MissingPartError, UsageError
from llara_eval.encoding.templates import Template
from llara_eval.vectors import shards
from llara_eval.vectors.remote import RemoteFiles, RemoteFolder, open_store_folder
from llara_eval.vectors.store_folder import StoreFolder
from llara_eval.vectors.token_store import TokenStore
from llara_eval.vectors.vector_store import VectorStore, fill

ITEMS = [(f"d{i}", f"text number {i}") for i in range(60)]
TEMPLATE = Template(suffix=("</s>",), max_length=16)
TOKENIZER = make_tokenizer()


@pytest.fixture(autouse=True)
def small_and_fast(monkeypatch) -> None:
    monkeypatch.setattr(shards, "SHARD_SIZE", 16)
    monkeypatch.setattr("llara_eval.core.leases._POLL", 0.01)


def fill_store(
    folder: StoreFolder, encoder: CountingEncoder | None = None, lease_seconds: float = 600.0
) -> tuple[VectorStore, dict[str, float]]:
    store = VectorStore(folder / "vectors", {"checkpoint": "abc"}, "x")
    tokens = TokenStore(folder / "tokens", TOKENIZER, TEMPLATE)
    encoder = encoder or CountingEncoder()
    cost = fill(
        store, encoder, tokens, iter(ITEMS), "document", total=len(ITEMS), lease_seconds=lease_seconds
    )
    return store, cost


def fill_at(
    url: str, home: Path, encoder: CountingEncoder | None = None
) -> tuple[VectorStore, dict[str, float]]:
    return fill_store(open_store_folder(url, home), encoder)


def contents(address: str) -> dict[str, bytes]:
    """Return name → bytes of all files but the records of shards, which hold times."""
    file_system, root = fsspec.core.url_to_fs(address)
    files = {str(path).removeprefix(root): file_system.cat_file(path) for path in file_system.find(root)}
    listings = {name.replace(".ids", ".json") for name in files if name.endswith(".ids")}
    return {
        name: data
        for name, data in files.items()
        if not name.endswith(".json") or name in listings or name.endswith("/key.json")
    }


@pytest.fixture
def local(tmp_path) -> dict[str, bytes]:
    """Return the files of a store in a local folder."""
    fill_store(StoreFolder(tmp_path / "local"))
    return contents(f"file://{tmp_path}/local")


def rows(store: VectorStore) -> list[tuple[str, list[float]]]:
    return [(i, row.tolist()) for shard in store for i, row in zip(shard.ids, shard.vectors, strict=True)]


def test_a_url_has_the_same_files_as_a_folder(url, local, tmp_path) -> None:
    fill_at(url, tmp_path / "home")
    assert contents(url) == local
    assert len(local) > 10


def test_another_machine_encodes_nothing_and_copies_what_it_reads(url, tmp_path) -> None:
    first, _ = fill_at(url, tmp_path / "home")
    encoder = CountingEncoder()
    second, cost = fill_at(url, tmp_path / "other", encoder)
    assert (encoder.sequences, cost["reused"], cost["rows"]) == ([], 60, 60)
    assert not list((tmp_path / "other").rglob("*.np?")), "nothing is copied before it is read"
    assert rows(second) == rows(first)
    assert isinstance(next(iter(second)).vectors, np.memmap)
    assert not list((tmp_path / "other").rglob("*.npz"))


def test_machines_share_the_work(url, local, tmp_path) -> None:
    class Slow(CountingEncoder):
        def start(self, sequences, side, advance):
            time.sleep(0.1)
            return super().start(sequences, side, advance)

    encoders = [Slow() for _ in range(3)]

    def work(number: int) -> None:
        fill_at(url, tmp_path / f"home {number}", encoders[number])

    threads = [threading.Thread(target=work, args=[number]) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents(url) == local
    assert sum(len(each.sequences) for each in encoders) >= 60
    assert max(len(each.sequences) for each in encoders) < 60


def test_vectors_of_this_machine_are_copied_to_the_url_and_not_encoded_again(url, local, tmp_path) -> None:
    fill_store(StoreFolder(tmp_path / "home"))
    encoder = CountingEncoder()
    _, cost = fill_at(url, tmp_path / "home", encoder)
    assert (encoder.sequences, cost["reused"]) == ([], 60)
    shared = contents(url)
    assert shared == {name: data for name, data in local.items() if name.startswith("/vectors")}


@pytest.mark.parametrize("how", ["flip", "truncate", "remove"])
def test_a_damaged_shard_at_the_url_is_noticed_when_it_is_read_and_made_again(
    url, local, tmp_path, how
) -> None:
    store, _ = fill_at(url, tmp_path / "home")
    shard = store.listing.shards[1]
    files, root = fsspec.core.url_to_fs(f"{url}/vectors/{store.folder.path.name}/{shard.content}.npy")
    data = files.cat_file(root)
    if how == "remove":
        files.rm_file(root)
    else:
        files.pipe_file(root, data[:-3] if how == "truncate" else data[:-1] + bytes([data[-1] ^ 1]))
    other, _ = fill_at(url, tmp_path / "other")
    with pytest.raises(DataError, match=f"{shard.content}.npy is damaged; give the same command again"):
        rows(other)
    encoder = CountingEncoder()
    other, _ = fill_at(url, tmp_path / "other", encoder)
    assert len(encoder.sequences) == shard.rows
    assert rows(other) == rows(store)
    assert contents(url) == local


def test_a_lost_shard_is_sent_again_by_a_machine_that_has_it(url, local, tmp_path) -> None:
    store, _ = fill_at(url, tmp_path / "home")
    lost = RemoteFiles.open(f"{url}/vectors/{store.folder.path.name}")
    lost.delete(f"{store.listing.shards[1].content}.npy")
    encoder = CountingEncoder()
    fill_at(url, tmp_path / "home", encoder)
    assert encoder.sequences == []
    assert contents(url) == local


def test_damaged_token_ids_at_the_url_are_made_again(url, local, tmp_path) -> None:
    fill_at(url, tmp_path / "home")
    files, root = fsspec.core.url_to_fs(url)
    files.pipe_file(next(name for name in files.find(root) if name.endswith(".npz")), b"PK")
    files.rm(f"{root}/vectors", recursive=True)
    other = tmp_path / "other"
    with pytest.raises(DataError, match=r"token ids of shard .* are damaged; run this again"):
        fill_at(url, other)
    fill_at(url, other)
    assert contents(url) == local


def test_a_store_with_another_key_at_the_url_is_refused(url, tmp_path) -> None:
    store, _ = fill_at(url, tmp_path / "home")
    files, root = fsspec.core.url_to_fs(f"{url}/vectors/{store.folder.path.name}/key.json")
    files.pipe_file(root, b'{"checkpoint": "other"}')
    with pytest.raises(DataError, match="holds another key"):
        fill_at(url, tmp_path / "other")
    fill_store(StoreFolder(tmp_path / "other"))


class Flaky(LocalFileSystem):
    """A file system that fails at its nth operation, in the middle of it when it writes."""

    protocol = ("flaky",)
    cachable = False
    left = 0

    def __getattribute__(self, name: str):
        value = super().__getattribute__(name)
        if name not in ("cat_file", "pipe_file", "mv", "rm_file", "exists", "ls", "makedirs"):
            return value

        def operation(path, *words, **named):
            Flaky.left -= 1
            if Flaky.left == 0:
                if name == "pipe_file":
                    Path(path).write_bytes(words[0][: len(words[0]) // 2])
                raise ConnectionResetError("the network is gone")
            return value(path, *words, **named)

        return operation


def test_a_network_that_fails_anywhere_leaves_no_half_written_file_and_the_same_command_ends(
    local, tmp_path
) -> None:
    failures, remote = 0, tmp_path / "remote"
    for operation in range(1, 1000):
        Flaky.left = operation
        folder = RemoteFolder(tmp_path / "home", RemoteFiles(Flaky(), str(remote)))
        try:
            fill_store(folder)
        except LlaraEvalError as error:  # the leases may stay, and this process lives on
            failures += 1
            assert "the network is gone" in str(error)
            assert "it goes on from what is finished" in str(error)
            files = contents(f"file://{remote}") if remote.exists() else {}
            complete = {name: data for name, data in files.items() if not name.endswith((".tmp", ".lease"))}
            assert complete.items() <= local.items()
            Flaky.left = 0
            fill_store(folder, lease_seconds=0.01)
        else:
            break
        assert contents(f"file://{remote}") == local
        assert not list(remote.rglob("*.tmp"))
        shutil.rmtree(remote)
        shutil.rmtree(tmp_path / "home")
    assert failures > 90


def test_drafts_of_finished_work_are_removed_and_others_are_kept(url, local, tmp_path) -> None:
    store, _ = fill_at(url, tmp_path / "home")
    files = RemoteFiles.open(f"{url}/vectors/{store.folder.path.name}")
    done = store.listing.shards[0].content
    files.write(f".{done}.npy.abc.tmp", b"half")
    (files / "leases").write(f".{done}.lease.abc.tmp", b"half")
    files.write(".other.npy.abc.tmp", b"half")
    fill_at(url, tmp_path / "home")
    added = contents(url).keys() - local.keys()
    assert [name.rpartition("/")[2] for name in added] == [".other.npy.abc.tmp"]


def test_a_writer_whose_draft_is_removed_writes_again(url, monkeypatch) -> None:
    files = RemoteFiles.open(url)
    usual, drafts = files.file_system.mv, []

    def mv(draft, path, **named):
        if not drafts:
            files.delete_leftovers({"done"}, ".tmp")
        drafts.append(draft)
        usual(draft, path, **named)

    monkeypatch.setattr(files.file_system, "mv", mv)
    files.write("done.npy", b"whole")
    assert len(set(drafts)) == 2
    assert files.names() == ["done.npy"]
    assert files.read("done.npy") == b"whole"


def test_addresses_that_cannot_be_opened_are_refused(tmp_path, monkeypatch) -> None:
    with pytest.raises(
        LlaraEvalError, match=r"file:///proc/x/vectors/\w+: cannot make it \(FileNotFoundError"
    ):
        fill_at("file:///proc/x", tmp_path)
    with pytest.raises(UsageError, match="nowhere://x: Protocol not known"):
        open_store_folder("nowhere://x", tmp_path)
    with pytest.raises(UsageError, match="'://x' has no protocol"):
        open_store_folder("://x", tmp_path)
    with pytest.raises(LlaraEvalError, match=r"ftp://127.0.0.1:1/x: cannot be opened \(ConnectionRefused"):
        open_store_folder("ftp://127.0.0.1:1/x", tmp_path)
    with pytest.raises(LlaraEvalError, match=r"/proc/x/.* cannot be written \(No such file or directory\)"):
        open_store_folder("/proc/x", tmp_path).of_key({}).claim({})
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingPartError, match="s3://bucket/x: Install s3fs"):
        open_store_folder("s3://bucket/x", tmp_path)
    assert type(open_store_folder(None, tmp_path)) is StoreFolder
    assert open_store_folder("~/x", tmp_path).path == Path.home() / "x"


@pytest.mark.parametrize("by", ["option", "variable"])
def test_encode_and_evaluate_use_the_store_they_are_told(make_collection, tmp_path, monkeypatch, by) -> None:
    from tiny_models import save_checkpoint

    model = save_checkpoint(tmp_path / "model")
    data = make_collection({"d1": "red", "d2": "blue"}, {"q": "red"}, {"q": {"d1": 1}})
    monkeypatch.setenv("LLARA_EVAL_HOME", str(tmp_path / "home"))
    store = ["--store", f"file://{tmp_path}/shared"]
    if by == "variable":
        monkeypatch.setenv("LLARA_EVAL_STORE", store[1])
        store = []
    words = ["-m", str(model), "-d", str(data), *store, "--json"]
    result = CliRunner().invoke(app, ["encode", *words])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["documents"]["vectors"].startswith(f"file://{tmp_path}/shared/vectors/")
    assert list((tmp_path / "shared" / "vectors").rglob("*.npy"))
    monkeypatch.setenv("LLARA_EVAL_HOME", str(tmp_path / "other"))
    again = CliRunner().invoke(app, ["evaluate", *words, "--runs-dir", str(tmp_path / "runs")])
    assert again.exit_code == 0, again.stderr
    (record,) = (tmp_path / "runs").rglob("result.json")
    phases = json.loads(record.read_text())["phases"]
    assert (phases["index"]["reused"], phases["encode queries"]["reused"]) == (2, 1)
    assert any((tmp_path / "other" / "vectors").iterdir())


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket/x",
        "github://owner:name@/x",
        "https://host/x",
        "ssh://host/x",
        "simplecache::file:///x",
        "x://y",
    ],
)
def test_without_the_network_only_stores_of_this_machine_are_opened(tmp_path, monkeypatch, address):
    monkeypatch.setattr(RemoteFiles, "open", None)
    with pytest.raises(UsageError, match="--offline"):
        open_store_folder(address, tmp_path, offline=True)


def test_stores_of_this_machine_need_no_network(tmp_path, url):
    assert isinstance(open_store_folder(url, tmp_path, offline=True), RemoteFolder)
    assert str(open_store_folder(str(tmp_path / "x"), tmp_path, offline=True)) == str(tmp_path / "x")
