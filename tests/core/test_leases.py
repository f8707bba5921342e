import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from llara_eval.core import leases as module
from llara_eval.core.leases import Holder, Leases


@pytest.fixture
def two(tmp_path) -> tuple[Leases, Leases]:
    return Leases(tmp_path), Leases(tmp_path)


def test_a_lease_has_one_holder(two) -> None:
    one, other = two
    assert one.take("a")
    assert not other.take("a")
    assert other.take("b")
    one.release("a")
    assert other.take("a")


def times_taken(folder, name: str, workers: int, tries: int = 1) -> int:
    """Return how often a lease is taken where many workers try at once."""
    start, taken = threading.Barrier(workers), []

    def run() -> None:
        leases = Leases(folder)
        start.wait()
        taken.extend(leases.take(name) for _ in range(tries))

    threads = [threading.Thread(target=run) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(taken)


def test_one_of_many_gets_it(tmp_path) -> None:
    assert times_taken(tmp_path, "a", 16) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.lease"]


def test_a_silent_holder_loses_it_and_does_not_give_back_what_is_anothers(two, tmp_path) -> None:
    one, other = two
    one.take("a")
    hour_ago = time.time() - 3600
    os.utime(tmp_path / "a.lease", (hour_ago, hour_ago))
    assert other.take("a")
    one.release("a")
    assert not one.take("a")


def test_a_sign_of_life_keeps_it(two, tmp_path) -> None:
    one, other = two
    one.take("a")
    hour_ago = time.time() - 3600
    os.utime(tmp_path / "a.lease", (hour_ago, hour_ago))
    one.renew("a")
    assert not other.take("a")


def test_a_holder_that_died_here_is_noticed_at_once_one_elsewhere_is_not(tmp_path) -> None:
    code = f"""
from pathlib import Path
from llara_eval.core.leases import Leases
Leases(Path({str(tmp_path)!r})).take("a")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    lease = tmp_path / "a.lease"
    (tmp_path / "b.lease").write_text(lease.read_text().replace('"host": "', '"host": "other'))
    leases = Leases(tmp_path)
    assert leases.take("a")
    assert not leases.take("b")


@pytest.mark.parametrize("left", [0, 100], ids=["a moment ago", "by one that was killed"])
def test_a_late_worker_does_not_remove_the_lease_of_the_first(two, tmp_path, left) -> None:
    """Both have seen the lease of a dead process; one has taken it over when the other wants to remove it."""
    one, other = two
    dead = Holder(socket.gethostname(), 1 << 30, "dead")
    path = tmp_path / "a.lease"
    path.write_text(json.dumps(asdict(dead)))
    assert one.take("a")
    other._remove("a", dead, time.time())
    assert not other.take("a")
    right = tmp_path / "a.dead.takeover"  # somebody is about to remove it
    path.write_text(json.dumps(asdict(dead)))
    right.touch()
    os.utime(right, (time.time() - left, time.time() - left))
    assert not other.take("a")
    assert other.take("a") == (left > 0)
    assert right.exists() == (left == 0)


@pytest.mark.parametrize("content", [b"", b'{"ho', b"[1]", b'{"host": 7, "pid": "x"}', b"\xff"])
def test_a_damaged_lease_belongs_to_no_worker_and_expires(tmp_path, content) -> None:
    (tmp_path / "a.lease").write_bytes(content)
    leases = Leases(tmp_path)
    assert leases.holder("a") == Holder()
    assert not leases.take("a")
    os.utime(tmp_path / "a.lease", (0, 0))
    assert leases.take("a")


def test_only_one_of_many_takes_over(tmp_path) -> None:
    for attempt in range(20):
        name = f"a{attempt}"
        (tmp_path / f"{name}.lease").write_text(json.dumps({"host": "", "pid": 0, "id": "lost"}))
        os.utime(tmp_path / f"{name}.lease", (0, 0))
        assert times_taken(tmp_path, name, 8, tries=5) == 1


def test_after_a_while_a_warning_names_the_holder(two, monkeypatch, tmp_path) -> None:
    warnings = []

    def release(message: str) -> None:
        warnings.append(message)
        one.release("a")

    monkeypatch.setattr(module, "_PATIENCE", 0.0)
    monkeypatch.setattr(module, "_POLL", 0.01)
    monkeypatch.setattr(module.logger, "warning", release)
    one, other = two
    one.take("a")
    with other.hold("a", wait=True) as taken:
        assert taken
    assert f"waiting for process {os.getpid()} on {socket.gethostname()}" in warnings[0]
    assert f"holds {tmp_path / 'a.lease'}, until it has given no sign of life for 600 seconds" in warnings[0]


def test_a_lease_from_the_future_expires_by_the_clock_of_the_worker_that_waits(tmp_path, monkeypatch) -> None:
    """Another machine's clock may be wrong by years; what counts then is how long nothing changes."""
    now = 0.0
    monkeypatch.setattr(Leases, "_now", staticmethod(lambda: now))
    leases, path = Leases(tmp_path, expires=60.0), tmp_path / "a.lease"
    path.write_text(json.dumps(asdict(Holder("elsewhere", 1, "x"))))
    future = time.time() + 1e8
    os.utime(path, (future, future))
    assert not leases.take("a")
    now = 59.0
    assert not leases.take("a")
    os.utime(path, (future + 1, future + 1))  # a renewal
    now = 61.0
    assert not leases.take("a")
    now = 122.0
    assert leases.take("a")


def test_waiting_ends_when_the_holder_gives_it_back(two, monkeypatch) -> None:
    clock = SimpleNamespace(monotonic=time.monotonic, time=time.time, sleep=lambda _: one.release("a"))
    monkeypatch.setattr(module, "time", clock)
    one, other = two
    one.take("a")
    with other.hold("a", wait=True) as taken:
        assert taken
    with one.hold("a") as by_one, other.hold("a") as by_other:
        assert (by_one, by_other) == (True, False)
    assert one.take("a")


@pytest.mark.parametrize(
    "odd",
    [
        {"id": "../../other"},
        {"id": "a" * 300},
        {"id": ""},
        {"pid": 10**30},
        {"pid": 2**31},
        {"pid": 0},
        {"pid": -1},
    ],
    ids=str,
)
def test_a_lease_with_an_impossible_holder_is_nobodys_and_expires(tmp_path, odd) -> None:
    leases, path = Leases(tmp_path / "leases", expires=60), tmp_path / "leases" / "a.lease"
    path.parent.mkdir()
    path.write_text(json.dumps({**asdict(Holder(socket.gethostname(), os.getpid(), "1f" * 16)), **odd}))
    assert leases.holder("a") == Holder()
    assert not leases.take("a")
    os.utime(path, (0, 0))
    assert leases.take("a") or leases.take("a")
    assert [file.name for file in tmp_path.iterdir()] == ["leases"]
    assert [file.name for file in path.parent.iterdir()] == ["a.lease"]


def test_a_lease_that_nests_is_nobodys() -> None:
    assert Holder.of(b"[" * 200_000) == Holder()
