"""Damage to single files, and what each part does about it: nothing damaged is used, everything is named."""

import errno
import fcntl
import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from fakes import FakeRetriever
from stores import CountingEncoder
from tiny_models import make_tokenizer
from typer.testing import CliRunner

from llara_eval import cli
from llara_eval.core import files
from llara_eval.core.errors import DataError, LlaraEvalError, UsageError
from llara_eval.core.files import atomic_write, draft, write_json, write_text
from llara_eval.core.leases import Leases
from llara_eval.core.sealed import seal, sealed
from llara_eval.datasets.load import load
from llara_eval.encoding.templates import Template
from llara_eval.evaluation import evaluate, suite
from llara_eval.evaluation.record import RUN
from llara_eval.vectors import shards, vector_store
from llara_eval.vectors.shards import Listing, Shard
from llara_eval.vectors.store_folder import StoreFolder
from llara_eval.vectors.token_store import TokenStore
from llara_eval.vectors.vector_store import VectorStore, fill

ITEMS = [(f"d{i}", f"text number {i}") for i in range(60)]
TEMPLATE = Template(suffix=("</s>",), max_length=16)


def fill_store(root: Path, encoder=None) -> tuple[VectorStore, TokenStore]:
    store = VectorStore(StoreFolder(root / "vectors"), {"checkpoint": "abc"}, "x")
    tokens = TokenStore(StoreFolder(root / "tokens"), make_tokenizer(), TEMPLATE)
    fill(store, encoder or CountingEncoder(), tokens, iter(ITEMS), "document", total=len(ITEMS))
    return store, tokens


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_SIZE", 16)


# Files


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path) -> None:
    target = tmp_path / "a[1].json"
    code = f"""
import os, signal
from pathlib import Path
from llara_eval.core.files import draft
with draft(Path({str(target)!r})) as (file, name):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    (left,) = tmp_path.iterdir()
    with draft(target) as (file, name):
        assert not left.exists()
        write_text(target, "another writer")
        file.write(b"the first")
        assert name.exists()
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_a_draft_of_another_machine_is_kept_if_its_lock_cannot_be_seen(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(files, "HOST", "other")
        writer = atomic_write(tmp_path / "a")
        writer.__enter__().write(b"theirs")
    write_text(tmp_path / "a", "ours")
    files.remove_drafts(tmp_path)
    writer.__exit__(None, None, None)
    assert (tmp_path / "a").read_text() == "theirs"


def test_what_another_machine_left_is_removed_when_it_is_old(tmp_path) -> None:
    (left := tmp_path / ".a.other.abc.tmp").touch()
    files.remove_drafts(tmp_path)
    assert left.exists()
    os.utime(left, (0, 0))
    files.remove_drafts(tmp_path)
    assert not left.exists()


def test_a_draft_that_is_removed_before_it_is_locked_is_made_again(tmp_path, monkeypatch) -> None:
    usual, seen = fcntl.flock, []

    def flock(handle, how):
        if not seen:
            seen.extend(tmp_path.iterdir())
            seen[0].unlink()
        usual(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    write_text(tmp_path / "a", "text")
    assert len(seen) == 1
    assert (tmp_path / "a").read_text() == "text"


def test_a_file_is_synchronised_before_it_is_named_and_its_folder_afterwards(tmp_path, monkeypatch) -> None:
    steps, target = [], tmp_path / "a"
    monkeypatch.setattr(os, "fsync", lambda handle: steps.append((os.fstat(handle).st_ino, target.exists())))
    write_text(target, "text")
    assert steps == [(target.stat().st_ino, False), (tmp_path.stat().st_ino, True)]


def test_a_folder_that_cannot_be_synchronised_is_no_error(tmp_path, monkeypatch) -> None:
    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    number = errno.EINVAL
    write_text(tmp_path / "a", "text")
    number = errno.EIO
    with pytest.raises(LlaraEvalError, match="Input/output error"):
        write_text(tmp_path / "b", "text")


def test_a_full_disk_gives_a_message_that_is_true_of_every_command(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(LlaraEvalError, match=r"a cannot be written \(No space .*Free some space") as caught:
        write_text(tmp_path / "a", "text")
    assert "--" not in str(caught.value), "not every command has that option"


def test_an_error_of_another_file_is_raised_as_it_is(tmp_path) -> None:
    with pytest.raises(PermissionError), atomic_write(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "Permission denied", "/another/file")
    assert list(tmp_path.iterdir()) == []


# Records


@pytest.fixture
def record(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "x.bin").write_bytes(b"some content")
    seal(tmp_path / "x.json", hashlib.sha256(b"some content"), {"rows": 12, "seconds": 0.125})
    return tmp_path / "x.json", tmp_path / "x.bin"


def test_a_bit_that_flips_in_a_file_or_its_record_is_noticed_or_harmless(record) -> None:
    facts = sealed(*record)
    assert facts == {"rows": 12, "seconds": 0.125}
    for path in record:
        whole = path.read_bytes()
        for bit in range(8 * len(whole)):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            assert sealed(*record) in (None, facts)
        for length in range(len(whole) - 1):
            path.write_bytes(whole[:length])
            assert sealed(*record) is None
        path.write_bytes(whole)


@pytest.mark.parametrize("text", ["[]", "7", "null", '"sha256"', "{}"])
def test_what_is_not_a_record_is_none(record, text) -> None:
    record[0].write_text(text)
    assert sealed(*record) is None


@pytest.mark.parametrize("text", ["", '{"checkpoint": "ab', '{"checkpoint": "other"}', "[]", "\udcff"])
def test_a_folder_of_another_key_or_a_damaged_one_is_refused(tmp_path, text) -> None:
    store, tokens = fill_store(tmp_path)
    for folder in (tokens.folder.path, store.folder.path):
        key = folder / "key.json"
        whole = key.read_bytes()
        key.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(DataError, match=r"key\.json holds another key, or is damaged; delete "):
            tokens.prepare("y", iter(ITEMS), total=None)
            fill_store(tmp_path)
        key.write_bytes(whole)
    fill_store(tmp_path)


def test_a_key_is_compared_as_it_reads_back(tmp_path) -> None:
    for _ in range(2):
        StoreFolder(tmp_path).claim({"b": (1, 2), "a": "é"})
    with pytest.raises(DataError):
        StoreFolder(tmp_path).claim({"b": (1, 3), "a": "é"})


# Shards


def test_a_listing_whose_numbers_were_changed_is_not_whole(tmp_path) -> None:
    with Listing.writer(StoreFolder(tmp_path), "x") as add:
        add(Shard("one", ["d1", "d2"], []))
        add(Shard("two", ["d3"], []))
    path = tmp_path / "x.json"
    value = json.loads(path.read_text())
    value["shards"][0][2] += 1
    write_json(path, value)
    assert Listing.load(StoreFolder(tmp_path), "x") is None


def test_identifiers_that_rot_while_their_texts_are_encoded_are_not_taken_over(tmp_path) -> None:
    class Rotting(CountingEncoder):
        def start(self, *arguments):
            (path,) = (tmp_path / "tokens").rglob("*.ids")
            path.write_bytes(path.read_bytes().replace(b"d7\n", b"d9\n"))
            return super().start(*arguments)

    with pytest.raises(DataError, match="a file differs from what was written; run this again"):
        fill_store(tmp_path, Rotting())
    store, _ = fill_store(tmp_path)
    assert [identifier for shard in store for identifier in shard.ids] == [name for name, _ in ITEMS]


def test_any_bit_of_the_directory_of_a_shard_of_token_ids_may_flip(tmp_path) -> None:
    tokens = TokenStore(StoreFolder(tmp_path), make_tokenizer(), TEMPLATE)
    (shard,) = tokens.prepare("x", iter(ITEMS[:2]), total=None).shards
    before = [list(row) for row in tokens.read(shard.content)]
    path = tokens.folder.path / f"{shard.content}.npz"
    whole = path.read_bytes()
    for bit in range(8 * whole.index(b"PK\1\2"), 8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        after = tokens.read(shard.content)
        assert after is None or [list(row) for row in after] == before


def test_a_shard_that_is_written_again_is_whole_at_any_instant(tmp_path, monkeypatch) -> None:
    store, _ = fill_store(tmp_path)
    shard = store.listing.shards[1]
    again = np.load(store.folder.path / f"{shard.content}.npy").astype(np.float32)
    seen = []

    def write(path):
        seen.append(store.record(shard.content) is not None)
        return atomic_write(path)

    monkeypatch.setattr(vector_store, "atomic_write", write)
    store.write(shard.content, again, {"seconds": 0.0, "tokens": 1, "padded": 1})
    seen.append(store.record(shard.content) is not None)
    assert seen == [True, True]


# Leases


def test_a_zombie_does_not_hold_a_lease(tmp_path) -> None:
    code = f"""
from pathlib import Path
from llara_eval.core.leases import Leases
Leases(Path({str(tmp_path)!r})).take("a")
"""
    holder = subprocess.Popen([sys.executable, "-c", code])
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert (tmp_path / "a.lease").exists()
        assert Leases(tmp_path).take("a")
    finally:
        holder.wait()


def test_what_killed_workers_left_in_a_store_that_others_completed_is_removed(tmp_path) -> None:
    store, tokens = fill_store(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for folder, work in ((store.folder.path, store.listing.shards[0].content), (tokens.folder.path, "x")):
        Leases(folder / "leases").take(work)
        for left in (folder / ".key.json.abc.tmp", folder / "leases" / f".{work}.lease.abc.tmp"):
            left.touch()
            os.utime(left, (0, 0))
    Leases(store.folder.path / "leases").take("another collection's shard")
    fill_store(tmp_path)
    added = set(tmp_path.rglob("*")) - set(before)
    assert [path.name for path in added] == ["another collection's shard.lease"]


# Results


@pytest.mark.parametrize("damage", ["another", "truncated"])
def test_a_result_whose_run_was_damaged_is_not_kept(make_collection, tmp_path, damage) -> None:
    collection = make_collection({"d1": "a", "d2": "b"}, {"q1": "a"}, {"q1": {"d1": 1}})
    dataset = load(str(collection), data_dir=tmp_path)
    system = FakeRetriever({"q1": {"d1": 2.0, "d2": 1.0}})
    outcome = evaluate.evaluate(system, dataset, runs_dir=tmp_path / "runs", measures=["nDCG@10"])
    run = outcome.folder / RUN
    whole = run.read_bytes()
    if damage == "another":
        write_text(run, "q1\tQ0\td2\t1\t2.0\tfake\n")
    else:
        run.write_bytes(whole[:-9])
    with pytest.raises(UsageError, match="on_existing='always'"):
        evaluate.evaluate(system, dataset, runs_dir=tmp_path / "runs", measures=["nDCG@10"])
    evaluate.evaluate(system, dataset, runs_dir=tmp_path / "runs", measures=["nDCG@10"], on_existing="always")
    assert run.read_bytes() == whole


# The command line


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (LlaraEvalError("x.npy cannot be written"), "error: x.npy cannot be written"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "error: No space left on device; the same command goes on from what is finished",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "corpus.jsonl"),
            "error: Permission denied (corpus.jsonl); the same command goes on from what is finished",
        ),
    ],
)
def test_what_the_system_refuses_is_one_sentence(monkeypatch, tmp_path, error, message) -> None:
    def refuse(*names, **settings):
        raise error

    monkeypatch.setattr(suite, "evaluate_all", refuse)
    done = CliRunner().invoke(cli.app, ["evaluate", "-m", "x", "-d", "x", "--data-dir", str(tmp_path)])
    assert done.exit_code == 1
    assert done.stderr.strip() == message


def test_an_error_of_the_program_keeps_its_trace(monkeypatch, tmp_path) -> None:
    def fail(*names, **settings):
        raise KeyError("a name that the program should know")

    monkeypatch.setattr(suite, "evaluate_all", fail)
    done = CliRunner().invoke(cli.app, ["evaluate", "-m", "x", "-d", "x", "--data-dir", str(tmp_path)])
    assert isinstance(done.exception, KeyError)
