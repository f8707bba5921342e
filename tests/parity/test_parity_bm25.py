"""BM25 beside Anserini's own programs and the values of its regressions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval

from adapters import open_system
from adapters.anserini import run_anserini
from adapters.options import Context
from llara_eval.datasets.load import load
from llara_eval.scoring.measures import score
from llara_eval.scoring.ranking import rank


def plain_anserini(folder, dataset, fields, scratch) -> Path:
    """Search a folder in BEIR layout with Anserini's own programs, ids and order; return the run file."""
    source, topics, output = scratch / "source", scratch / "topics.tsv", scratch / "run.txt"
    source.mkdir()
    (source / "corpus.jsonl").symlink_to(folder / "corpus.jsonl")
    rows = (f"{query.query_id}\t{' '.join(query.text.split())}\n" for query in dataset.queries)
    topics.write_text("".join(rows), encoding="utf-8")
    two = fields == "multifield"
    run_anserini(
        "index.IndexCollection", "-collection", f"Beir{fields.capitalize()}Collection", "-input", str(source),
        "-generator", "DefaultLuceneDocumentGenerator", "-index", str(scratch / "lucene"),
        *(["-fields", "title"] if two else []), done_when=lambda printed: True,
    )  # fmt: skip
    run_anserini(
        "search.SearchCollection", "-index", str(scratch / "lucene"), "-topics", str(topics), "-topicReader",
        "TsvString", "-output", str(output), "-bm25", "-removeQuery", "-hits", "1000",
        *(["-fields", "contents=1.0", "title=1.0"] if two else []), done_when=lambda printed: True,
    )  # fmt: skip
    return output


@pytest.mark.parity
@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("fields", ["flat", "multifield"])
@pytest.mark.parametrize(
    "name",
    [pytest.param("arguana", marks=pytest.mark.nightly), "limit-small", "medquad-liveqa", "scifact", "xquad"],
)
def test_documents_order_and_values_are_those_of_plain_anserini(real_data, tmp_path, name, fields) -> None:
    dataset = load(str(real_data / name), data_dir=real_data)
    if name == "arguana":
        dataset = replace(dataset, queries=dataset.queries[:100])  # each is as long as a document
    output = plain_anserini(real_data / name, dataset, fields, tmp_path)
    written: dict[str, dict[str, float]] = {query.query_id: {} for query in dataset.queries}
    for line in output.read_text(encoding="utf-8").splitlines():
        query_id, _, rest = line.split(" ", 2)
        doc_id, _, value, _ = rest.rsplit(" ", 3)
        written[query_id][doc_id] = float(np.float32(value))

    retriever = open_system("bm25", {"fields": fields}, Context(tmp_path))
    retriever.index(dataset.corpus)
    run = rank(retriever.search(dataset.queries, 1000), depth=1000, drop_own_ids=True)
    for query_id, doc_ids, _ in run:  # as trec_eval orders them
        scores = written[query_id]
        expected = sorted(sorted(scores, reverse=True), key=scores.__getitem__, reverse=True)
        assert list(doc_ids)[: len(expected)] == expected
    evaluator = pytrec_eval.RelevanceEvaluator(
        {query.query_id: dict(dataset.qrels[query.query_id]) for query in dataset.queries},
        {"ndcg_cut_10", "recall_1000"},
    )
    measured = score({query_id: dataset.qrels[query_id] for query_id in written}, run, ["nDCG@10", "R@1000"])
    theirs = evaluator.evaluate(written)
    for measure, ours in (("ndcg_cut_10", "nDCG@10"), ("recall_1000", "R@1000")):
        expected = [theirs[query_id][measure] for query_id in measured.query_ids]
        np.testing.assert_allclose(measured.values[ours], expected, atol=1e-12)


@pytest.mark.parity
@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "system", "expected"),
    [
        ("scifact", "bm25", {"nDCG@10": 0.6789, "R@100": 0.9253}),
        ("scifact", "bm25-multifield", {"nDCG@10": 0.6647}),
        ("arguana", "bm25", {"nDCG@10": 0.3970, "R@100": 0.9324}),
        pytest.param("arguana", "bm25-multifield", {"nDCG@10": 0.4142}, marks=pytest.mark.nightly),
    ],
)
def test_the_values_of_the_anserini_regressions(real_data, tmp_path, name, system, expected) -> None:
    dataset = load(name, data_dir=real_data)
    retriever = open_system(system, {}, Context(tmp_path))
    retriever.index(dataset.corpus)
    run = rank(retriever.search(dataset.queries, 102), depth=100, drop_own_ids=dataset.drop_own_ids)
    means = score(dataset.qrels, run, list(expected)).means
    assert means == pytest.approx(expected, abs=5e-4)
