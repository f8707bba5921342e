"""Commands that are killed before any of their lines and given again end with the same files."""

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import mortal
import pytest
from checkout import ROOT
from servers import CORPUS, make_zip
from written import WORDS, contents, prepare

KILLS = 8
"""How often each command is killed."""

ARCHIVE = make_zip({f"tiny/{name}": CORPUS for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv")})

TINY = ["--model", "../tiny", "--option", "pooling=mean", "--option", "normalize=true"]

COMMANDS = {
    "mine": [
        *("mine", *TINY, "--data", "../pairs.jsonl", "--corpus", "../collection", "--output", "mined.jsonl"),
        *("--skip-top", "1", "--quiet"),
    ],
    "overlap": [
        *("overlap", "--train", "../pairs.jsonl", "--dataset", "../collection", "--quiet"),
        *("--output", "overlap.json"),
    ],
    "leaderboard": ["leaderboard", "--runs-dir", "../runs", "--output", "leaderboard.md"],
    "export": ["export", *TINY, "--output", "exported", "--quiet"],
    "fetch": [],
}


class Morgue:
    """A process whose children run commands and are killed, and the files that they leave."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.work = folder, folder / "work"
        prepare(folder)
        pairs = [{"query": f"{word} {other}", "pos": [word]} for word in WORDS for other in WORDS[:3]]
        (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"}
        self._process = subprocess.Popen(
            [sys.executable, mortal.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environment, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])},
        )
        assert self._process.stdout.readline() == "ready\n"
        words = ["evaluate", *TINY, "--dataset", "../collection", "--runs-dir", "../runs", "--quiet"]
        assert self.run({"words": words})[0] == 0, self.said

    @property
    def said(self) -> str:
        return (self.folder / "stderr").read_text()[-2000:]

    def run(self, asked: dict[str, Any], line: int | None = None) -> tuple[int, int]:
        """Return the exit code of a command, or minus its signal, and the lines that it ran."""
        self.work.mkdir(exist_ok=True)
        self._process.stdin.write(json.dumps({**asked, "folder": str(self.work), "line": line}) + "\n")
        self._process.stdin.flush()
        code, lines = json.loads(self._process.stdout.readline())
        return code, lines

    def forget(self) -> None:
        """Delete the files of earlier commands."""
        shutil.rmtree(self.work, ignore_errors=True)

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def morgue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Morgue]:
    built = Morgue(tmp_path_factory.mktemp("morgue"))
    yield built
    built.close()


class _Archive(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(ARCHIVE) - start))
        self.end_headers()
        self.wfile.write(ARCHIVE[start:])

    def log_message(self, *args: object) -> None:
        """Write no log."""


@pytest.fixture
def address() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Archive)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(name, marks=pytest.mark.nightly if name in ("mine", "export") else pytest.mark.slow)
        for name in COMMANDS
    ],
)
def test_a_killed_command_given_again_leaves_the_files_of_one_left_alone(morgue, address, command) -> None:
    md5 = hashlib.md5(ARCHIVE, usedforsecurity=False).hexdigest()
    asked = {"words": COMMANDS[command]} if COMMANDS[command] else {"archive": [address, md5]}
    morgue.forget()
    code, lines = morgue.run(asked)
    assert code == 0, morgue.said
    alone = contents(morgue.work)
    random, unfinished = Random(0), 0
    for number in range(KILLS):
        morgue.forget()
        at = (
            random.randint(1, lines) if number < KILLS / 2 else lines - random.randint(0, min(lines - 1, 300))
        )
        assert morgue.run(asked, at)[0] == -mortal.signal.SIGKILL, f"line {at} of {lines}"
        left = contents(morgue.work)
        unfinished += left != alone
        code, _ = morgue.run(asked)
        if left == alone:
            assert code in (0, 2), "finished: kept, or refused as an earlier output"
        else:
            assert code == 0, f"killed before line {at} of {lines}: {morgue.said}"
        assert sorted(contents(morgue.work)) == sorted(alone)
        assert contents(morgue.work) == alone, f"killed before line {at} of {lines}"
    assert unfinished >= KILLS / 2
