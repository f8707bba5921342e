"""The made-up collection, and a rehearsal of a whole evaluation on one."""

import json
import mmap
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scale
import synthetic

from llara_eval.checkpoints import load as checkpoints
from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.datasets.load import load

FILES = ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
SHORT = synthetic.lengths_like("quora")


def contents(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


def test_equal_seeds_give_equal_bytes_and_other_seeds_do_not(tmp_path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        synthetic.write(tmp_path / name, 300, 5, SHORT, seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert all(a != c for a, c in zip(contents(tmp_path / "a"), contents(tmp_path / "c"), strict=True))


def test_memory_does_not_grow_with_the_number_of_documents(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(synthetic, "BLOCK", 200)

    def peak(documents: int) -> int:
        tracemalloc.start()
        synthetic.write(tmp_path, documents, 5, SHORT, 0)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(200)  # fills caches
    assert peak(4_000) < 1.2 * peak(1_000)


@pytest.mark.parametrize(("name", "mean"), [("msmarco", 55.98), ("scifact", 213.63)])
def test_lengths_are_those_of_the_set_named(name, mean) -> None:
    lengths = synthetic.lengths_like(name)
    counts = [len(text.split()) for text in synthetic.texts(5_000, lengths, {}, 0)]
    assert np.mean(counts) == pytest.approx(mean, rel=0.02)
    assert np.quantile(counts, [0.1, 0.5, 0.9]) == pytest.approx(lengths[[10, 50, 90]], rel=0.05)


def test_lengths_are_those_of_the_folder_given(make_collection) -> None:
    folder = make_collection(
        {f"d{i}": ("title", "word " * (1 if i % 4 else 29)) for i in range(40)},
        {"q": "word"},
        {"q": {"d1": 1}},
    )
    counts = Counter(
        len(text.split()) for text in synthetic.texts(4_000, synthetic.lengths_like(str(folder)), {}, 0)
    )
    assert counts[2] == pytest.approx(3_000, rel=0.05)  # title and text, three of four
    assert counts[30] == pytest.approx(1_000, rel=0.1)


def test_another_name_is_refused() -> None:
    with pytest.raises(SystemExit, match="neither a folder nor one of msmarco"):
        synthetic.lengths_like("no-such-set")


def test_words_follow_zipfs_law() -> None:
    words = Counter(word for text in synthetic.texts(20_000, SHORT, {}, 0) for word in text.split())
    (_, first), (_, second) = words.most_common(2)
    share = np.log(2) / np.log(synthetic.VOCABULARY)
    assert first / words.total() == pytest.approx(share, rel=0.05)
    assert first / second == pytest.approx(np.log(2) / np.log(1.5), rel=0.05)
    assert len(words) > 20_000


def test_every_query_has_documents_that_share_its_words(tmp_path) -> None:
    synthetic.write(tmp_path, 500, 20, SHORT * 5, 0)
    dataset = load(str(tmp_path), data_dir=tmp_path)
    assert not dataset.warnings
    words = {document.doc_id: document.contents.split() for document in dataset.corpus}
    for query in dataset.queries:
        relevant = dataset.qrels[query.query_id]
        shares = [np.isin(words[doc], query.text.split()).mean() for doc in relevant]
        assert len(relevant) == synthetic.RELEVANT
        assert np.mean(shares) > 0.4


@LINUX
def test_a_stage_stops_while_another_runs_in_it() -> None:
    began = time.perf_counter()
    clock, before = scale.Clock(), scale.anonymous_memory()
    with scale.sampled(clock.sample), clock.stage("outer"):
        time.sleep(0.05)
        with clock.stage("inner"):
            time.sleep(0.2)
            # Not numpy's: where freed memory is kept, the heap may have room for it already.
            held = mmap.mmap(-1, 80_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            np.frombuffer(held, dtype=np.uint8)[::4096] = 1
            time.sleep(0.1)
    assert clock.seconds["outer"] >= 0.05
    assert sum(clock.seconds.values()) <= time.perf_counter() - began, "no second is counted twice"
    assert clock.seconds["inner"] >= 0.3
    assert clock.peak["inner"] - before > 70e6


@pytest.mark.slow
@LINUX
def test_a_whole_evaluation_is_rehearsed(tmp_path) -> None:
    words = f"--documents 2000 --like quora --seed 3 --json --folder {tmp_path}".split()
    done = subprocess.run(
        [sys.executable, scale.__file__, *words], capture_output=True, text=True, check=True
    )
    measured = json.loads(done.stdout)
    assert measured["measures"]["nDCG@10"] > 0.5  # by chance: .01
    assert measured["tokens"] > 2_000 * 11
    for stage in ("generate", "load", "tokenise", "encode", "search", "score"):
        assert measured["seconds"][stage] > 0, stage
        assert 0 < measured["peak_anonymous"][stage] < measured["max_rss"], stage
    assert "| tokenise |" in scale.as_table(measured)

    # Another process makes the same model of the same seed, and the same vectors.
    again = tmp_path / "again"
    texts = synthetic.texts(scale.TOKENS, SHORT, {}, 3)
    scale.write_checkpoint(again, texts, measured["width"], 3)
    assert Checkpoint(again).content_hash == Checkpoint(tmp_path / "model").content_hash
    stored = next(path for path in tmp_path.glob("vectors/*/*.npy") if len(np.load(path)) == 2_000)
    corpus = load(str(tmp_path / "data"), data_dir=tmp_path).corpus
    vectors = checkpoints.load(again).encode([document.contents for document in corpus], "document")
    assert np.array_equal(vectors.astype(np.float16), np.load(stored))
