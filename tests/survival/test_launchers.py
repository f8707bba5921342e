"""Real workers of one command, killed, hung and interrupted: the bytes are the same whoever starts them."""

import hashlib
import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from commands import text_of
from tiny_models import save_checkpoint
from typer.testing import CliRunner
from workers import is_running, pids

from llara_eval.cli import app, launch
from llara_eval.core.files import sha256_of
from llara_eval.encoding.templates import Template, Templates
from llara_eval.vectors import shards

SHARDS = 8


@pytest.mark.slow
def test_torchrun_does_not_wait_for_one_that_hangs(monkeypatch, tmp_path, capfd, caplog) -> None:
    monkeypatch.setattr(launch, "LATE", 0.3)
    (tmp_path / "sitecustomize.py").write_text(
        "import os, time\n"
        "if os.environ.get('LOCAL_RANK') == '0':\n"
        f"    open({str(tmp_path / 'starts-0')!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    launch.torchrun(["--version"], 2)
    assert "llara-eval" in capfd.readouterr().out
    assert "the worker that shows the result hung" in caplog.text
    assert not any(map(is_running, pids(tmp_path)))


class CacheFolder:
    """A cache folder, and the commands that fill it."""

    def __init__(self, home: Path, words: list[str]) -> None:
        self.home = home
        self.words = words

    def start(self, *more: str, command: str = "encode") -> subprocess.Popen[str]:
        threads = str(torch.get_num_threads())  # with other ones the last bits of a vector may differ
        environment = {**os.environ, "LLARA_EVAL_HOME": str(self.home), "OMP_NUM_THREADS": threads}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        words = [sys.executable, "-m", "llara_eval", command, *self.words, "--json", *more]
        return subprocess.Popen(words, env=environment, cwd=self.home.parent, **streams)

    def contents(self) -> dict[str, str]:
        """Return file → checksum of all files but the records of shards, which hold times."""
        files = {path.relative_to(self.home): path for path in self.home.rglob("*") if path.is_file()}
        return {
            str(name): sha256_of(path)
            for name, path in files.items()
            if path.suffix in (".npy", ".npz", ".ids")
            or path.name == "key.json"
            or path.with_suffix(".ids").exists()
        }

    def catch(self, *but: int) -> int:
        """Stop a process that holds a shard, and return its number."""
        limit = time.monotonic() + 120
        while time.monotonic() < limit:
            for lease in self.home.glob("vectors/*/leases/*.lease"):
                try:
                    held = lease.read_text()
                    pid = json.loads(held)["pid"]
                    if pid in but:
                        continue
                    os.kill(pid, signal.SIGSTOP)
                    if lease.read_text() == held:
                        return pid
                    os.kill(pid, signal.SIGCONT)
                except (FileNotFoundError, ProcessLookupError):
                    continue
            time.sleep(0.002)
        raise TimeoutError("nobody holds a shard")

    def is_complete(self) -> bool:
        """Return whether both listings are there, whose records come last."""
        listings = [path.with_suffix(".json") for path in self.home.glob("vectors/*/*.ids")]
        return len(listings) == 2 and all(path.exists() for path in listings)


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> list[str]:
    """Return a model and a data set of eight shards, as options.

    A shard ends at the first text after the smallest size whose hash has a certain remainder; such texts are
    put at the ends.
    """
    folder = tmp_path_factory.mktemp("launched")
    save_checkpoint(folder / "model")
    template = Template(suffix=("</s>",), max_length=32)
    Templates(template, template).save(folder / "model")
    smallest, ends = shards.SHARD_SIZE // 4, shards.SHARD_SIZE - shards.SHARD_SIZE // 4

    def ends_a_shard(text: str) -> bool:
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        return int.from_bytes(digest[:8], "big") % ends == 0

    last = filter(ends_a_shard, map(str, itertools.count()))
    texts = [f"{'x' * (i % 11)} {i}" for i in range(SHARDS * smallest)]
    texts[smallest - 1 :: smallest] = [next(last) for _ in range(SHARDS)]
    (folder / "set" / "qrels").mkdir(parents=True)
    rows = [json.dumps({"_id": f"d{i}", "text": text}) for i, text in enumerate(texts)]
    (folder / "set" / "corpus.jsonl").write_text("\n".join(rows))
    queries = [json.dumps({"_id": f"q{i}", "text": f"query {i}"}) for i in range(9)]
    (folder / "set" / "queries.jsonl").write_text("\n".join(queries))
    judged = [f"q{i}\td{i}\t1" for i in range(9)]
    (folder / "set" / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]))
    return ["--model", str(folder / "model"), "--dataset", str(folder / "set"), "--offline"]


@pytest.fixture(scope="module")
def alone(words, tmp_path_factory) -> CacheFolder:
    """Return a cache folder that one process, this one, has filled."""
    cache = CacheFolder(tmp_path_factory.mktemp("alone") / "home", words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLARA_EVAL_HOME", str(cache.home))
        result = CliRunner().invoke(app, ["encode", *words, "--json"])
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["documents"]["rows"] == report["documents"]["made"] == SHARDS * shards.SHARD_SIZE // 4
    assert report["queries"]["rows"] == report["queries"]["made"] == 9
    assert len(list(Path(report["documents"]["vectors"]).glob("*.npy"))) >= SHARDS
    return cache


def finished(process: subprocess.Popen[str]) -> dict:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return json.loads(output)


def test_finished_vectors_are_reused_and_shown(alone, monkeypatch) -> None:
    monkeypatch.setenv("LLARA_EVAL_HOME", str(alone.home))
    result = CliRunner().invoke(app, ["encode", *alone.words])
    assert result.exit_code == 0, result.stderr
    cells = [cell.strip() for cell in result.stdout.replace("┃", "│").split("│")]
    assert cells[cells.index("documents") + 1 :][:2] == ["8,192", "0"]
    assert cells[cells.index("queries") + 1 :][:2] == ["9", "0"]


@pytest.mark.slow
def test_local_workers_one_killed_and_one_that_hangs(alone, tmp_path) -> None:
    cache = CacheFolder(tmp_path / "home", alone.words)
    process = cache.start("--workers", "3", "--lease-seconds", "2")
    hangs = cache.catch()
    killed = cache.catch(hangs)
    os.kill(killed, signal.SIGKILL)
    while not cache.is_complete():
        assert process.poll() is None
        time.sleep(0.05)
    assert cache.contents() == alone.contents(), "the others have encoded the shards that it held"
    os.kill(hangs, signal.SIGCONT)
    report = finished(process)
    assert cache.contents() == alone.contents()
    assert 0 < report["documents"]["made"] <= report["documents"]["rows"]
    assert not list(cache.home.rglob("*.lease"))


def stored_results(runs_dir: Path) -> dict[str, bytes]:
    """Return file → content of the runs and per-query values in a folder of results."""
    files = [*runs_dir.rglob("run.trec.gz"), *runs_dir.rglob("per_query.tsv")]
    return {str(path.relative_to(runs_dir)): path.read_bytes() for path in files}


@pytest.mark.slow
def test_an_evaluation_with_workers_one_killed_gives_the_bytes_of_one_alone(alone, tmp_path) -> None:
    finished(alone.start("--runs-dir", str(tmp_path / "alone"), command="evaluate"))
    cache = CacheFolder(tmp_path / "home", alone.words)
    process = cache.start("--runs-dir", str(tmp_path / "runs"), "--workers", "3", command="evaluate")
    assert cache.catch() == process.pid, "it starts while the workers still import"
    os.kill(cache.catch(process.pid), signal.SIGKILL)
    os.kill(process.pid, signal.SIGCONT)
    assert finished(process)["n_queries"] == 9
    assert cache.contents() == alone.contents()
    assert not list(cache.home.rglob("*.lease"))
    results = stored_results(tmp_path / "runs")
    assert len(results) == 2
    assert results == stored_results(tmp_path / "alone")
    again = cache.start("--runs-dir", str(tmp_path / "runs"), "--workers", "3", command="evaluate")
    finished(again)
    assert stored_results(tmp_path / "runs") == results


@pytest.mark.slow
def test_torchrun_and_a_store_at_a_url(alone, tmp_path) -> None:
    cache, remote = CacheFolder(tmp_path / "home", alone.words), CacheFolder(tmp_path / "remote", alone.words)
    store = f"file://{remote.home}"
    report = finished(cache.start("--launcher", "torchrun", "--workers", "2", "--store", store))
    assert report["documents"]["rows"] == SHARDS * shards.SHARD_SIZE // 4
    assert report["documents"]["vectors"].startswith(store)
    assert remote.contents() == alone.contents()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs: pip install 'llara-eval[ray]'")
def test_ray_with_actors_killed_while_they_work(alone, tmp_path) -> None:
    cache = CacheFolder(tmp_path / "home", alone.words)
    process = cache.start("--launcher", "ray", "--workers", "2")
    for _ in range(2):
        os.kill(cache.catch(), signal.SIGKILL)
    report = finished(process)
    assert cache.contents() == alone.contents()
    assert report["documents"]["rows"] == SHARDS * shards.SHARD_SIZE // 4


def test_without_ray_the_command_that_installs_it_is_named(words, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = CliRunner().invoke(app, ["encode", *words, "--launcher", "ray"])
    assert result.exit_code == 7
    assert "pip install 'llara-eval[ray]'" in text_of(result)


@pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN, reason="Ctrl-C is ignored, as in a background job"
)
@pytest.mark.parametrize(("command", "started"), [("encode", 2), ("evaluate", 1)])
def test_ctrl_c_ends_all_workers_and_says_that_the_state_is_kept(words, tmp_path, command, started) -> None:
    process = CacheFolder(tmp_path / "home", words).start("--workers", "2", command=command)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(workers := children.read_text().split()) < started:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "what was finished is kept" in " ".join(errors.split())
    assert not any(is_running(int(pid)) for pid in workers)
