"""HTTP servers on loopback that fail as servers do: one has an archive, one has the interface of the hub."""

import hashlib
import io
import json
import re
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import unquote

import pytest

from llara_eval.datasets import download, known


def make_zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


CORPUS = bytes(range(256)) * 400


WHOLE = make_zip({"tiny/corpus.jsonl": CORPUS, "tiny/qrels/test.tsv": b"x", "__MACOSX/junk": b"junk"})


class Handler(BaseHTTPRequestHandler):
    """Serves one body as ``server.state`` says, which also records the requests."""

    def do_GET(self) -> None:
        state = self.server.state
        byte_range = self.headers.get("Range")
        state.requests.append((self.path, byte_range))
        time.sleep(state.slow.pop(0) if state.slow else 0)
        if state.missing and self.path.startswith(state.missing):
            self.answer(404, b"")
            return
        if state.status != 200:
            self.answer(state.status, b"<html>an error page</html>")
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", byte_range)[1]) if byte_range and state.ranges else 0
        if start >= len(state.body) and start:
            self.answer(416, b"")
            return
        self.answer(206 if start else 200, state.body[start:], stop_after=state.stop_after)

    def answer(self, status: int, body: bytes, stop_after: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:stop_after])

    def log_message(self, *args: object) -> None:
        """Write no log."""


@pytest.fixture
def server(monkeypatch) -> Iterator[SimpleNamespace]:
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.state = SimpleNamespace(
        body=WHOLE, ranges=True, stop_after=None, status=200, missing="", slow=[], requests=[]
    )
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setattr(known, "BASE_URL", f"http://127.0.0.1:{http.server_port}/sets")
    monkeypatch.setattr(known, "MIRRORS", ())
    monkeypatch.setattr(download, "_CHUNK", 1_000)
    monkeypatch.setattr(download, "_WAIT", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield http.state
    http.shutdown()
    http.server_close()
    thread.join()


class HubHandler(BaseHTTPRequestHandler):
    """Serves data sets and models in ``server.state.repos``: repo → revision → name of a file → content.

    ``faults`` maps the end of a path to the faults of its next answers: a status, the number of bytes after
    which the answer breaks off, or the seconds that it takes (a float). ``errors`` maps a repo to (status,
    the hub's error code).
    """

    def do_HEAD(self) -> None:
        self.respond(head=True)

    def do_GET(self) -> None:
        self.respond(head=False)

    def respond(self, *, head: bool) -> None:
        state = self.server.state
        path = unquote(self.path.partition("?")[0])
        state.requests.append(f"{self.command} {path}")
        queue = next((faults for end, faults in state.faults.items() if path.endswith(end)), [])
        fault = (
            queue.pop(0) if queue and (not head or queue[0] >= 400 or isinstance(queue[0], float)) else None
        )
        if isinstance(fault, float):
            time.sleep(fault)
            fault = None
        if fault in (403, 429, 500, 503):
            self.send(fault, b"", {})
        elif match := re.fullmatch(r"/api/(?:datasets|models)/(\w+/[\w-]+)(?:/revision/([\w-]+))?", path):
            self.describe(match[1], match[2] or "main")
        elif match := re.fullmatch(r"/api/models/(\w+/[\w-]+)/tree/(\w+)", path):
            self.list_files(match[1], match[2])
        elif match := re.fullmatch(r"(?:/datasets)?/(\w+/[\w-]+)/resolve/(\w+)/(.+)", path):
            self.file(match[1], match[2], match[3], stop_after=fault, head=head)
        else:
            self.send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def commit(self, repo: str, revision: str) -> str | None:
        state = self.server.state
        if repo in state.errors or repo not in state.repos:
            status, code = state.errors.get(repo, (404, "RepoNotFound"))
            self.send(status, b"", {"X-Error-Code": code, "X-Error-Message": "no access"})
            return None
        commit = state.refs.get((repo, revision), revision)
        if commit not in state.repos[repo]:
            self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return None
        return commit

    def describe(self, repo: str, revision: str) -> None:
        commit = self.commit(repo, revision)
        if commit is None:
            return
        siblings = []
        for name, content in self.server.state.repos[repo][commit].items():
            sha256 = self.server.state.wrong.get(name) or hashlib.sha256(content).hexdigest()
            lfs = {"sha256": sha256, "size": len(content), "pointerSize": 1}
            large = name.endswith(".parquet")
            siblings.append({"rfilename": name, "size": len(content), **({"lfs": lfs} if large else {})})
        body = {"id": repo, "sha": commit, "siblings": siblings, "cardData": {"license": "mit"}}
        self.send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def list_files(self, repo: str, revision: str) -> None:
        commit = self.commit(repo, revision)
        if commit is not None:
            files = self.server.state.repos[repo][commit].items()
            body = [
                {"type": "file", "oid": "1", "path": name, "size": len(content)} for name, content in files
            ]
            self.send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def file(self, repo: str, revision: str, name: str, *, stop_after: int | None, head: bool) -> None:
        commit = self.commit(repo, revision)
        if commit is None:
            return
        content = self.server.state.repos[repo][commit].get(name)
        if content is None:
            self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        rest = content[int(start[1]) :] if start else content
        self.send(206 if start else 200, rest, headers, stop_after=stop_after, head=head)

    def send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str],
        stop_after: int | None = None,
        head: bool = False,
    ) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not head and self.command != "HEAD":
            self.wfile.write(body[:stop_after])

    def log_message(self, *args: object) -> None:
        """Stay silent."""


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[SimpleNamespace]:
    """Serve data sets as the hub does; nothing is cached beyond the test."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    http = ThreadingHTTPServer(("127.0.0.1", 0), HubHandler)
    http.state = SimpleNamespace(repos={}, refs={}, faults={}, errors={}, wrong={}, requests=[])
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{http.server_port}")
    monkeypatch.setenv("LLARA_EVAL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None, time=time.time))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(download, "_WAIT", 0.0)
    yield http.state
    http.shutdown()
    http.server_close()
    thread.join()
