"""Archives over HTTP: resumed, verified, unpacked inside their folder or refused; and their manifests."""

import hashlib
import json
import zipfile
from contextlib import contextmanager

import pytest
from servers import CORPUS, WHOLE, make_zip

from llara_eval.core.errors import DataError
from llara_eval.core.files import HOST
from llara_eval.datasets import download
from llara_eval.datasets import known as catalogue
from llara_eval.datasets.download import changes, fetch_archive, find_manifest, write_manifest
from llara_eval.datasets.known import KnownDataset


def known(body: bytes = WHOLE, archive: str = "tiny") -> KnownDataset:
    md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
    return KnownDataset(name=f"beir/{archive}", folder=archive, archive=archive, md5=md5)


def names(folder) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def assert_complete(data_dir) -> None:
    assert names(data_dir) == ["tiny/corpus.jsonl", "tiny/manifest.json", "tiny/qrels/test.tsv"]
    assert [path.name for path in data_dir.iterdir()] == ["tiny"], "nothing temporary stays"
    assert (data_dir / "tiny" / "corpus.jsonl").read_bytes() == CORPUS
    manifest = find_manifest(data_dir / "tiny")
    assert manifest is not None
    assert manifest.md5 == hashlib.md5(WHOLE, usedforsecurity=False).hexdigest()
    assert changes(data_dir / "tiny", manifest) == []


def test_an_archive_is_fetched_verified_and_unpacked(server, tmp_path):
    fetch_archive(known(), tmp_path / "data")
    assert_complete(tmp_path / "data")
    assert server.requests == [("/sets/tiny.zip", None)]


def test_only_the_missing_bytes_are_asked_for(server, tmp_path):
    (tmp_path / "tiny.zip.part").write_bytes(WHOLE[:40_000])
    fetch_archive(known(), tmp_path)
    assert_complete(tmp_path)
    assert server.requests == [("/sets/tiny.zip", "bytes=40000-")]


def test_a_complete_part_is_taken_as_it_is(server, tmp_path):
    (tmp_path / "tiny.zip.part").write_bytes(WHOLE)
    fetch_archive(known(), tmp_path)
    assert_complete(tmp_path)
    assert server.requests == [("/sets/tiny.zip", f"bytes={len(WHOLE)}-")]


def test_a_server_that_ignores_ranges_sends_all_of_it_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "tiny.zip.part").write_bytes(b"x" * 40_000)
    fetch_archive(known(), tmp_path)
    assert_complete(tmp_path)
    assert server.requests == [("/sets/tiny.zip", "bytes=40000-")]


def test_a_broken_transfer_keeps_what_came_and_the_same_call_goes_on(server, tmp_path):
    server.stop_after = 10_000
    with pytest.raises(DataError, match=r"40,000 bytes are kept in .*tiny\.zip\.part.*resumes the download"):
        fetch_archive(known(), tmp_path)
    assert (tmp_path / "tiny.zip.part").read_bytes() == WHOLE[:40_000]
    server.stop_after = None
    fetch_archive(known(), tmp_path)
    assert_complete(tmp_path)
    resumed = ["bytes=10000-", "bytes=20000-", "bytes=30000-", "bytes=40000-"]
    assert [byte_range for _, byte_range in server.requests] == [None, *resumed]


def test_a_broken_transfer_goes_on_by_itself(server, tmp_path):
    server.stop_after = 50_000
    fetch_archive(known(), tmp_path)
    assert_complete(tmp_path)
    assert [byte_range for _, byte_range in server.requests] == [None, "bytes=50000-", "bytes=100000-"]


def test_an_overloaded_server_is_asked_again_and_a_refusal_is_not(server, tmp_path):
    for status, requests in ((503, 4), (429, 4), (404, 1), (403, 1)):
        server.status = status
        server.requests.clear()
        with pytest.raises(DataError, match=str(status)):
            fetch_archive(known(), tmp_path)
        assert len(server.requests) == requests


def test_an_answer_that_takes_too_long_is_asked_for_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT", 0.3)
    server.slow = [0.9]
    fetch_archive(known(), tmp_path)
    assert_complete(tmp_path)
    assert len(server.requests) == 2


def test_another_source_is_tried_and_its_address_kept(server, tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "MIRRORS", (catalogue.BASE_URL.replace("/sets", "/mirror"),))
    server.missing = "/sets"
    fetch_archive(known(), tmp_path)
    assert_complete(tmp_path)
    assert [path for path, _ in server.requests] == ["/sets/tiny.zip", "/mirror/tiny.zip"]
    assert find_manifest(tmp_path / "tiny").url.endswith("/mirror/tiny.zip")


def test_every_source_that_failed_is_named(server, tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "MIRRORS", (catalogue.BASE_URL.replace("/sets", "/mirror"),))
    server.status = 404
    with pytest.raises(
        DataError, match=r"/sets/tiny\.zip failed: .*404.*; then .*/mirror/tiny\.zip failed: .*404"
    ):
        fetch_archive(known(), tmp_path)


def test_a_server_that_is_not_there_is_a_data_error(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(catalogue, "BASE_URL", "http://127.0.0.1:9/sets")
    monkeypatch.setattr(catalogue, "MIRRORS", ())
    with pytest.raises(DataError, match=r"/sets/tiny\.zip failed: Connection refused$"):
        fetch_archive(known(), tmp_path)


def test_a_wrong_checksum_deletes_what_came(server, tmp_path):
    server.body = WHOLE[:-1] + b"?"
    with pytest.raises(DataError, match=r"is [0-9a-f]{32}, not [0-9a-f]{32}\. The archive has been deleted"):
        fetch_archive(known(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_left_by_an_earlier_call_is_verified_too(server, tmp_path):
    (tmp_path / "tiny.zip").write_bytes(b"not the archive")
    with pytest.raises(DataError, match="The archive has been deleted"):
        fetch_archive(known(), tmp_path)
    fetch_archive(known(), tmp_path)
    assert_complete(tmp_path)


@pytest.mark.parametrize("status", [404, 503])
def test_an_error_page_is_never_kept_as_data(server, tmp_path, status):
    server.status = status
    with pytest.raises(DataError, match=rf"the server answers {status} [\w ]+$"):
        fetch_archive(known(), tmp_path)
    assert names(tmp_path) == []
    (tmp_path / "tiny.zip.part").write_bytes(WHOLE[:100])
    with pytest.raises(DataError, match="100 bytes are kept"):
        fetch_archive(known(), tmp_path)
    assert (tmp_path / "tiny.zip.part").read_bytes() == WHOLE[:100]


@pytest.mark.parametrize(
    "member", ["../evil.txt", "tiny/../../evil.txt", "/evil.txt", "..\\evil.txt", "tiny/..\\..\\evil.txt"]
)
def test_an_archive_that_reaches_outside_is_refused(server, tmp_path, member):
    server.body = make_zip({"tiny/corpus.jsonl": b"{}", member: b"evil"})
    data_dir = tmp_path / "a" / "data"
    with pytest.raises(DataError, match="would be written outside its folder"):
        fetch_archive(known(server.body), data_dir)
    assert names(tmp_path) == ["a/data/tiny.zip"], "nothing of it is unpacked"


def test_an_interrupted_unpacking_is_done_again(server, tmp_path):
    (tmp_path / "tiny.zip").write_bytes(WHOLE)
    half = tmp_path / f".new.{HOST}.killed.tmp" / "tiny"
    half.mkdir(parents=True)
    (half / "corpus.jsonl").write_bytes(CORPUS[:10])
    (half / "stale").write_bytes(b"")
    fetch_archive(known(), tmp_path)
    assert_complete(tmp_path)
    assert server.requests == []


def test_an_unpacking_that_fails_leaves_nothing_but_the_archive(server, tmp_path, monkeypatch):
    def full(self, path=None):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extractall", full)
    with pytest.raises(OSError, match="No space left"):
        fetch_archive(known(), tmp_path)
    assert names(tmp_path) == ["tiny.zip"]


def test_progress_counts_the_bytes_that_are_here_and_those_that_come(server, tmp_path):
    tasks = []

    class Counting:
        @contextmanager
        def task(self, description, total):
            tasks.append([description, total, 0])

            def advance(n=1, note="", tokens=0):
                tasks[-1][2] += n

            yield advance

    (tmp_path / "tiny.zip.part").write_bytes(WHOLE[:40_000])
    fetch_archive(known(), tmp_path, Counting())
    assert tasks == [["download tiny.zip, bytes", len(WHOLE), len(WHOLE)]]


def test_an_archive_without_its_folder_is_refused(server, tmp_path):
    server.body = make_zip({"other/corpus.jsonl": b"{}"})
    with pytest.raises(DataError, match="the archive has no folder 'tiny'"):
        fetch_archive(known(server.body), tmp_path)
    assert not (tmp_path / "tiny").exists()


def test_an_incomplete_folder_in_the_way_is_named_before_anything_is_fetched(server, tmp_path):
    (tmp_path / "tiny" / "android").mkdir(parents=True)
    with pytest.raises(DataError, match="move it away"):
        fetch_archive(known(), tmp_path)
    assert server.requests == []


def test_a_licensed_set_is_never_asked_for(server, tmp_path):
    licensed = KnownDataset(name="beir/news", folder="news", obtain="Apply to the publisher.")
    with pytest.raises(DataError, match=r"never downloaded\. Apply to the publisher\. Put .*news, made as"):
        fetch_archive(licensed, tmp_path)
    assert (server.requests, list(tmp_path.iterdir())) == ([], [])


def test_a_data_folder_that_is_a_file_is_a_data_error(server, tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(DataError, match="no data set can be written into this folder"):
        fetch_archive(known(), tmp_path / "data")


@pytest.fixture
def fetched(tmp_path):
    folder = tmp_path / "forums"
    for name in ("tex/corpus.jsonl", "tex/qrels/test.tsv", "unix/corpus.jsonl"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    write_manifest(folder, url="http://x/forums.zip", md5="0" * 32)
    return folder


def test_a_manifest_speaks_of_its_folder_and_of_those_below(fetched, tmp_path):
    whole, tex = find_manifest(fetched), find_manifest(fetched / "tex")
    assert set(whole.files) == {"tex/corpus.jsonl", "tex/qrels/test.tsv", "unix/corpus.jsonl"}
    assert set(tex.files) == {"corpus.jsonl", "qrels/test.tsv"}
    assert (tex.url, tex.md5) == ("http://x/forums.zip", "0" * 32)
    (fetched / "new").mkdir()
    assert find_manifest(fetched / "new") is None
    assert find_manifest(tmp_path) is None


def test_nothing_has_changed_at_first_and_further_files_do_not_matter(fetched):
    (fetched / "tex" / "qrels" / "mine.tsv").write_text("more")
    assert changes(fetched, find_manifest(fetched)) == []
    assert changes(fetched / "tex", find_manifest(fetched / "tex")) == []


def test_a_changed_file_and_a_lost_one_are_named(fetched):
    (fetched / "tex" / "corpus.jsonl").write_text("tex/corpus.jsonk")
    (fetched / "tex" / "qrels" / "test.tsv").unlink()
    problems = ["corpus.jsonl has changed since the download", "qrels/test.tsv is missing"]
    assert changes(fetched / "tex", find_manifest(fetched / "tex")) == problems
    assert changes(fetched / "unix", find_manifest(fetched / "unix")) == []


def test_a_path_in_a_manifest_is_never_opened(fetched, tmp_path):
    (tmp_path / "secret").write_text("secret")
    value = json.loads((fetched / "manifest.json").read_text())
    (fetched / "manifest.json").write_text(json.dumps({**value, "files": {"../secret": "0"}}))
    assert changes(fetched, find_manifest(fetched)) == ["../secret is missing"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "url": "", "md5": "", "files": 3}', "\udcff"]
)
def test_an_unreadable_manifest_is_a_data_error(fetched, text):
    (fetched / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r"manifest\.json: "):
        find_manifest(fetched)
