"""Evaluations that are killed, stopped, run at once or lack space: the command ends with the same files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
import survivor
from checkout import ROOT
from survivor import BOARD_SIZE, STAGES, Accident
from written import contents, prepare


class Lab:
    """A collection, a checkpoint, and a process that evaluates one on the other in its children."""

    def __init__(self, folder: Path) -> None:
        self.home, self.runs = folder / "home", folder / "runs"
        self.home.mkdir()
        self._boards = folder / "boards"
        self._boards.mkdir()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, survivor.__file__, self.home, *prepare(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environment, "PYTHONPATH": str(ROOT)},
        )
        assert self._process.stdout.readline() == "ready\n"
        started = time.perf_counter()
        assert self.run() == 0
        self.seconds = time.perf_counter() - started
        self.lines: dict[str, int] = json.loads(self.report)
        self.alone = self.contents()

    def ask(self, *words: Any) -> int:
        self._process.stdin.write(json.dumps(words, default=str) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(self, accident: Accident = Accident()) -> int:  # noqa: B008
        self._board = self._boards / str(len(list(self._boards.iterdir())))
        self._board.write_bytes(bytes(BOARD_SIZE))
        return self.ask("start", self.runs, self._board, accident)

    def run(self, accident: Accident = Accident()) -> int:  # noqa: B008
        return self.ask("wait", self.start(accident))

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()

    @property
    def stage(self) -> str | None:
        """The stage in which the child that was started last is, or was when it died."""
        number = self._board.read_bytes()[0]
        return STAGES[number - 1] if number else None

    @property
    def report(self) -> str:
        return self._board.read_bytes()[1:].decode().strip()

    def forget(self) -> None:
        """Delete all files of earlier runs."""
        for left in [*self.home.iterdir(), *self.runs.glob("*")]:
            shutil.rmtree(left)

    def contents(self) -> dict[str, Any]:
        """Return path → content of all files, without times and costs."""
        return contents(self.home) | contents(self.runs)

    def is_as_if_left_alone(self) -> bool:
        """Whether all files, leases and drafts too, are equal to those of a run without accidents."""
        contents = self.contents()
        assert sorted(contents) == sorted(self.alone)
        return contents == self.alone


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.close()


@pytest.fixture
def lab(built: Lab) -> Lab:
    built.forget()
    return built


@pytest.mark.slow
def test_a_run_without_accidents_ends_with_the_same_files_twice(lab) -> None:
    assert lab.run() == 0
    assert lab.is_as_if_left_alone()
    kinds = Counter(Path(name).suffix for name in lab.alone)
    assert kinds[".npy"] == kinds[".npz"] > 5
    assert (kinds[".ids"], kinds[".gz"], kinds[".tsv"]) == (4, 1, 1)


@pytest.mark.slow
def test_killed_at_fifty_two_instants_it_ends_byte_identical(lab) -> None:
    random, hits, ends = Random(0), Counter(), 0
    by_line = [stage for stage in STAGES for _ in range(9)]
    for stage in random.sample(by_line + [None] * 16, 52):
        while True:
            if stage is not None:  # before any of the lines that it runs there
                line = random.randint(1, lab.lines[stage])
                ended = lab.run(Accident(stage, line, signal.SIGKILL))
            else:  # at any time at all, in the middle of a system call too
                child = lab.start()
                time.sleep(random.uniform(0, lab.seconds))
                os.kill(child, signal.SIGKILL)
                ended = lab.ask("wait", child)
            if ended != 0:
                break
            assert lab.is_as_if_left_alone()
            lab.forget()
            ends += 1
        assert ended == -signal.SIGKILL, lab.report
        assert stage in (None, lab.stage)
        hits[lab.stage] += 1
    assert lab.run() == 0
    assert lab.is_as_if_left_alone()
    assert sum(hits.values()) == 52
    assert min(hits[stage] for stage in STAGES) >= 9
    assert ends >= 3


@pytest.mark.slow
def test_two_at_once_one_of_them_killed_again_and_again(lab) -> None:
    random = Random(1)
    steady, others = lab.start(), []
    for _ in range(12):
        others.append(lab.start())
        time.sleep(random.uniform(0, lab.seconds / 4))
        os.kill(others[-1], signal.SIGKILL)
    assert lab.ask("wait", steady) == 0  # nobody waits for the killed processes: they are zombies
    assert {lab.ask("wait", other) for other in others} <= {0, -signal.SIGKILL}
    assert lab.run() == 0
    assert lab.is_as_if_left_alone()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "share"), [("tokenise", 0.5), ("encode", 0.5), ("write", 0.2), ("write", 0.6)]
)
def test_what_a_hanging_worker_holds_is_done_by_another(lab, stage, share) -> None:
    accident = Accident(stage, int(share * lab.lines[stage]), signal.SIGSTOP)
    hanging = lab.start(accident)
    try:
        assert lab.ask("wait", hanging) == -signal.SIGSTOP
        assert lab.run(Accident(expires=0.3)) == 0, lab.report
        os.kill(hanging, signal.SIGCONT)
        assert lab.ask("wait", hanging) == 0, "it goes on as if nothing had been"
    finally:
        with suppress(ProcessLookupError):
            os.kill(hanging, signal.SIGKILL)
    assert lab.is_as_if_left_alone()


WRITTEN = [
    "key.json",
    "*.lease",
    "*.npz",
    "*.ids",
    "*.npy",
    "*.json",
    "run.trec.gz",
    "per_query.tsv",
    "result.json",
]


def test_a_file_that_does_not_fit_on_the_disk_is_named_and_nothing_half_written_stays(lab) -> None:
    for pattern in WRITTEN:
        assert lab.run(Accident(full=pattern)) == 1
        name = lab.report.split(" cannot be written")[0]
        assert Path(name.removeprefix("LlaraEvalError: ")).match(pattern), lab.report
        assert "(No space left on device; it takes " in lab.report
        assert "Free some space" in lab.report
        assert set(lab.contents()) <= set(lab.alone)
    assert lab.run() == 0
    assert lab.is_as_if_left_alone()


@pytest.fixture
def small_disk(lab: Lab) -> Iterator[None]:
    """Put the store on a file system of its own, which has room for almost nothing."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", lab.home], check=False).returncode:
        pytest.skip("this user may not mount a file system")
    yield
    subprocess.run(["umount", "--lazy", lab.home], check=True)


def resize(lab: Lab, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", lab.home], check=True)


@pytest.mark.slow
def test_on_a_disk_that_is_full_again_and_again(lab, small_disk) -> None:
    size, named = 16, []
    while lab.run() != 0:
        assert "(No space left on device" in lab.report
        named.append(Path(lab.report.split(" cannot be written")[0]).suffix)
        assert set(lab.contents()) <= set(lab.alone)
        size += 12
        resize(lab, f"size={size}k")
    assert len(named) > 8
    assert len(set(named)) > 2
    assert lab.is_as_if_left_alone()


def test_a_complete_store_may_be_on_a_read_only_disk_and_an_incomplete_one_is_refused(
    lab, small_disk
) -> None:
    resize(lab, "size=8m")
    assert lab.run() == 0
    shutil.rmtree(lab.home / "tokens")
    shutil.rmtree(lab.runs)
    resize(lab, "ro")
    assert lab.run() == 0, lab.report
    shutil.rmtree(lab.runs)
    resize(lab, "rw")
    next(lab.home.rglob("*.npy")).unlink()
    resize(lab, "ro")
    assert lab.run() == 1
    assert "cannot be written (Read-only file system). Make that folder writable" in lab.report
