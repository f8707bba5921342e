"""Texts of a test collection in training data are found in each of three ways, and no other texts are."""

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from prose import prose, text
from stored import cells, make_result
from typer.testing import CliRunner

from llara_eval.cli import app
from llara_eval.core.errors import DataError
from llara_eval.core.files import sha256_of
from llara_eval.datasets import contamination, same_text
from llara_eval.datasets.contamination import RECORD, TRAINING_FILES, Finding, declared
from llara_eval.datasets.load import load
from llara_eval.datasets.overlap import Report, compare, items
from llara_eval.datasets.same_text import Index
from llara_eval.evaluation import record
from llara_eval.reports.leaderboard import render


def write(path: Path, *rows: object) -> Path:
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def run(*options: object):
    return CliRunner().invoke(app, ["overlap", *map(str, options)])


@pytest.fixture
def tiny(make_collection) -> Path:
    """Write a collection of which the tests know every text."""
    documents = {
        "rel": ("A title", text(1, 60)),
        "seen as negative": ("", text(2, 60)),
        "zero": ("", text(3, 60)),
        "unjudged": ("", text(4, 60)),
        "empty": ("", ""),
    }
    queries = {"q1": "Why, of all things, tides?", "q2": text(5, 20), "train": "a query of no judged split"}
    qrels = {"q1": {"rel": 1, "zero": 0, "empty": 1}, "q2": {"seen as negative": 2}}
    return make_collection(documents, queries, qrels)


@pytest.fixture
def find(tiny, tmp_path):
    """Return a function that compares rows with the collection."""

    def go(*rows: object, documents="judged", name="train.jsonl") -> Report:
        dataset = load(str(tiny), data_dir=tmp_path)
        return compare(write(tmp_path / name, *rows), dataset, Index(items(dataset, documents)))

    return go


def match_keys(report: Report) -> set[tuple[str, str, str, str]]:
    return {(match.role, match.id, match.trained_as, match.kind.value) for match in report.matches}


def test_each_role_is_told_apart_and_only_judged_queries_are_test_queries(find):
    report = find(
        {"query": "why of all things TIDES", "pos": [text(1, 60)], "neg": [text(2, 60), text(3, 60)]},
        {"query": "a query of no judged split", "pos": text(4, 60)},
        {"query": text(6, 9), "pos": ["A title. " + text(1, 60)], "neg": []},
    )
    assert match_keys(report) == {
        ("query", "q1", "query", "exact"),
        ("relevant", "rel", "pos", "exact"),
        ("relevant", "seen as negative", "neg", "exact"),
        ("judged", "zero", "neg", "exact"),
    }
    finding = report.finding
    assert finding.texts == {"query": 3, "pos": 3, "neg": 2}
    assert finding.tested == {"query": 2, "relevant": 3, "judged": 1}
    assert (finding.count("query"), finding.share("query"), finding.count("relevant")) == (1, 0.5, 2)
    assert finding.overlaps


def test_all_documents_are_looked_for_on_request(find):
    row = {"query": "x", "pos": text(4, 60)}
    assert match_keys(find(row)) == set()
    report = find(row, documents="all")
    assert match_keys(report) == {("other", "unjudged", "pos", "exact")}
    assert report.finding.tested["other"] == 1
    assert not report.finding.overlaps, "the leaderboard asks about queries and relevant documents"


def test_the_strongest_match_counts_and_its_place_is_named(find):
    near = [*prose(1, 59), "other"]
    gram = [*prose(7, 30), *prose(1, 15)]
    report = find(
        {"query": "x", "pos": [" ".join(gram), " ".join(near)]},
        {"query": "y", "pos": [text(1, 60)], "neg": [" ".join(near)]},
        {"query": "z", "pos": [text(1, 60)]},
    )
    first, second = [match for match in report.matches if match.id == "rel"]
    assert (first.trained_as, first.kind, second.trained_as, second.kind) == ("neg", "near", "pos", "exact")
    assert second.line == 2
    assert report.finding.seen["relevant"] == {"any": {"exact": 1}, "neg": {"near": 1}, "pos": {"exact": 1}}


def test_counts_depend_neither_on_the_order_of_rows_nor_on_how_many_are_looked_up_together(find, monkeypatch):
    rows = [{"query": text(seed, 12), "pos": [text(seed % 7, 60)]} for seed in range(40)]
    rows += [{"query": text(5, 19), "pos": " ".join([*prose(8, 20), *prose(1, 14)])}]
    before = find(*rows).finding.seen
    assert len(before) == 3
    for size in (1, 3, 1_000):
        monkeypatch.setattr(same_text, "BATCH", size)
        random.Random(size).shuffle(rows)
        assert find(*rows).finding.seen == before


def test_adaptation_rows_plain_text_and_compressed_files_are_read(find):
    adaptation = {"input": text(1, 60), "output_summarize": text(1, 60), "output_predict": text(2, 60)}
    plain = {"source": "a book", "text": text(5, 20)}
    for name in ("a.jsonl", "a.jsonl.gz"):
        report = find(adaptation, plain, name=name)
        assert match_keys(report) == {
            ("relevant", "rel", "text", "exact"),
            ("relevant", "seen as negative", "text", "exact"),
            ("query", "q2", "text", "exact"),
        }
        assert report.finding.texts == {"text": 4}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"query": "x", "pos": [1]}', r"pos: expected a text or a list of texts, found \[1\]"),
        ('{"query": {"text": "x"}}', "query: expected a text or a list of texts"),
        ('{"title": "x", "body": "y"}', "expected query and pos, input, or text; found title, body"),
        ('{"query": null, "pos": ["x"]}', "expected query and pos, input, or text; found query of null, pos"),
        ('["x"]', "expected a JSON object"),
        ('{"text": "x"', "not valid JSON"),
    ],
)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_malformed_row_is_named_with_file_and_line(tiny, tmp_path, row, message, ending):
    path = tmp_path / f"train.jsonl{ending}"
    content = f'{{"text": "fine"}}\n\n{row}\n'.encode()
    path.write_bytes(gzip.compress(content) if ending else content)
    dataset = load(str(tiny), data_dir=tmp_path)
    with pytest.raises(DataError, match=rf"train\.jsonl{ending}:3: {message}"):
        compare(path, dataset, Index(items(dataset)))


def test_a_file_without_texts_is_refused(find):
    with pytest.raises(DataError, match="no texts"):
        find()


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_progress_reaches_the_size_of_the_file(tiny, tmp_path, ending):
    path = write(tmp_path / f"x.jsonl{ending}", *({"text": text(seed, 200)} for seed in range(300)))
    steps = []

    class Watch:
        def task(self, description, total):
            return self

        def __enter__(self):
            return lambda n=1, note="", tokens=0: steps.append(n)

        def __exit__(self, *error):
            pass

    dataset = load(str(tiny), data_dir=tmp_path)
    compare(path, dataset, Index(items(dataset)), Watch())
    assert sum(steps) == path.stat().st_size
    assert len(steps) > 5


def test_the_command_shows_writes_and_keeps_what_it_found(tiny, tmp_path):
    train = write(tmp_path / "[train].jsonl", {"query": "why of all things tides", "pos": text(1, 60)})
    out, runs = tmp_path / "out.json", tmp_path / "runs"
    shown = run("--train", train, "-d", tiny, "--output", out, "--runs-dir", runs)
    assert shown.exit_code == 0, shown.output
    assert "[train].jsonl" in shown.stdout
    (report,) = json.loads(out.read_text())
    assert [match["id"] for match in report.pop("matches")] == ["q1", "rel"]
    assert run("--train", train, "-d", tiny, "--output", out).exit_code == 0, "its own file is replaced"
    for content in ("[]x", '{"model_type": "llama"}', '[{"finding": 1}]', "[]"):
        (tmp_path / "config.json").write_text(content)
        refused = run("--train", train, "-d", tiny, "--output", tmp_path / "config.json")
        assert refused.exit_code == 2
        assert (tmp_path / "config.json").read_text() == content
    assert report["sha256"] == sha256_of(train)
    assert contamination.read_all(runs) == ([Finding(**report)], [])
    again = run("--train", train, "--train", train, "-d", tiny, "--json", "--runs-dir", runs)
    assert [json.loads(line) for line in again.stdout.splitlines()] == [report, report]
    assert len(contamination.read_all(runs)[0]) == 1, "the same files are kept once"
    both = run("--train", train, "--datasets", f"{tiny},demo", "--json")
    assert [json.loads(line)["dataset"] for line in both.stdout.splitlines()] == ["tiny", "demo"]


def test_the_command_fails_over_a_share(tiny, tmp_path):
    train = write(tmp_path / "train.jsonl", {"query": "why of all things tides", "pos": "x"})
    assert run("--train", train, "-d", tiny, "--fail-over", 0.5).exit_code == 0
    failed = run("--train", train, "-d", tiny, "--fail-over", 0.49)
    assert failed.exit_code == 5
    assert "50.0% of tiny in train.jsonl" in failed.stderr


def test_torch_is_not_imported(tiny, tmp_path):
    train = write(tmp_path / "train.jsonl", {"text": "x"})
    code = (
        "import sys; from typer.testing import CliRunner; from llara_eval.cli import app; "
        f"done = CliRunner().invoke(app, ['overlap', '--train', {str(train)!r}, '-d', {str(tiny)!r}]); "
        "sys.exit(done.exit_code or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def finding(**changes) -> Finding:
    values = {
        "file": "a|b.jsonl",
        "sha256": "a" * 64,
        "texts": {"query": 3},
        "dataset": "tiny",
        "split": "test",
        "dataset_fingerprint": "f" * 64,
        "tested": {"query": 300, "relevant": 283},
        "seen": {"query": {"any": {"exact": 2, "near": 1}, "query": {"exact": 2, "near": 1}}},
    }
    return Finding(**{**values, **changes})


def page(findings, **settings) -> str:
    entries = [
        (Path("runs/trained/tiny"), make_result(system="trained", settings=settings)),
        (Path("runs/silent/tiny"), make_result(system="silent")),
    ]
    return render(entries, [], Path("leaderboard.md"), findings)


def test_the_leaderboard_marks_a_system_that_declares_what_was_found_to_overlap():
    text = page([finding()], **{TRAINING_FILES: {"a" * 64: "a|b.jsonl", "b" * 64: "other.jsonl"}})
    marked, _, listed = text.partition("### Training data")
    assert cells(marked.partition("### Conditions")[0], "trained")[1].endswith(" ‡")
    assert "‡" not in cells(marked.partition("### Conditions")[0], "silent")[1]
    assert r"| trained | a\|b.jsonl | 3 of 300 | 0 of 283 |" in listed
    assert "| trained | other.jsonl | not compared | not compared |" in listed
    assert "silent" not in listed
    assert "may be affected, too" in listed


@pytest.mark.parametrize(
    "changes",
    [{"sha256": "c" * 64}, {"dataset_fingerprint": "0" * 64}, {"seen": {"judged": {"any": {"exact": 9}}}}],
)
def test_another_file_or_data_set_or_no_overlap_gives_no_mark(changes):
    text = page([finding(**changes)], **{TRAINING_FILES: {"a" * 64: "a|b.jsonl"}})
    assert "‡" not in text.partition("### Training data")[0]


def test_without_declarations_the_page_is_as_it_was():
    assert page([finding()]) == page([])
    assert "‡" not in page([])


def test_a_checkpoint_declares_by_its_record(tmp_path):
    assert declared(tmp_path) == {}
    (tmp_path / RECORD).write_text('{"steps": 3}')
    assert declared(tmp_path) == {}, "records of earlier versions declare nothing"
    (tmp_path / RECORD).write_text(json.dumps({TRAINING_FILES: {"a" * 64: "x.jsonl"}}))
    assert declared(tmp_path) == {"a" * 64: "x.jsonl"}
    for malformed in ("[]", "{", '{"training_files": ["x.jsonl"]}'):
        (tmp_path / RECORD).write_text(malformed)
        with pytest.raises(DataError, match=r"training\.json: "):
            declared(tmp_path)


def test_a_malformed_finding_is_named_and_no_result_is_taken_for_one(tmp_path):
    record.save(tmp_path / "overlap" / "tiny", make_result(system="overlap"))
    assert contamination.read_all(tmp_path) == ([], [])
    assert len(record.read_all(tmp_path)[0]) == 1
    (tmp_path / "overlap" / "x.json").write_text('{"file": "x"}')
    _, (error,) = contamination.read_all(tmp_path)
    assert "x.json: Object missing required field" in str(error)


@pytest.mark.real
def test_training_claims_that_are_test_claims_are_counted(real_data):
    dataset = load(str(real_data / "scifact"), data_dir=real_data)
    train = real_data.parent / "train" / "scifact_train_bm25neg.jsonl.gz"
    seen = compare(train, dataset, Index(items(dataset))).finding.seen
    assert seen["query"]["any"] == {"exact": 2, "near": 16, "13-gram": 10}
    assert seen["relevant"] == {"any": {"exact": 235}, "pos": {"exact": 181}, "neg": {"exact": 169}}


@pytest.mark.real
def test_every_document_whose_source_is_trained_on_is_found(real_data, tmp_path):
    sources = ("NIHSeniorHealth", "NIDDK", "CDC")
    with gzip.open(real_data.parent / "train" / "medquad_pairs.jsonl.gz", "rt") as file:
        rows = [row for row in map(json.loads, file) if row["source"] in sources]
    dataset = load(str(real_data / "medquad-liveqa"), data_dir=real_data)
    report = compare(write(tmp_path / "pairs.jsonl", *rows), dataset, Index(items(dataset)))
    expected = {item.id for item in items(dataset) if item.id.startswith(sources)}
    assert {match.id for match in report.matches if match[2:4] == ("pos", "exact")} == expected
    assert len(expected) == 108
    assert report.finding.seen["relevant"]["any"] == {"exact": 65, "13-gram": 12}
