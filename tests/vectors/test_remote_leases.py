"""Leases at URLs of fsspec: one holder, who loses a lease that it does not renew."""

import subprocess
import sys
from dataclasses import replace

import fsspec
import pytest

from llara_eval.core.leases import Leases
from llara_eval.vectors.remote import open_store_folder


class Clock:
    """A clock that stands still until it is told how many seconds pass."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(Leases, "_now", staticmethod(clock))
    return clock


@pytest.fixture
def two(url, tmp_path, clock):
    """Return the leases of two workers on two machines, which expire after 60 seconds."""
    pair = [(open_store_folder(url, tmp_path / name) / "x").leases(60.0) for name in ("one", "other")]
    pair[1]._owner = replace(pair[1]._owner, host="elsewhere")
    return pair


def test_a_lease_has_one_holder(two, url) -> None:
    one, other = two
    assert one.take("a")
    assert one.address("a").endswith(f"{url.rpartition('://')[2]}/x/leases/a.lease")
    assert not other.take("a")
    assert other.take("b")
    other.release("a")
    assert not other.take("a"), "it was not the other's to give back"
    one.release("a")
    assert other.take("a")


def test_a_late_worker_does_not_remove_the_lease_of_the_first(two, clock, monkeypatch) -> None:
    """Both see an abandoned lease, and one has taken it over when the other would."""
    one, other = two
    one._files.write("a.lease", b"{")
    assert not one.take("a") and not other.take("a")
    clock.passes(61)
    read = other._files.read

    def later(name):
        held = read(name)
        monkeypatch.setattr(other._files, "read", read)
        assert one.take("a")
        return held

    monkeypatch.setattr(other._files, "read", later)
    assert not other.take("a")
    assert one.holder("a").id == one._owner.id


def test_a_silent_holder_loses_a_lease_and_one_that_renews_it_does_not(two, clock) -> None:
    one, other = two
    one.take("a")
    for _ in range(5):
        assert not other.take("a")
        clock.passes(30)
        one.renew("a")
    assert not other.take("a")
    clock.passes(61)
    assert other.take("a")
    one.renew("a")
    one.release("a")
    assert not one.take("a")


def test_a_holder_that_died_on_this_machine_is_noticed_at_once(two, url, tmp_path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    one, other = two
    one._owner = replace(one._owner, pid=dead.pid)
    assert one.take("a")
    assert not other.take("a"), "a process of another machine may have any number"
    same = (open_store_folder(url, tmp_path / "same") / "x").leases(60.0)
    assert same.take("a")


def test_leases_of_work_that_is_done_are_removed(two, url) -> None:
    one, _ = two
    one.take("done")
    one.take("not done")
    one.remove_leftovers({"done"})
    files, root = fsspec.core.url_to_fs(url)
    assert [name.rpartition("/")[2] for name in files.find(root)] == ["not done.lease"]


@pytest.mark.parametrize("content", [b'{"ho', b"[1]", b'{"host": 7, "pid": "x"}', b"\xff"])
def test_a_lease_that_is_damaged_expires_too(two, clock, url, content) -> None:
    one, _ = two
    files, root = fsspec.core.url_to_fs(url)
    one.take("b")
    files.pipe_file(f"{root}/x/leases/a.lease", content)
    assert not one.take("a")
    clock.passes(61)
    assert one.take("a")
