"""MS MARCO: missing files are downloaded by ir_datasets, verified, or named."""

import gzip
import hashlib
import tarfile
from collections.abc import Iterator
from io import BytesIO
from types import SimpleNamespace

import pytest

from llara_eval.core.errors import DataError
from llara_eval.datasets import load as datasets
from llara_eval.datasets.known import KNOWN
from llara_eval.datasets.msmarco import SOURCES

MSMARCO = [name for name, known in KNOWN.items() if known.files]


def make_archive(members: dict[str, bytes]) -> bytes:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def remote(monkeypatch, tmp_path) -> SimpleNamespace:
    """Replace the network of ir_datasets by url → bytes, and its checksums by those of these bytes."""
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "ir_datasets"))
    from ir_datasets.util import DownloadConfig, RequestsDownload

    state = SimpleNamespace(files={}, requests=[])
    records = {
        corpus: dict(DownloadConfig.contents()[corpus]) for corpus in ("msmarco-passage", "msmarco-document")
    }

    def serve(self) -> Iterator[bytes]:
        state.requests.append(self.url)
        if self.url not in state.files:
            raise ConnectionError("no route to host")
        yield state.files[self.url]

    def pin(content: dict[str, bytes]) -> None:
        state.files = content
        for corpus in records.values():
            for key, record in corpus.items():
                if record.get("url") in content:
                    md5 = hashlib.md5(content[record["url"]], usedforsecurity=False).hexdigest()
                    corpus[key] = {**record, "expected_md5": md5, "size_hint": 1}

    state.pin = pin
    monkeypatch.setattr(RequestsDownload, "__iter__", serve)
    monkeypatch.setattr(DownloadConfig, "_contents", records)
    return state


def test_what_is_missing_is_downloaded_and_only_that(remote, official, pinned):
    folder = official / "msmarco-passage"
    plain = datasets.load("msmarco-passage/trec-dl-2019", data_dir=official).fingerprint
    content = {name: (folder / name).read_bytes() for name in ("collection.tsv", "queries.dev.small.tsv")}
    topics = gzip.compress((folder / "msmarco-test2019-queries.tsv").read_bytes())
    remote.pin(
        {
            SOURCES["collection.tsv"].url: make_archive(content),
            SOURCES["msmarco-test2019-queries.tsv"].url: topics,
        }
    )
    for name in ("collection.tsv", "queries.dev.small.tsv", "msmarco-test2019-queries.tsv"):
        (folder / name).unlink()
    assert datasets.load("msmarco-passage/trec-dl-2019", data_dir=official).fingerprint == plain
    assert remote.requests == [SOURCES["collection.tsv"].url, SOURCES["msmarco-test2019-queries.tsv"].url]
    assert (folder / "msmarco-test2019-queries.tsv.gz").is_file()
    assert not (folder / "queries.dev.small.tsv").exists(), "this task does not need it"
    assert not list((official / ".ir_datasets").rglob("*.tar.gz")), "the archive is not kept twice"


def test_a_download_of_another_content_is_refused(remote, official, pinned):
    url = SOURCES["msmarco-docdev-qrels.tsv"].url
    remote.files[url] = gzip.compress(b"100 0 D0 1\n")
    (official / "msmarco-document" / "msmarco-docdev-qrels.tsv").unlink()
    with pytest.raises(DataError, match=r"docdev-qrels\.tsv\.gz by ir_datasets failed: Expected md5"):
        datasets.load("msmarco-document/dev", data_dir=official)
    assert not list(official.rglob("*docdev-qrels*"))


def test_a_download_that_fails_says_what_to_do(remote, tmp_path):
    with pytest.raises(DataError, match=r"no route to host; try again, or put the file into"):
        datasets.load("msmarco-document/dev", data_dir=tmp_path)
    with pytest.raises(
        DataError, match=r"corpus\.jsonl cannot be downloaded.*Tevatron/msmarco-passage-corpus"
    ):
        datasets.load("msmarco-passage-titled/dev", data_dir=tmp_path)
    remote.pin({SOURCES["collection.tsv"].url: make_archive({"collection.tsv": b"1\tx\n"})})
    with pytest.raises(DataError, match=r"lacks qrels\.dev\.small\.tsv, queries\.dev\.small\.tsv"):
        datasets.load("msmarco-passage/dev", data_dir=tmp_path)


def test_addresses_and_checksums_are_those_of_ir_datasets(monkeypatch, tmp_path):
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path))
    from ir_datasets.util import DownloadConfig

    records = DownloadConfig.contents()
    checked = set()
    for known in (KNOWN[name] for name in MSMARCO):
        for name in (name for names in known.files for name in names if SOURCES[name].record):
            record = records[known.folder][SOURCES[name].record]
            assert (record["url"], record["expected_md5"]) == SOURCES[name][:2]
            checked.add(name)
    assert checked == set(SOURCES) - {"corpus.jsonl", "msmarco-docs.tsv"}
    assert SOURCES["msmarco-docs.trec"].md5 == "d4863e4f342982b51b9a8fc668b2d0c0"
    assert SOURCES["collection.tsv"].md5 == "31644046b18952c1386cd4564ba2ae69"
