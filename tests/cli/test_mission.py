"""The mission from end to end, by the real program: what the commands promise, with a model made here."""

import json
import shutil
from pathlib import Path
from random import Random

import pytest
import pytrec_eval
from checkout import ROOT
from commands import program
from tiny_training import make_base

from llara_eval.core.lines import objects, text_lines
from llara_eval.core.paths import DATA

DEMO = DATA / "demo"
pytestmark = pytest.mark.slow

QRELS = {"passage": "qrels.dev.small.tsv", "document": "msmarco-docdev-qrels.tsv"}
QUICK = ["--batch-size", "8", "--batch-tokens", "2000", "--quiet"]


def run(*words: object) -> str:
    done = program(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_lines(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_adapt_mine_finetune_evaluate_and_a_leaderboard_that_holds(tmp_path: Path) -> None:
    base, documents = make_base(tmp_path / "base"), [row for _, row in objects(DEMO / "corpus.jsonl")]
    texts = write_lines(tmp_path / "texts.jsonl", [{"text": row["text"]} for row in documents])
    adapted, mined, tuned = tmp_path / "adapted", tmp_path / "mined.jsonl", tmp_path / "tuned"
    run("adapt", "--model", base, "--data", texts, "--output", adapted, "--steps", "4", *QUICK)
    titled = [row for row in documents[:50] if row["title"]]
    pairs = [{"query": row["title"], "pos": [f"{row['title']} {row['text']}"]} for row in titled]
    data = write_lines(tmp_path / "pairs.jsonl", pairs)
    run("mine", "--model", adapted, "--data", data, "--corpus", DEMO, "--output", mined, "--quiet")
    rows = [row for _, row in objects(mined)]
    assert rows and all(row["neg"] for row in rows)
    queries = {row["text"] for _, row in objects(DEMO / "queries.jsonl")}
    assert queries.isdisjoint(row["query"] for row in rows)
    run("finetune", "--model", adapted, "--data", mined, "--output", tuned, "--steps", "4", *QUICK)
    runs, board = tmp_path / "runs", tmp_path / "leaderboard.md"
    for model in (tuned, "bm25"):
        run("evaluate", "--model", model, "--dataset", "demo", "--runs-dir", runs, "--quiet")
    run("compare", "bm25", "tuned", "--dataset", "demo", "--runs-dir", runs)
    run("leaderboard", "--runs-dir", runs, "--output", board)
    run("leaderboard", "--runs-dir", runs, "--output", board, "--check")
    assert "tuned" in board.read_text(encoding="utf-8")
    board.write_text(board.read_text(encoding="utf-8").replace("bm25", "bm26"), encoding="utf-8")
    assert program("leaderboard", "--runs-dir", runs, "--output", board, "--check").returncode == 5


def write_msmarco(data: Path) -> None:
    """Write the official files of passages and documents, with words of our own."""
    random = Random(7)
    words = [f"w{random.randrange(300)}" for _ in range(60_000)]
    texts = [" ".join(words[start : start + 60]) for start in range(0, 30_000, 60)]
    pages = [" ".join(words[start : start + 400]) for start in range(0, 60_000, 400)]
    queries = {str(900 + i): " ".join(random.sample(texts[i].split(), 5)) for i in range(60)}
    passage, document = data / "msmarco-passage", data / "msmarco-document"
    files = {
        passage / "collection.tsv": [f"{i}\t{text}" for i, text in enumerate(texts)],
        passage / "queries.dev.small.tsv": [f"{i}\t{text}" for i, text in queries.items()],
        passage / QRELS["passage"]: [f"{i}\t0\t{int(i) - n}\t1" for i in queries for n in (900, 600)],
        document / "msmarco-docs.tsv": [f"D{i}\thttp://x/{i}\tT{i}\t{text}" for i, text in enumerate(pages)],
        document / "msmarco-docdev-queries.tsv": [f"{i}\t{text}" for i, text in queries.items()],
        document / QRELS["document"]: [f"{i} 0 D{(int(i) - 900) % 150} 1" for i in queries],
    }
    for path, lines in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def reciprocal_rank(run_file: Path, qrels_file: Path, depth: int) -> float:
    """Return the mean over judged queries by trec_eval, from the files and nothing of ours."""
    qrels: dict[str, dict[str, int]] = {}
    for _, line in text_lines(qrels_file):
        query, _, document, grade = line.split()
        qrels.setdefault(query, {})[document] = int(grade)
    ranking: dict[str, dict[str, float]] = {}
    for _, line in text_lines(run_file):
        query, _, document, rank, score, _ = line.split("\t")
        if int(rank) <= depth:
            ranking.setdefault(query, {})[document] = float(score)
    values = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(ranking)
    return sum(values.get(query, {"recip_rank": 0.0})["recip_rank"] for query in qrels) / len(qrels)


@pytest.mark.parametrize(
    ("task", "words", "measure"),
    [
        ("passage", [], "RR@10"),
        ("document", ["--documents", "firstp"], "RR@100"),
        ("document", ["--documents", "maxp"], "RR@100"),
    ],
)
def test_msmarco_from_the_official_files(tmp_path: Path, task: str, words: list[str], measure: str) -> None:
    data, runs, depth = tmp_path / "data", tmp_path / "runs", int(measure.partition("@")[2])
    write_msmarco(data)
    checkpoint = make_base(tmp_path / "base")
    for model in ("bm25", checkpoint):
        template = [] if model == "bm25" else ["--option", "template=repllama", "--max-length", "64"]
        arguments = ["--task", task, "--data-dir", data, "--runs-dir", runs, "--offline", "--quiet", "--json"]
        printed = json.loads(run("msmarco", "--model", model, *arguments, *words, *template))
        (folder,) = [path.parent for path in runs.glob(f"{printed['system'][:4]}*/*/result.json")]
        qrels = data / f"msmarco-{task}" / QRELS[task]
        expected = reciprocal_rank(folder / "run.trec.gz", qrels, depth)
        assert 0 < expected < 1
        assert printed["measures"][measure] == pytest.approx(expected, abs=1e-12)
        ranks = [int(line.split("\t")[3]) for _, line in text_lines(folder / "run.trec.gz")]
        assert max(ranks) <= (1000 if task == "passage" else 100)
        shutil.rmtree(runs)


def test_the_workflow_renders_the_leaderboard_and_finds_nothing_to_change() -> None:
    run("leaderboard", "--runs-dir", ROOT / "runs", "--output", ROOT / "leaderboard.md", "--check")
