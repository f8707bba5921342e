"""Failures of the network and of the hub, each in a sentence; a local server has the hub's interface."""

import json
import socket

import pytest
import requests
from commands import call
from huggingface_hub import constants

from llara_eval.checkpoints.folder import resolve
from llara_eval.core import network
from llara_eval.core.errors import DataError
from llara_eval.datasets.load import locate

COMMIT = "c" * 40
GATED = "is gated: ask for access at https://huggingface.co/org/repo, then run: hf auth login"
TOO_MANY = "too many requests (429); wait some minutes, or run: hf auth login, which allows more"


@pytest.fixture
def open_repo(hub, tmp_path):
    """Serve ``org/repo``; return functions that open it, and return the message that this ends with."""
    hub.repos["org/repo"] = {COMMIT: {"config.json": b"{}", "notes.md": b"", "README.md": b""}}
    hub.refs["org/repo", "main"] = COMMIT

    def model(revision: str = "") -> str:
        with pytest.raises(DataError) as caught:
            resolve(f"org/repo{revision}")
        return str(caught.value)

    def data(revision: str = "") -> str:
        with pytest.raises(DataError) as caught:
            locate(f"hf:org/repo{revision}", data_dir=tmp_path)
        return str(caught.value).removeprefix("hf:").replace("/datasets/", "/")

    return {"model": model, "data": data}


both = pytest.mark.parametrize("kind", ["model", "data"])


@both
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((403, "GatedRepo"), GATED),
        ((401, "GatedRepo"), GATED),
        ((401, "RepoNotFound"), "is not on the hub, or is private; for a private one run: hf auth login"),
        ((404, "RepoNotFound"), "is not on the hub, or is private; for a private one run: hf auth login"),
        ((403, ""), "may not be read (403); run: hf auth login, with a token that may read it"),
        ((429, ""), f"cannot be read from the hub: {TOO_MANY}"),
        ((503, ""), "cannot be read from the hub: the server answers 503 Service Unavailable"),
    ],
)
def test_a_refusal_is_one_sentence_with_the_way_out(hub, open_repo, kind, answer, says):
    hub.errors["org/repo"] = answer
    assert open_repo[kind]() == f"org/repo {says}"


@both
def test_a_revision_that_is_not_there_is_named(open_repo, kind):
    assert open_repo[kind]("@v9").endswith("has no revision v9; see https://huggingface.co/org/repo")


@both
def test_a_server_that_cannot_be_reached(open_repo, monkeypatch, kind):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    assert open_repo[kind]() == "org/repo cannot be read from the hub: Connection refused"
    monkeypatch.setenv("HF_ENDPOINT", "http://nowhere.invalid")
    assert open_repo[kind]() == (
        "org/repo cannot be read from the hub: the name of the server is not known; is there a network?"
    )


@both
def test_offline(hub, open_repo, monkeypatch, kind):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "has not been downloaded, and the network must not be used" in open_repo[kind]()
    assert hub.requests == []


def test_a_model_is_downloaded_once_but_for_the_files_that_nobody_reads(hub, open_repo):
    folder = resolve("org/repo")
    assert json.loads((folder / "config.json").read_text()) == {}
    assert not (folder / "notes.md").exists()
    assert resolve(f"org/repo@{COMMIT}", offline=True) == folder


def test_a_name_that_is_none_of_the_hub(hub):
    with pytest.raises(DataError, match=r"^org/a--b cannot be read from the hub: .*'org/a--b'"):
        resolve("org/a--b")
    assert hub.requests == []


def test_the_command_says_one_line(hub, tmp_path):
    hub.errors["org/repo"] = (403, "GatedRepo")
    result = call("evaluate", "-m", "org/repo", "-d", "demo", "--runs-dir", tmp_path / "runs")
    assert result.exit_code == 3
    assert result.stderr.strip() == f"error: org/repo {GATED}"


def test_the_reasons_of_requests_are_without_its_objects(monkeypatch):
    def reason(url: str, timeout: float = 5) -> str:
        with pytest.raises(requests.RequestException) as caught:
            requests.get(url, timeout=timeout).raise_for_status()
        return network.reason(caught.value)

    monkeypatch.setenv("NO_PROXY", "*")
    assert reason("http://nowhere.invalid/x") == "the name of the server is not known; is there a network?"
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        assert reason(url, timeout=0.1) == "the server does not answer in time"
    assert reason(url) == "Connection refused"
