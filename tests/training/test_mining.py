"""Hard negatives: which documents may be one, and which queries must not be mined for."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import Result
from fakes import FakeRetriever, WordOverlap
from typer.testing import CliRunner

from llara_eval.cli import app
from llara_eval.core.decode import decode
from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.files import sha256_of
from llara_eval.datasets.corpus import Corpus
from llara_eval.datasets.folder import corpus_of
from llara_eval.datasets.load import load
from llara_eval.datasets.overlap import compare, items
from llara_eval.datasets.same_text import Index
from llara_eval.training.groups import GroupRow
from llara_eval.training.mining import Counts, Mining, mine
from llara_eval.training.pairs import judged_queries, own_corpus, read_pairs

DOCUMENTS = {
    "good": ("Tides", "the moon pulls the water of the sea twice a day"),
    "twin": ("", "tides  THE moon pulls the water\nof the sea twice a day"),
    "near": ("", "the moon pulls the water of the sea twice a day, says the almanac"),
    "a": ("", "the moon has no water"),
    "b": ("", "a sea of water lilies"),
    "c": ("", "water the garden twice a day"),
    "d": ("", "day and night"),
}
PAIR = {"query": "why are there tides", "pos": ["Tides the moon pulls the water of the sea twice a day"]}
SCORES = {"0": {"twin": 9.5, "good": 9.0, "near": 8.8, "a": 8.6, "b": 8.0, "c": 7.0, "d": 1.0}}
PLAIN = Mining(sample="top", max_overlap=1.0)


def pairs(path: Path, *rows: Mapping[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def corpus(make_collection) -> Corpus:
    return corpus_of(make_collection(DOCUMENTS, {"t": "x"}, {"t": {"a": 1}}))


@pytest.fixture
def mined(tmp_path, corpus):
    """Return a function that mines for pairs and returns the rows written, and the counts."""

    def go(settings=PLAIN, *rows, retriever=None, exclude=()) -> tuple[list[dict[str, object]], Counts]:
        data, output = [pairs(tmp_path / "pairs.jsonl", *(rows or [PAIR]))], tmp_path / "out.jsonl"
        system = retriever or FakeRetriever(SCORES)
        counts = mine(system, data, corpus.paths[0], settings, output, exclude=exclude, overwrite=True)
        written = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
        assert written["sha256"] == sha256_of(output)
        return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()], counts

    return go


def test_known_positives_are_no_negatives_whatever_their_id_case_and_space(mined) -> None:
    (row,), counts = mined()
    assert row["neg_ids"] == ["near", "a", "b", "c", "d"]
    assert row["neg"][1] == "the moon has no water"
    decode(row, GroupRow, "row")
    assert (counts.positives, counts.negatives, counts.written) == (2, 5, 1)


def test_near_duplicates_of_a_positive_are_left_out(mined) -> None:
    (row,), counts = mined(Mining(sample="top"))
    assert row["neg_ids"] == ["a", "b", "c", "d"]
    assert counts.overlapping == 1


def test_the_top_that_is_passed_over_does_not_count_positives(mined) -> None:
    (row,), counts = mined(Mining(sample="top", max_overlap=1.0, skip_top=2))
    assert row["neg_ids"] == ["b", "c", "d"]
    assert counts.skipped == 2


def test_the_margin_is_a_share_of_the_best_positives_score(mined) -> None:
    (row,), counts = mined(Mining(sample="top", max_overlap=1.0, margin=0.9))  # 0.9 · 9.5 = 8.55
    assert row["neg_ids"] == ["b", "c", "d"]
    assert counts.above_margin == 2


def test_the_margin_holds_for_scores_below_zero(mined) -> None:
    system = FakeRetriever({"0": {"good": -1.0, "a": -1.02, "b": -1.2}})
    (row,), _ = mined(Mining(sample="top", max_overlap=1.0, margin=0.95), retriever=system)
    assert row["neg_ids"] == ["b"]


def test_with_a_margin_a_positive_nobody_found_leaves_no_negatives(mined) -> None:
    system = FakeRetriever({"0": {"a": 3.0, "b": 2.0}})
    (row,), counts = mined(Mining(margin=0.95), retriever=system)
    assert row["neg"] == []
    assert counts.without == 1
    (row,), _ = mined(Mining(), retriever=system)
    assert sorted(row["neg_ids"]) == ["a", "b"]


def test_the_draw_is_decided_by_the_seed_and_keeps_to_the_number_wanted(mined) -> None:
    draws = [mined(Mining(negatives=2, seed=seed))[0][0]["neg_ids"] for seed in (1, 1, 2, 3, 4, 5)]
    assert draws[0] == draws[1]
    assert len({tuple(draw) for draw in draws}) > 2
    assert all(len(draw) == 2 and not {"good", "twin", "near"}.intersection(draw) for draw in draws)
    (row,), _ = mined(Mining(negatives=2, sample="top"))
    assert row["neg_ids"] == ["a", "b"]


def test_rows_of_one_query_share_their_positives(mined) -> None:
    other = {"query": "Why are  there tides", "pos": ["the moon has no water"]}
    rows, _ = mined(PLAIN, PAIR, other)
    assert [row["neg_ids"] for row in rows] == [["near", "b", "c", "d"]] * 2


def test_other_fields_stay_and_scores_of_other_negatives_go(mined) -> None:
    pair = {**PAIR, "source": "almanac", "pos_scores": [1.0], "neg": ["old"], "neg_scores": [0.5]}
    (row,), _ = mined(PLAIN, pair)
    assert row["source"] == "almanac"
    assert "old" not in row["neg"]
    assert set(row) == {"query", "pos", "source", "neg", "neg_ids"}


@pytest.mark.parametrize(
    "query",
    ["WHY are there tides ", "Why are there tides?", "why\tare\u00a0there   tides", "«Why are there tides»"],
)
def test_a_query_of_a_test_collection_is_never_mined_for(mined, make_collection, query) -> None:
    folder = make_collection({"x": "x"}, {"q": query}, {"q": {"x": 1}}, name="judged")
    other = {"query": "another", "pos": ["something"]}
    system = FakeRetriever({"0": {"a": 1.0}})
    rows, counts = mined(PLAIN, PAIR, other, retriever=system, exclude=[folder])
    assert [row["query"] for row in rows] == ["another"]
    assert (counts.forbidden, counts.written) == (1, 1)
    with pytest.raises(DataError, match="belongs to a test collection"):
        mined(PLAIN, PAIR, exclude=[folder])


def test_overlap_finds_no_query_among_those_mining_kept(tmp_path, make_collection) -> None:
    judged = {"1": "Does aspirin help?", "2": "what of the sea"}
    folder = make_collection(DOCUMENTS, judged, {"1": {"a": 1}, "2": {"b": 1}})
    variants = ["Does aspirin help", "does ASPIRIN help?", "Does  aspirin\thelp!", "Does aspirin help them?"]
    rows = [{"query": query, "pos": ["the moon has no water"]} for query in variants]
    data, output = pairs(tmp_path / "pairs.jsonl", *rows), tmp_path / "mined.jsonl"
    dataset = load(str(folder), data_dir=tmp_path)
    index = Index(items(dataset))

    def exact(path: Path) -> int:
        return compare(path, dataset, index).finding.seen.get("query", {}).get("query", {}).get("exact", 0)

    assert exact(data) == 1
    counts = mine(FakeRetriever({"0": {"d": 1.0}}), [data], folder, PLAIN, output)
    assert (counts.forbidden, counts.written) == (3, 1)
    assert exact(output) == 0


def test_the_training_split_alone_may_be_trained_on(tmp_path, make_collection) -> None:
    folder = make_collection(
        DOCUMENTS, {"1": "tides", "2": "lilies"}, {"1": {"good": 1, "a": 0, "gone": 1}}, split="train"
    )
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n2\tb\t1\n", encoding="utf-8")
    (row,) = read_pairs([folder], cache=tmp_path / "cache")
    assert row == {"query": "tides", "query_id": "1", "pos": [PAIR["pos"][0]]}
    assert judged_queries([folder]) == {"lilies"}


def test_the_positives_themselves_can_be_the_corpus(tmp_path, mined) -> None:
    rows = [{"query": "one", "pos": ["a b", "c"]}, {"query": "two", "pos": ["c", "d"]}]
    read = read_pairs([pairs(tmp_path / "self.jsonl", *rows)], cache=tmp_path / "cache")
    corpus = own_corpus(read, tmp_path / "cache")
    assert [document.contents for document in corpus] == ["a b", "c", "d"]


@pytest.mark.parametrize(
    "wrong", [{"sample": "best"}, {"negatives": 0}, {"skip_top": 200}, {"margin": 1.5}, {"max_overlap": -1}]
)
def test_settings_that_leave_nothing_are_refused(wrong) -> None:
    with pytest.raises(UsageError):
        Mining(**wrong)


@pytest.mark.parametrize(("read", "written"), [("a.jsonl", "a.jsonl"), ("a.json", "a.jsonl")])
def test_what_is_read_is_never_replaced(tmp_path, read, written) -> None:
    data = pairs(tmp_path / read, PAIR)
    arguments = ["--data", data, "--corpus", "self", "--output", tmp_path / written, "--overwrite"]
    refused = CliRunner().invoke(app, ["mine", "-m", "bm25", *map(str, arguments)])
    assert refused.exit_code == 2
    assert "would replace an input" in refused.stderr.replace("\n", " ")


def overwritten(data: Path, corpus: Path, output: Path, *options: object) -> Result:
    words = ["mine", "-m", "words", "--data", data, "--corpus", corpus, "--output", output, "--overwrite"]
    return CliRunner().invoke(app, [*map(str, words), *map(str, options), "--quiet"])


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "notes.jsonl"])
@pytest.mark.parametrize("exclude", [False, True])
def test_nothing_that_mine_did_not_write_is_replaced(tmp_path, corpus, monkeypatch, name, exclude) -> None:
    monkeypatch.setattr("adapters.open_system", lambda *_: WordOverlap())
    data, folder = pairs(tmp_path / "pairs.jsonl", PAIR), corpus.paths[0].parent
    (folder / "notes.json").write_text('{"notes": "mine"}')
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    options = ["--exclude", folder] if exclude else []
    refused = overwritten(data, "self" if exclude else folder, folder / name, *options)
    assert refused.exit_code == 2
    assert "`llara-eval mine` did not write it" in " ".join(refused.stderr.split())
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_pair_that_mine_wrote_is_replaced_unless_it_changed(tmp_path, corpus, monkeypatch) -> None:
    monkeypatch.setattr("adapters.open_system", lambda *_: WordOverlap())
    data, folder, output = pairs(tmp_path / "pairs.jsonl", PAIR), corpus.paths[0].parent, tmp_path / "m.jsonl"
    for options in ((), ("--negatives", 1)):
        done = overwritten(data, folder, output, *options)
        assert done.exit_code == 0, done.stderr
    first = output.read_bytes()

    def killed(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        replace = Path.replace
        patch.setattr(
            Path, "replace", lambda path, to: killed(path, to) if to == output else replace(path, to)
        )
        overwritten(data, folder, output, "--negatives", 2)
    assert output.read_bytes() == first
    done = overwritten(data, folder, output, "--negatives", 2)
    assert done.exit_code == 0, "the record that a killed process left is about both files"
    output.write_bytes(output.read_bytes() + b"\n")
    refused = overwritten(data, folder, output)
    assert refused.exit_code == 2
    assert "changed since" in " ".join(refused.stderr.split())


def test_the_command_writes_rows_and_how_they_were_made(tmp_path, corpus, monkeypatch) -> None:
    monkeypatch.setattr("adapters.open_system", lambda *_: WordOverlap())
    data = pairs(tmp_path / "pairs.jsonl", {**PAIR, "query": "moon water day"}, {"query": "x", "pos": ["y"]})
    output = tmp_path / "mined.jsonl"
    arguments = [
        "mine",
        "-m",
        "words",
        "--data",
        data,
        "--corpus",
        corpus.paths[0].parent,
        "--output",
        output,
    ]
    shown = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert shown.exit_code == 0, shown.stderr
    counts = json.loads(shown.stdout)["counts"]
    assert (counts["rows"], counts["forbidden"], counts["written"]) == (2, 1, 1)  # x is judged there
    (row,) = map(json.loads, output.read_text(encoding="utf-8").splitlines())
    assert sorted(row["neg_ids"]) == ["a", "b", "c", "d"]
    record = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    assert record["system"] == "words"
    assert record["counts"] == counts
    for path in (output, output.with_suffix(".json")):
        again = CliRunner().invoke(app, [*map(str, arguments)])
        assert again.exit_code == 2
        path.unlink()
    output.with_suffix(".json").write_text("somebody's")
    again = CliRunner().invoke(app, [*map(str, arguments)])
    assert again.exit_code == 2
    assert output.with_suffix(".json").read_text() == "somebody's"
    again = CliRunner().invoke(app, [*map(str, arguments), "--overwrite"])
    assert again.exit_code == 2, "mine did not write it"
    assert output.with_suffix(".json").read_text() == "somebody's"
    output.with_suffix(".json").unlink()
    arguments += ["--overwrite", "--data-dir", tmp_path]
    by_name = CliRunner().invoke(app, [*map(str, arguments), "--exclude", corpus.paths[0].parent.name])
    assert by_name.exit_code == 0, by_name.stderr
    (tmp_path / "nothing").mkdir()
    useless = CliRunner().invoke(app, [*map(str, arguments), "--exclude", "nothing"])
    assert useless.exit_code == 2
    assert "no judgements" in useless.stderr
    assert CliRunner().invoke(app, [*map(str, arguments), "--overwrite"]).exit_code == 0


def test_test_queries_of_the_pairs_own_collection_are_left_out(
    tmp_path, make_collection, monkeypatch
) -> None:
    monkeypatch.setattr("adapters.open_system", lambda *_: WordOverlap())
    folder = make_collection(
        {"a": "the sea", "b": "a field of lilies"},
        {"1": "Moon tides", "2": "lilies", "3": "moon  tides"},
        {"1": {"a": 1}},
    )
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n2\tb\t1\n3\ta\t1\n")
    arguments = [
        "mine",
        "-m",
        "words",
        "--data",
        folder,
        "--corpus",
        "self",
        "--output",
        tmp_path / "out.jsonl",
    ]
    shown = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert shown.exit_code == 0, shown.stderr
    assert json.loads(shown.stdout)["counts"]["forbidden"] == 1
    data = pairs(tmp_path / "pairs.jsonl", PAIR)
    arguments[4], arguments[-1] = data, tmp_path / "other.jsonl"
    warned = CliRunner().invoke(app, [*map(str, arguments)])
    assert warned.exit_code == 0, warned.stderr
    assert "no query is left out: name the data sets" in warned.stderr
