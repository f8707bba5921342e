"""Data sets of the hub, from a server with its interface that also fails, breaks off and lies."""

import io
import logging
import shutil

import pyarrow as pa
import pytest
from huggingface_hub import constants
from pyarrow import parquet

from llara_eval.core.errors import CheckFailedError, DataError
from llara_eval.datasets import known as catalogue
from llara_eval.datasets.inventory import describe, fetch, verify
from llara_eval.datasets.known import KnownDataset
from llara_eval.datasets.load import judgements, load, locate, naming

OLD, NEW = "a" * 40, "b" * 40
DOCUMENTS = [{"_id": f"d{row}", "title": "", "text": f"text {row} " * 50} for row in range(200)]
QUERIES = [{"_id": "q1", "text": "first"}]
QRELS = [{"query-id": "q1", "corpus-id": "d1", "score": 1.0}]
CARD = b"---\nlicense: mit\n---\n"


def table(rows) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), buffer, compression="none")
    return buffer.getvalue()


CORPUS = "corpus/corpus-00000-of-00001.parquet"
FILES = {
    "README.md": CARD,
    CORPUS: table(DOCUMENTS),
    "queries/queries-00000-of-00001.parquet": table(QUERIES),
    "qrels/test.jsonl": b'{"query-id": "q1", "corpus-id": "d1", "score": 1.0}\n',
    "images/large.bin": b"never asked for",
}


@pytest.fixture
def small(hub):
    """Serve ``org/small`` with two revisions."""
    hub.repos["org/small"] = {OLD: FILES, NEW: {**FILES, CORPUS: table(DOCUMENTS[:100])}}
    hub.refs["org/small", "main"] = NEW
    hub.refs["org/small", "v1"] = OLD
    return hub


def open_set(tmp_path, name="hf:org/small", **choice):
    return load(name, data_dir=tmp_path / "data", **choice)


def asked(hub, what) -> list[str]:
    return [request for request in hub.requests if what in request]


def test_a_data_set_of_the_hub_is_read_at_its_newest_revision_or_a_pinned_one(small, tmp_path):
    newest = open_set(tmp_path)
    assert (newest.name, newest.split, len(newest.corpus)) == ("hf:org/small", "test", 100)
    assert newest.source == f"hf:org/small@{NEW}"
    for name in (f"hf:org/small@{OLD}", "hf:org/small@v1"):
        pinned = open_set(tmp_path, name)
        assert (pinned.name, len(pinned.corpus)) == (name, 200)
        assert pinned.source == f"hf:org/small@{OLD}"
    assert asked(small, "large.bin") == []
    assert judgements("hf:org/small", "test", data_dir=tmp_path) == {"q1": {"d1": 1}}
    assert naming("hf:org/small", data_dir=tmp_path).names == ("hf:org/small",)


def test_what_was_downloaded_is_read_without_the_network(small, tmp_path):
    with pytest.raises(DataError, match=r"hf:org/small has not been downloaded, and the network must not be"):
        open_set(tmp_path, offline=True)
    open_set(tmp_path)
    small.requests.clear()
    assert len(open_set(tmp_path, offline=True).corpus) == 100
    assert small.requests == []
    with pytest.raises(DataError, match="hf:org/small@v1 has not been downloaded"):
        open_set(tmp_path, "hf:org/small@v1", offline=True)


def test_a_pinned_commit_is_never_asked_for_twice_and_a_branch_is(small, tmp_path):
    open_set(tmp_path, f"hf:org/small@{OLD}")
    small.requests.clear()
    open_set(tmp_path, f"hf:org/small@{OLD}")
    assert small.requests == []
    open_set(tmp_path)
    small.refs["org/small", "main"] = OLD
    assert len(open_set(tmp_path).corpus) == 200
    assert asked(small, f"GET /datasets/org/small/resolve/{OLD}") == []


def test_the_licence_is_said_before_the_download(small, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    open_set(tmp_path)
    assert f"org/small at revision {NEW[:12]}: licence mit; 3 files, from http://127.0.0.1" in caplog.text


def test_passing_failures_are_survived(small, tmp_path):
    small.faults = {"/api/datasets/org/small": [503, 500], CORPUS: [500, 429], "test.jsonl": [503]}
    assert len(open_set(tmp_path).corpus) == 100


def test_a_truncated_file_is_fetched_again(small, tmp_path):
    small.faults = {CORPUS: [5_000, 3_000]}
    assert len(open_set(tmp_path).corpus) == 100
    assert len(asked(small, f"GET /datasets/org/small/resolve/{NEW}/{CORPUS}")) >= 2


def test_an_answer_that_takes_too_long_is_asked_for_again(small, tmp_path, monkeypatch):
    for name in ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"):
        monkeypatch.setattr(constants, name, 1)
    small.faults = {CORPUS: [2.0, 2.0]}
    assert len(open_set(tmp_path).corpus) == 100
    assert len(asked(small, CORPUS)) >= 3


def test_a_hub_that_states_no_commit_is_refused(small, tmp_path):
    small.refs["org/small", "main"] = ""
    small.repos["org/small"][""] = FILES
    with pytest.raises(DataError, match="states no commit, so nothing is pinned"):
        open_set(tmp_path)


def test_a_failure_that_stays_is_said_and_nothing_incomplete_is_read(small, tmp_path):
    small.faults = {"test.jsonl": [503] * 99}
    with pytest.raises(DataError, match="hf:org/small cannot be read from the hub"):
        open_set(tmp_path)
    with pytest.raises(DataError, match="has not been downloaded"):
        open_set(tmp_path, offline=True)
    small.faults = {}
    assert len(open_set(tmp_path).corpus) == 100


@pytest.mark.parametrize("without_links", [False, True])
def test_a_wrong_checksum_is_refused_and_the_file_deleted(small, tmp_path, monkeypatch, without_links):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", without_links)
    small.wrong[CORPUS] = "0" * 64
    with pytest.raises(
        DataError, match=r"corpus-00000-of-00001\.parquet has not the checksum that the hub states"
    ):
        open_set(tmp_path)
    small.wrong.clear()
    assert len(open_set(tmp_path).corpus) == 100


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ((404, "RepoNotFound"), "hf:org/small is not on the hub, or is private"),
        ((401, "RepoNotFound"), "hf:org/small is not on the hub, or is private"),
        (
            (403, "GatedRepo"),
            r"is gated: ask for access at https://huggingface\.co/datasets/org/small, then run: hf auth",
        ),
    ],
)
def test_a_refusal_says_what_to_do(small, tmp_path, error, says):
    small.errors["org/small"] = error
    with pytest.raises(DataError, match=says):
        open_set(tmp_path)
    assert len(small.requests) == 1, "a refusal is no passing failure"


def test_a_revision_that_is_not_there_is_named(small, tmp_path):
    with pytest.raises(DataError, match="hf:org/small has no revision v9"):
        open_set(tmp_path, "hf:org/small@v9")


def test_a_repository_of_another_kind_is_refused_before_a_download(small, tmp_path):
    small.repos["org/other"] = {OLD: {"README.md": CARD, "data.csv": b"x"}}
    small.refs["org/other", "main"] = OLD
    with pytest.raises(
        DataError, match=r"hf:org/other has no corpus and no queries and no qrels .*README\.md, data\.csv"
    ):
        open_set(tmp_path, "hf:org/other")
    assert asked(small, "data.csv") == []


@pytest.fixture
def apart(small):
    """Serve ``org/apart``, whose judgements are in ``org/apart-qrels``."""
    small.repos["org/apart"] = {
        OLD: {name: content for name, content in FILES.items() if "qrels" not in name}
    }
    small.repos["org/apart-qrels"] = {
        NEW: {"README.md": CARD, "test.tsv": b"q1\td1\t1\n", "dev.tsv": b"q1\td2\t1\n"}
    }
    small.refs["org/apart", "main"] = OLD
    small.refs["org/apart-qrels", "main"] = NEW
    return small


def test_judgements_in_a_repository_of_their_own_are_fetched_too(apart, tmp_path):
    dataset = open_set(tmp_path, "hf:org/apart")
    assert dataset.qrels == {"q1": {"d1": 1}}
    assert dataset.source == f"hf:org/apart@{OLD} and hf:org/apart-qrels@{NEW}"
    apart.requests.clear()
    assert open_set(tmp_path, "hf:org/apart", split="dev", offline=True).qrels == {"q1": {"d2": 1}}
    assert open_set(tmp_path, f"hf:org/apart@{OLD}").fingerprint == dataset.fingerprint
    assert apart.requests == []
    verdict = verify("hf:org/apart", tmp_path)
    assert (verdict.problem, verdict.checksums) == (None, "2 of 4 files have a checksum")


def test_judgements_that_went_missing_are_fetched_again(apart, tmp_path):
    open_set(tmp_path, "hf:org/apart")
    (missing,) = tmp_path.glob("hub/datasets--org--apart-qrels/snapshots/*/test.tsv")
    missing.unlink()
    with pytest.raises(DataError, match="has not been downloaded"):
        open_set(tmp_path, "hf:org/apart", offline=True)
    assert open_set(tmp_path, "hf:org/apart").qrels == {"q1": {"d1": 1}}


def test_no_judgements_anywhere_is_an_error(apart, tmp_path):
    apart.repos["org/apart-qrels"] = {NEW: {"README.md": CARD, "notes.txt": b""}}
    with pytest.raises(DataError, match=r"hf:org/apart has no qrels in a known layout .*; its files: README"):
        open_set(tmp_path, "hf:org/apart")
    apart.errors["org/apart-qrels"] = (401, "RepoNotFound")
    with pytest.raises(DataError, match="hf:org/apart has no qrels in a known layout"):
        open_set(tmp_path, "hf:org/apart")
    apart.errors["org/apart-qrels"] = (403, "GatedRepo")
    with pytest.raises(DataError, match="hf:org/apart-qrels is gated"):
        open_set(tmp_path, "hf:org/apart")


@pytest.fixture
def languages(small):
    """Serve ``org/languages``, with a configuration for each of two languages."""
    small.repos["org/languages"] = {
        OLD: {
            f"{language}-{part}/test-00000-of-00001.parquet": table(rows)
            for language, count in (("de", 200), ("fr", 100))
            for part, rows in (("corpus", DOCUMENTS[:count]), ("queries", QUERIES), ("qrels", QRELS))
        }
    }
    small.refs["org/languages", "main"] = OLD
    return small


def test_a_configuration_is_named_and_only_its_files_are_fetched(languages, tmp_path):
    dataset = open_set(tmp_path, "hf:org/languages:fr")
    assert (dataset.name, len(dataset.corpus)) == ("hf:org/languages:fr", 100)
    assert dataset.source == f"hf:org/languages:fr@{OLD}"
    assert asked(languages, "de-corpus") == []
    with pytest.raises(DataError, match=r"hf:org/languages:de has not been downloaded"):
        open_set(tmp_path, "hf:org/languages:de", offline=True)
    assert len(open_set(tmp_path, f"hf:org/languages:de@{OLD}").corpus) == 200
    assert len(open_set(tmp_path, "hf:org/languages:fr", offline=True).corpus) == 100
    assert (
        describe("hf:org/languages:fr", tmp_path)["fetched"]
        == f"hf:org/languages:fr@{OLD}, 3 of 3 files have a checksum"
    )
    assert verify("hf:org/languages:fr", tmp_path).documents == 100
    assert judgements("hf:org/languages:fr", "test", data_dir=tmp_path) == {"q1": {"d1": 1}}


def test_where_it_is_unclear_which_configuration_is_meant_nothing_is_fetched(languages, tmp_path):
    with pytest.raises(CheckFailedError, match=r"meant, of de, fr; name one, such as hf:org/languages:de"):
        open_set(tmp_path, "hf:org/languages")
    with pytest.raises(DataError, match=r"hf:org/languages has no configuration 'es'; it has de, fr"):
        open_set(tmp_path, "hf:org/languages:es")
    assert asked(languages, "resolve") == []


@pytest.mark.parametrize("name", ["hf:small", "hf:org/small@", "hf:a/b/c", "hf:/small", "hf:org/small:"])
def test_a_malformed_name_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="expected hf:organisation/name"):
        locate(name, data_dir=tmp_path)


def test_a_known_set_of_the_hub_is_fetched_at_its_revision_and_read_from_a_folder(
    small, tmp_path, monkeypatch
):
    facts = {"documents": 200, "queries": 1, "judgements": 1, "groups": ("nanobeir",)}
    known = KnownDataset(name="nanobeir/small", folder="nanobeir/small", hub=f"org/small@{OLD}", **facts)
    monkeypatch.setattr(catalogue, "KNOWN", {known.name: known})
    dataset = open_set(tmp_path, "nanobeir/small")
    assert (dataset.name, dataset.mismatch, dataset.source) == ("nanobeir/small", None, f"hf:org/small@{OLD}")
    copy = tmp_path / "data" / "nanobeir" / "small"
    shutil.copytree(locate("nanobeir/small", data_dir=tmp_path / "data"), copy)
    copied = open_set(tmp_path, "nanobeir/small", offline=True)
    assert (copied.name, copied.source, copied.fingerprint) == (known.name, "", dataset.fingerprint)


def test_the_inventory_says_what_was_fetched_and_finds_what_has_changed(small, tmp_path):
    folder, fresh = fetch("hf:org/small", tmp_path)
    assert fresh
    assert fetch("hf:org/small", tmp_path) == (folder, False)
    facts = describe("hf:org/small", tmp_path)
    assert facts["fetched"] == f"hf:org/small@{NEW}, 2 of 3 files have a checksum"
    assert verify("hf:org/small", tmp_path).problem is None
    assert verify("hf:org/small", tmp_path).checksums == "2 of 3 files have a checksum"
    path = folder / "queries" / "queries-00000-of-00001.parquet"
    path.resolve().write_bytes(table([{"_id": "q1", "text": "changed"}]))
    assert (
        "queries-00000-of-00001.parquet is not as the hub states it"
        in verify("hf:org/small", tmp_path).problem
    )
