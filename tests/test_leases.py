import os
import subprocess
import sys
import threading
import time

import pytest

from llara_eval.leases import Leases


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


def test_one_of_many_gets_it(tmp_path) -> None:
    start, taken = threading.Barrier(16), []

    def run() -> None:
        leases = Leases(tmp_path)
        start.wait()
        taken.append(leases.take("a"))

    threads = [threading.Thread(target=run) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 1
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
from llara_eval.leases import Leases
Leases(Path({str(tmp_path)!r})).take("a")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    lease = tmp_path / "a.lease"
    (tmp_path / "b.lease").write_text(lease.read_text().replace('"host": "', '"host": "other'))
    leases = Leases(tmp_path)
    assert leases.take("a")
    assert not leases.take("b")


def test_waiting_ends_when_the_holder_gives_it_back(two) -> None:
    one, other = two
    one.take("a")
    threading.Timer(0.2, one.release, ["a"]).start()
    with other.hold("a", wait=True) as mine:
        assert mine
    with one.hold("a") as mine, other.hold("a") as also:
        assert (mine, also) == (True, False)
    assert one.take("a")
