"""``llara-eval datasets``: list, fetch, verify, show; and how they treat damaged folders."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from commands import DOCUMENTS, QRELS, QUERIES, call, text_of
from layouts import by_language
from servers import make_zip

from llara_eval.core.errors import CheckFailedError
from llara_eval.datasets import download
from llara_eval.datasets import known as catalogue

LICENSED = catalogue.KnownDataset(name="beir/news", folder="news", obtain="Apply to the publisher.")


@pytest.fixture
def tiny(make_collection) -> Path:
    return make_collection(DOCUMENTS, QUERIES, QRELS, name="made/scifact")


@pytest.fixture
def archive(tiny, server, monkeypatch) -> bytes:
    """Serve a small collection as SciFact, and add a licensed set and one that is not served."""
    files = sorted(path for path in tiny.rglob("*") if path.is_file())
    server.body = make_zip(
        {f"scifact/{path.relative_to(tiny).as_posix()}": path.read_bytes() for path in files}
    )
    md5 = hashlib.md5(server.body, usedforsecurity=False).hexdigest()
    scifact = replace(catalogue.KNOWN["beir/scifact"], documents=4, queries=3, judgements=4, md5=md5)
    other = catalogue.KNOWN["beir/nq"]
    known = {item.name: item for item in (scifact, other, LICENSED)}
    monkeypatch.setattr(catalogue, "KNOWN", known)
    return server.body


@pytest.fixture
def data(tmp_path, archive) -> Path:
    """Return a data folder with SciFact as it was fetched."""
    folder = tmp_path / "data"
    assert call("datasets", "fetch", "scifact", "--data-dir", folder).exit_code == 0
    return folder


def rows_of(result) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads(result.stdout)}


def verify(data: Path, *words: object):
    result = call("datasets", "verify", *words, "--json", "--data-dir", data)
    return result.exit_code, rows_of(result) if result.stdout else {}


@pytest.mark.parametrize("words", [(), ("list",)])
def test_the_list_as_json_is_an_array_of_objects_with_names(make_collection, words):
    folder = make_collection(DOCUMENTS, QUERIES, QRELS).parent
    rows = rows_of(call("datasets", *words, "--json", "--data-dir", folder))
    assert {*catalogue.KNOWN, "demo", "tiny"} == set(rows)
    assert rows["tiny"]["at_hand"]
    assert not rows["beir/nq"]["at_hand"]
    assert rows["beir/quora"]["own_id_dropped"]
    assert rows["beir/msmarco"]["split"] == "dev"
    assert rows["beir/robust04"]["licence"] == "NIST, agreement"
    shown = call("datasets", *words, "--data-dir", folder).stdout
    assert "13,145" not in shown
    assert "8,841,823" in shown


def test_options_before_a_command_are_for_the_command(tmp_path):
    shown = call("datasets", "--data-dir", tmp_path / "none", "--json", "show", "robust04")
    assert json.loads(shown.stdout)["licence"] == "NIST, agreement"
    refused = call("datasets", "--data-dir", tmp_path / "none", "verify")
    assert (refused.exit_code, "none: there is no data set" in text_of(refused)) == (3, True)


def test_a_data_folder_that_is_not_there_holds_nothing_and_is_not_made(tmp_path):
    rows = rows_of(call("datasets", "list", "--json", "--data-dir", tmp_path / "none"))
    assert [name for name, row in rows.items() if row["at_hand"]] == ["demo"]
    assert not (tmp_path / "none").exists()


def test_hostile_folder_names_are_shown_as_text(make_collection, tmp_path):
    for name in ("[bold]x", "a\x1b[31mb", "new\nline"):
        make_collection(DOCUMENTS, QUERIES, QRELS, name=name)
    shown = call("datasets", "--data-dir", tmp_path)
    assert shown.exit_code == 0
    for text in ("[bold]x", r"a\x1b[31mb", r"new\nline"):
        assert text in shown.stdout
    assert "\x1b[31m" not in shown.stdout
    code, rows = verify(tmp_path)
    assert (code, len(rows)) == (0, 3)


def test_fetch_brings_what_is_missing_once(data, server):
    before = len(server.requests)
    result = call("datasets", "fetch", "beir/scifact", "--json", "--data-dir", data)
    assert rows_of(result)["beir/scifact"] == {
        "name": "beir/scifact",
        "folder": str(data / "scifact"),
        "fetched": False,
        "problem": None,
    }
    assert "was at hand" in text_of(result)
    assert len(server.requests) == before == 1


def test_fetch_goes_on_after_a_failure_and_exits_6(tmp_path, archive):
    result = call(
        "datasets", "fetch", "news", "../evil", "scifact", "--json", "--data-dir", tmp_path / "data"
    )
    assert result.exit_code == 6
    rows = rows_of(result)
    assert {name: row["fetched"] for name, row in rows.items()} == {
        "news": False,
        "../evil": False,
        "scifact": True,
    }
    assert "Apply to the publisher." in rows["news"]["problem"]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["scifact"]


@pytest.mark.parametrize("name", ["news", "../evil", "/etc", "nobody-knows", "\x1b[31mred"])
def test_fetch_of_a_set_that_cannot_be_downloaded_exits_3(tmp_path, archive, server, name):
    result = call("datasets", "fetch", name, "--data-dir", tmp_path / "data")
    assert result.exit_code == 3
    assert "\x1b" not in result.stdout + result.stderr
    assert server.requests == []
    assert not (tmp_path / "data").exists()


def test_an_interrupted_fetch_is_seen_by_show_and_goes_on(tmp_path, archive, server, monkeypatch):
    monkeypatch.setattr(download, "_CHUNK", 50)
    server.stop_after = 50
    assert call("datasets", "fetch", "scifact", "--data-dir", tmp_path / "data").exit_code == 3
    shown = call("datasets", "show", "scifact", "--json", "--data-dir", tmp_path / "data")
    (warning,) = json.loads(shown.stdout)["warnings"]
    assert "interrupted, 200 bytes are in" in warning
    server.stop_after = None
    assert call("datasets", "fetch", "scifact", "--data-dir", tmp_path / "data").exit_code == 0
    assert server.requests[-1][1] == "bytes=200-"


def test_fetch_does_not_take_an_empty_folder_for_a_data_set(tmp_path, archive):
    (tmp_path / "data" / "scifact").mkdir(parents=True)
    result = call("datasets", "fetch", "scifact", "--data-dir", tmp_path / "data")
    assert (result.exit_code, "move it away" in text_of(result)) == (3, True)


def test_verify_compares_counts_and_checksums_of_what_was_fetched(data):
    code, rows = verify(data)
    row = rows["beir/scifact"]
    assert code == 0
    assert (row["documents"], row["queries"], row["judgements"]) == (4, 3, 4)
    assert (row["checksums"], row["problem"]) == ("3 files as fetched", None)


def test_verify_without_a_record_says_what_was_compared_instead(data):
    (data / "scifact" / "manifest.json").unlink()
    code, rows = verify(data, "scifact")
    assert code == 0
    assert (
        rows["scifact"]["checksums"] == "no record of a download; every line read, the pinned counts compared"
    )


def test_verify_finds_a_change_that_leaves_the_counts_alone(data):
    path = data / "scifact" / "corpus.jsonl"
    path.write_text(path.read_text().replace("red apples", "red Apples"))
    code, rows = verify(data)
    assert (code, rows["beir/scifact"]["checksums"]) == (3, "differ")
    assert rows["beir/scifact"]["problem"] == "corpus.jsonl has changed since the download"


def test_verify_finds_another_archive_than_the_pinned_one(data, monkeypatch):
    changed = replace(catalogue.KNOWN["beir/scifact"], md5="f" * 32)
    monkeypatch.setattr(catalogue, "KNOWN", {changed.name: changed})
    code, rows = verify(data)
    assert (code, f"not {'f' * 32}" in rows["beir/scifact"]["problem"]) == (3, True)


def test_verify_finds_a_folder_that_only_bears_the_name(data):
    (data / "scifact" / "manifest.json").unlink()
    with (data / "scifact" / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "d5", "text": "more"}\n')
    code, rows = verify(data)
    assert (
        code,
        "not the public data set of that name: 5 documents, not 4" in rows["beir/scifact"]["problem"],
    ) == (
        3,
        True,
    )


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("corpus.jsonl", "corpus.jsonl:5"),
        ("queries.jsonl", "queries.jsonl:4"),
        ("qrels/dev.tsv", "dev.tsv:1"),
    ],
)
def test_verify_names_the_line_that_is_wrong_in_whatever_file(data, file, message):
    with (data / "scifact" / file).open("a") as out:
        out.write("{broken\n")
    code, rows = verify(data)
    assert (code, message in rows["beir/scifact"]["problem"]) == (3, True)
    assert rows["beir/scifact"]["documents"] is None


def test_verify_goes_on_after_a_wrong_set_and_takes_folders_nobody_knows(data, make_collection):
    folder = make_collection(DOCUMENTS, QUERIES, QRELS, name="own", split="dev")
    shutil.move(folder, data / "own")
    (data / "scifact" / "corpus.jsonl").write_text("")
    result = call("datasets", "verify", "scifact", "own", "nothing", "--data-dir", data)
    assert result.exit_code == 3
    assert "2 of 3 data sets have defects" in text_of(result)
    assert result.stdout.count("wrong") == 2
    assert verify(data, "own")[1]["own"]["checksums"].endswith("no counts are pinned")


def test_verify_never_fetches(tmp_path, archive, server):
    code, rows = verify(tmp_path / "data", "scifact", "news")
    assert (code, server.requests) == (3, [])
    assert "Apply to the publisher." in rows["news"]["problem"]


def test_show_says_what_is_known_and_what_is_at_hand(data):
    facts = json.loads(call("datasets", "show", "scifact", "--json", "--data-dir", data).stdout)
    assert (facts["name"], facts["folder"], facts["splits"]) == (
        "beir/scifact",
        str(data / "scifact"),
        ["test"],
    )
    assert facts["url"].endswith("/scifact.zip")
    assert facts["fetched"] == f"3 files, archive md5 {facts['md5']}"
    assert facts["warnings"] == []
    (data / "scifact" / "queries.jsonl").unlink()
    shown = call("datasets", "show", "scifact", "--data-dir", data)
    assert "neither queries.jsonl, queries.jsonl.gz or" in shown.stdout
    assert call("datasets", "show", "nobody-knows", "--data-dir", data).exit_code == 3


def test_a_folder_of_several_configurations_ends_with_exit_code_4_and_their_names(tmp_path):
    by_language(tmp_path / "set")
    result = call("evaluate", "-m", "bm25", "-d", tmp_path / "set", "--runs-dir", tmp_path / "runs")
    assert result.exit_code == CheckFailedError.exit_code == 4
    assert "of de, fr; name one" in " ".join(result.stderr.split())
    listed = call("datasets", "--json", "--data-dir", tmp_path)
    assert {"set:de", "set:fr"} <= set(rows_of(listed))


def test_show_of_a_group_lists_its_members(tmp_path):
    result = call("datasets", "show", "cqadupstack", "--json", "--data-dir", tmp_path)
    assert list(rows_of(result)) == list(catalogue.CQADUPSTACK)
    assert "68,184" in call("datasets", "show", "cqadupstack", "--data-dir", tmp_path).stdout


def test_show_says_how_a_data_set_is_measured(tmp_path):
    facts = {
        name: json.loads(call("datasets", "show", name, "--json", "--data-dir", tmp_path).stdout)
        for name in ("msmarco-document/dev", "scifact")
    }
    pages, scifact = facts["msmarco-document/dev"], facts["scifact"]
    assert (pages["measures"][0], pages["depth"], pages["text_length"]) == ("RR@100", 100, 2_048)
    assert (scifact["measures"][0], scifact["depth"], scifact["text_length"]) == ("nDCG@10", 1_000, None)
    assert scifact["groups"] == ["beir-13", "beir-14", "beir-15", "beir-18"]


@pytest.mark.real
def test_the_real_collections_are_what_they_should_be(real_data):
    code, rows = verify(real_data, "scifact", "arguana", "limit-small")
    assert code == 0
    assert [row["documents"] for row in rows.values()] == [5_183, 8_674, 46]
    (warning,) = rows["arguana"]["warnings"]
    assert warning.startswith("5 judged documents are not in the corpus")


def test_one_malformed_folder_stops_neither_the_list_nor_the_check_of_all(data):
    odd = data / "odd"
    odd.mkdir()
    (odd / "README.md").write_text("---\n[\n---\n")
    (data / "scifact" / "README.md").write_text("---\n[\n---\n")
    result = call("datasets", "list", "--json", "--data-dir", data)
    assert result.exit_code == 0
    assert "odd is left out: README.md: its head is not YAML" in " ".join(result.stderr.split())
    assert "odd" not in rows_of(result)
    assert "beir/scifact" in rows_of(result)
    code, rows = verify(data)
    assert code == 3
    assert {name for name, row in rows.items() if row["problem"]} == {"odd", "beir/scifact"}
