"""Receipts: what was fetched, and whether it still is."""

import json

import pytest

from llara_eval.core.errors import DataError
from llara_eval.datasets import receipts


@pytest.fixture
def fetched(tmp_path):
    folder = tmp_path / "forums"
    for name in ("tex/corpus.jsonl", "tex/qrels/test.tsv", "unix/corpus.jsonl"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    receipts.write(folder, url="http://x/forums.zip", md5="0" * 32)
    return folder


def test_a_receipt_speaks_of_its_folder_and_of_those_below(fetched, tmp_path):
    whole, tex = receipts.find(fetched), receipts.find(fetched / "tex")
    assert set(whole.files) == {"tex/corpus.jsonl", "tex/qrels/test.tsv", "unix/corpus.jsonl"}
    assert set(tex.files) == {"corpus.jsonl", "qrels/test.tsv"}
    assert (tex.url, tex.md5) == ("http://x/forums.zip", "0" * 32)
    (fetched / "new").mkdir()
    assert receipts.find(fetched / "new") is None
    assert receipts.find(tmp_path) is None


def test_nothing_has_changed_at_first_and_further_files_do_not_matter(fetched):
    (fetched / "tex" / "qrels" / "mine.tsv").write_text("more")
    assert receipts.changes(fetched, receipts.find(fetched)) == []
    assert receipts.changes(fetched / "tex", receipts.find(fetched / "tex")) == []


def test_a_changed_file_and_a_lost_one_are_named(fetched):
    (fetched / "tex" / "corpus.jsonl").write_text("tex/corpus.jsonk")
    (fetched / "tex" / "qrels" / "test.tsv").unlink()
    problems = ["corpus.jsonl is not as it was fetched", "qrels/test.tsv is no longer there"]
    assert receipts.changes(fetched / "tex", receipts.find(fetched / "tex")) == problems
    assert receipts.changes(fetched / "unix", receipts.find(fetched / "unix")) == []


def test_a_path_in_a_receipt_is_never_opened(fetched, tmp_path):
    (tmp_path / "secret").write_text("secret")
    value = json.loads((fetched / "receipt.json").read_text())
    (fetched / "receipt.json").write_text(json.dumps({**value, "files": {"../secret": "0"}}))
    assert receipts.changes(fetched, receipts.find(fetched)) == ["../secret is no longer there"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "url": "", "md5": "", "files": 3}', "\udcff"]
)
def test_an_unreadable_receipt_is_a_data_error(fetched, text):
    (fetched / "receipt.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r"receipt\.json: "):
        receipts.find(fetched)
