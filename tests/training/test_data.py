"""Rows of training data, groups drawn from them, batches, and pairs of chunks made from text."""

import gc
import gzip
import importlib
import json
import random
import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from checkout import SHARED

from adapters.llara import data
from adapters.llara.data import build, read_rows
from adapters.llara.stop_words import STOP_WORDS, without_stop_words, words_of
from llara_eval.core.decode import decode
from llara_eval.core.errors import DataError, MissingPartError
from llara_eval.training import groups
from llara_eval.training.batching import PADDING, packed_batches, split_to, token_batches
from llara_eval.training.data import RowFormat, Rows, order
from llara_eval.training.groups import GroupRow, draw


@dataclass
class TextRow:
    text: str


TEXT_ROWS = RowFormat("text", TextRow)


def rows_of(folder: Path, *contents: bytes, ending: str = "jsonl") -> Rows:
    paths = [folder / f"rows{number}.{ending}" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    return Rows(paths, TEXT_ROWS, cache=folder / "cache")


LINES = b'\xef\xbb\xbf{"text": "one"}\n\n  \r\n{"text": "zw\xc3\xb6lf"}\r\n{"text": "three"}'


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_rows_are_read_by_number_whatever_the_byte_order_mark_blank_lines_and_line_ends(
    tmp_path: Path, ending: str
) -> None:
    rows = rows_of(tmp_path, LINES, b'{"text": "four"}\n', ending=ending)
    assert len(rows) == 4
    assert [rows[number]["text"] for number in (3, 1, 0, 2)] == ["four", "zwölf", "one", "three"]
    assert rows.location(1) == f"{tmp_path / f'rows0.{ending}'}:4"
    assert rows.location(3) == f"{tmp_path / f'rows1.{ending}'}:1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b'{"text": "\\ud83d\\ude00"}\n{"text": "\\ud800"}\n',
            "rows0.jsonl:2: a text holds half a surrogate pair",
        ),
        (b'{"text": "a"}\n{"txt": 1}\n', "rows0.jsonl:2: Object missing required field `text`"),
        (b'{"text": "a"}\n\n{"text": \n', "rows0.jsonl:3: not valid JSON"),
        (b'["text"]\n', "rows0.jsonl:1: expected a JSON object, found"),
        (b'{"text": "\xff"}\n', "rows0.jsonl:1: not UTF-8"),
        (b"\n \n", "rows0.jsonl: no rows"),
    ],
)
def test_a_malformed_row_is_named_with_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows_of(tmp_path, content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("latin.jsonl", b'\n{"text": "caf\xe9 au lait"}\n', "latin.jsonl:2: not UTF-8"),
        ("later.jsonl", b'{"text": "tea"}\n{"text": "caf\xe9 au lait"}\n', "later.jsonl:2: not UTF-8"),
        ("false.jsonl.gz", b"no archive", "false.jsonl.gz:1: cannot be read further"),
        ("odd.jsonl", b'\n{"body": "tea"}\n', "odd.jsonl:2: expected input"),
    ],
)
def test_text_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_rows([tmp_path / name], words=5, cache=tmp_path)


def test_a_cut_off_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(LINES * 100)[:-20])
    with pytest.raises(DataError, match="cannot be decompressed"):
        Rows([path], TEXT_ROWS, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


def test_a_file_is_checked_once_and_again_when_it_has_changed(tmp_path: Path) -> None:
    checked = []

    @dataclass
    class Checked:
        text: str

        def __post_init__(self) -> None:
            checked.append(self.text)

    path = tmp_path / "rows.jsonl"
    for content, seen in (
        (b'{"text": "a"}\n', ["a"]),
        (b'{"text": "a"}\n', ["a"]),
        (b'{"text": "b"}\n', ["a", "b"]),
    ):
        path.write_bytes(content)
        Rows([path], RowFormat("checked", Checked), cache=tmp_path / "cache")
        assert checked == seen
    Rows([path], RowFormat("checked-2", Checked), cache=tmp_path / "cache")
    assert checked == ["a", "b", "b"], "a cached index belongs to a format's name, and to nothing else"


def test_damaged_files_of_the_cache_are_made_again(tmp_path: Path) -> None:
    """The decompressed copy, the index, and the record of each: one bit in any of them."""
    before = list(rows_of(tmp_path, LINES, ending="jsonl.gz"))
    cache = sorted((tmp_path / "cache").iterdir())
    assert len(cache) == 4
    for path in cache:
        content = bytearray(whole := path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        assert list(rows_of(tmp_path, LINES, ending="jsonl.gz")) == before, path
        assert path.read_bytes() == whole


def test_the_fingerprint_depends_on_the_content_alone(tmp_path: Path) -> None:
    first, same, other = (rows_of(tmp_path, text) for text in (LINES, LINES, LINES.replace(b"one", b"two")))
    assert first.fingerprint == same.fingerprint != other.fingerprint


def test_the_last_rows_can_be_held_out_but_not_all(tmp_path: Path) -> None:
    trained, kept = rows_of(tmp_path, LINES).split(1)
    assert [row["text"] for row in trained] == ["one", "zwölf"]
    assert [row["text"] for row in kept] == ["three"]
    with pytest.raises(DataError, match="3 rows, 3 to be held out"):
        rows_of(tmp_path, LINES).split(3)


def test_files_are_closed_with_the_rows_that_read_them(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, LINES)
    assert rows[0] == {"text": "one"}
    trained, kept = rows.split(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del rows
        gc.collect()
        assert trained[1] == {"text": "zwölf"}, "the parts have files of their own"
        del trained, kept
        gc.collect()
    assert [str(warning.message) for warning in caught if str(tmp_path) in str(warning.message)] == []


def test_the_order_of_an_epoch_is_a_permutation_decided_by_seed_and_epoch() -> None:
    orders = [order(50, seed, epoch).tolist() for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0))]
    assert orders[0] == orders[1]
    assert len(set(map(tuple, orders))) == 3
    assert all(sorted(numbers) == list(range(50)) for numbers in orders)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"pos": ["a"]}, "missing required field `query`"),
        ({"query": "q"}, "missing required field `pos`"),
        ({"query": "q", "pos": []}, "pos: expected at least one text"),
        ({"query": "q", "pos": "a"}, "Expected `array`, got `str` - at `$.pos`"),
        ({"query": "q", "pos": ["a"], "neg": [1]}, "Expected `str`, got `int` - at `$.neg[0]`"),
        ({"query": "q", "pos": ["a"], "pos_scores": [1, 2]}, "pos_scores: expected 1 numbers"),
        ({"query": "q", "pos": ["a"], "pos_scores": [float("nan")]}, "pos_scores: expected 1 numbers"),
        ({"query": "q", "pos": ["a", " "]}, "pos: a text is empty"),
        ({"query": "\n", "pos": ["a"]}, "query: a text is empty"),
        ({"query": "q", "pos": ["a"], "neg": [""]}, "neg: a text is empty"),
        (
            {"query": "q", "pos": ["a"], "neg": ["b"], "neg_scores": ["high"]},
            "Expected `float`, got `str` - at `$.neg_scores[0]`",
        ),
    ],
)
def test_a_malformed_group_is_explained(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as error:
        decode(row, GroupRow, "rows.jsonl:1")
    assert message in str(error.value)


def test_a_group_is_one_positive_and_different_negatives_with_their_scores() -> None:
    negatives = ["n0", "n1", "n1", "p1", "n2", "n3"]
    row = {
        "query": "q",
        "pos": ["p0", "p1"],
        "neg": negatives,
        "pos_scores": [10.0, 11.0],
        "neg_scores": [0.0, 1.0, 1.5, 9.0, 2.0, 3.0],
    }
    decode(row, GroupRow, "row")
    scores = {"p0": 10.0, "p1": 11.0, "n0": 0.0, "n1": 1.0, "n2": 2.0, "n3": 3.0}
    seen = set()
    for epoch in range(20):
        group = draw(row, 4, seed=1, epoch=epoch, index=5)
        assert group == draw(row, 4, seed=1, epoch=epoch, index=5)
        assert group.passages[0] in ("p0", "p1")
        assert len(set(group.passages)) == 4
        assert not {"p0", "p1"}.intersection(group.passages[1:])
        assert group.known == ("p0", "p1")
        assert group.teacher == tuple(scores[text] for text in group.passages)
        seen.update(group.passages)
    assert seen == set(scores)
    assert len(draw(row, 16, seed=1, epoch=0, index=5).passages) == 5


def test_a_teacher_is_used_only_if_it_scored_all_passages() -> None:
    row = {"query": "q", "pos": ["p"], "neg": ["n"], "pos_scores": [1.0]}
    assert draw(row, 2, seed=0, epoch=0, index=0).teacher is None
    assert draw(row, 1, seed=0, epoch=0, index=0).teacher == (1.0,)


@pytest.mark.parametrize("seed", range(20))
def test_batches_hold_every_row_once_within_the_budget_and_hardly_any_padding(seed: int) -> None:
    drawn = random.Random(seed)
    lengths = [drawn.randint(1, drawn.choice([20, 200, 600])) for _ in range(drawn.randint(1, 200))]
    budget = drawn.choice([64, 512, 4096])
    batches = token_batches(lengths, budget)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    padded = [len(batch) * max(lengths[row] for row in batch) for batch in batches]
    assert all(size <= budget or len(batch) == 1 for size, batch in zip(padded, batches, strict=True))
    assert sum(padded) - sum(lengths) <= PADDING * sum(padded)


def test_equal_lengths_fill_the_budget() -> None:
    assert [len(batch) for batch in token_batches([100] * 25, 1_000)] == [10, 10, 5]
    assert token_batches([], 10) == []


def test_packed_batches_fill_the_budget_in_order() -> None:
    assert packed_batches([3, 4, 3, 20, 1, 9], 10) == [[0, 1, 2], [3], [4, 5]]
    assert packed_batches([], 10) == []


def test_batches_are_halved_until_there_are_enough_for_all_processes() -> None:
    assert split_to([[0, 1, 2, 3], [4, 5]], 3) == [[0, 1], [4, 5], [2, 3]]
    assert sorted(split_to([[0, 1]], 4)) == [[], [], [0], [1]]


SENTENCES = [f"This is sentence number {number} of the story." for number in range(40)]


def test_chunks_follow_each_other_within_one_source_only(tmp_path: Path) -> None:
    path = tmp_path / "text.jsonl"
    sources = {"book": SENTENCES[:20], "speech": SENTENCES[20:]}
    lines = [{"source": name, "text": text} for name, texts in sources.items() for text in texts]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    rows = list(build(path, 24))  # eight words a sentence: three make a chunk
    decode(rows, list[data.AdaptationRow], "rows")
    assert all(row["input"] == row["output_summarize"] for row in rows)
    assert rows[0]["input"] == " ".join(SENTENCES[:3])
    for name, texts in sources.items():
        whole = " ".join(texts)
        of_source = [row for row in rows if row["input"] in whole]
        assert len(of_source) == 6, "seven chunks"
        assert all(f"{row['input']} {row['output_predict']}" in whole for row in of_source), name
        assert all(row["output_predict"] == after["input"] for row, after in pairwise(of_source))
    assert len(rows) == 12


def test_plain_text_is_one_source_and_made_into_rows_once(tmp_path: Path) -> None:
    path = tmp_path / "story.txt.gz"
    path.write_bytes(gzip.compress("\n".join(SENTENCES).encode()))
    rows = read_rows([path], words=24, cache=tmp_path / "cache")
    assert (len(rows), list(rows.sources.values())) == (13, ["story.txt.gz"])
    (pairs,) = (tmp_path / "cache").glob("pairs-*.jsonl")
    written = pairs.stat().st_mtime_ns
    assert read_rows([path], words=24, cache=tmp_path / "cache").fingerprint == rows.fingerprint
    assert pairs.stat().st_mtime_ns == written
    assert read_rows([path], words=40, cache=tmp_path / "cache").fingerprint != rows.fingerprint


def test_chunks_end_with_sentences_and_abbreviations_are_none() -> None:
    texts = ["Dr. Smith met J. Doe in St. Ives (he said so.)", "Then both left!"]
    assert [" ".join(sentence) for sentence in data.sentences(" ".join(texts), 99)] == texts
    assert [len(sentence) for sentence in data.sentences("word " * 25, 10)] == [10, 10, 5]


def test_files_that_are_neither_rows_nor_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_text('{"question": 1}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"odd\.jsonl:1: expected input.* or text; found question"):
        read_rows([path], words=10, cache=tmp_path)
    path.write_text('{"text": "Too short."}\n', encoding="utf-8")
    with pytest.raises(DataError, match="no two chunks of 10 words"):
        read_rows([path], words=10, cache=tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_files_of_the_released_code_are_read_unchanged(tmp_path: Path) -> None:
    folder = SHARED / "data" / "train" / "llara_format"
    if not folder.is_dir():
        pytest.skip(f"no files of the released code at {folder}")
    adaptation = folder / "toy_pretrain_data.jsonl"
    rows = read_rows([adaptation], words=500, cache=tmp_path)
    assert rows.fingerprint == Rows([adaptation], data.FORMAT, cache=tmp_path).fingerprint
    rows = Rows([folder / "toy_finetune_data.jsonl"], groups.FORMAT, cache=tmp_path)
    assert len(draw(rows[0], 16, seed=0, epoch=0, index=0).passages) > 1


def test_stop_words_and_punctuation_go_whatever_their_case() -> None:
    assert (
        without_stop_words("The moon's_pull, THEN, isn't  Über-strong; 12 tides!", STOP_WORDS)
        == "moon pull Über strong 12 tides"
    )
    assert all(word == word.lower() and word.isalpha() for word in STOP_WORDS)


def test_without_distinct_negatives_a_rows_list_is_taken_as_it_is_and_repeated() -> None:
    """As random.sample over the repeated list draws in the released code."""
    row = {"query": "tides", "pos": ["moon"], "neg": ["sun", "sun", "moon", "sea"]}
    drawn = [draw(row, 8, seed=1, epoch=epoch, index=0, distinct=False).passages for epoch in range(50)]
    assert all(len(passages) == 8 and passages[0] == "moon" for passages in drawn)
    repeated = [*row["neg"]] * 3  # three distinct texts: ceil(7 / 3) times
    for _, *negatives in drawn:
        assert all(negatives.count(text) <= repeated.count(text) for text in negatives)
    assert {text for passages in drawn for text in passages[1:]} == {"sun", "moon", "sea"}
    few = draw(row, 3, seed=1, epoch=0, index=0, distinct=False)
    assert len(few.passages) == 3, "a list that is long enough is not repeated"
    assert draw({**row, "neg": []}, 8, seed=1, epoch=0, index=0, distinct=False).passages == ("moon",)


def test_nltks_stop_words_are_read_from_nltk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nltk = pytest.importorskip("nltk")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    words_of.cache_clear()
    with pytest.raises(MissingPartError, match=r"python -m nltk\.downloader stopwords"):
        words_of("nltk")
    folder = tmp_path / "corpora" / "stopwords"
    folder.mkdir(parents=True)
    (folder / "english").write_text("the\nshe's\n")
    stopwords = importlib.reload(importlib.import_module("nltk.corpus")).stopwords
    assert stopwords.words("english") == ["the", "she's"]
    assert words_of("nltk") == {"the", "she's"}
    words_of.cache_clear()
    assert words_of("none") == frozenset()
    assert words_of("own") == STOP_WORDS
