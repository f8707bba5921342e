"""An HTTP server on loopback that serves one archive, or fails as servers do."""

import io
import re
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

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
    http.state = SimpleNamespace(body=WHOLE, ranges=True, stop_after=None, status=200, requests=[])
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setattr(known, "BASE_URL", f"http://127.0.0.1:{http.server_port}/sets")
    monkeypatch.setattr(download, "_CHUNK", 1_000)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield http.state
    http.shutdown()
    http.server_close()
    thread.join()
