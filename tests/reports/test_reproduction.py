"""Published values as expectations: those of Anserini's jar and of our table, and verdicts on differences."""

import re
import shlex
import zipfile

import pytest
import typer

from adapters.anserini import anserini_jar
from llara_eval.cli import app
from llara_eval.core.errors import DataError, UsageError
from llara_eval.datasets.known import AVERAGES, BEIR, CQADUPSTACK, KNOWN, find
from llara_eval.reports import anserini_regressions, published
from llara_eval.reports.published import PublishedScore
from llara_eval.reports.reproduction import (
    DENSE,
    LEXICAL,
    SYSTEMS,
    Cell,
    Expected,
    Finding,
    cells,
    choose,
    compare,
)
from llara_eval.scoring.measures import parse_measures, within_depth

LICENSED = {f"beir/{name}" for name in ("bioasq", "signal1m", "trec-news", "robust04")}
PARTS = ("dev", "trec-dl-2019", "trec-dl-2020")
REGRESSION = """
metrics:
  - {metric: nDCG@10, params: -c -m ndcg_cut.10}
  - {metric: R@100, params: -c -m recall.100 -l 2}
models:
  - {name: bm25-default, params: -bm25, results: {nDCG@10: [0.5], R@100: [0.25]}}
  - name: bm25-tuned
    params: -bm25 -bm25.k1 2 -bm25.b 0.7 -fields title=1.0
    results: {nDCG@10: [1], R@100: [0]}
  - {name: bm25-default+rm3, params: -bm25 -rm3, results: {nDCG@10: [0.6], R@100: [0.6]}}
"""


@pytest.fixture(scope="module")
def jar() -> tuple[PublishedScore, ...]:
    return anserini_regressions.read(anserini_jar())


@pytest.fixture(scope="module")
def every(jar) -> tuple[Cell, ...]:
    return cells([*published.load(), *jar])


@pytest.fixture
def write_jar(tmp_path):
    """Return a function that writes a jar with one regression."""

    def write(text: str, name: str = "dl19-passage.yaml"):
        path = tmp_path / "anserini-9.9.9-fatjar.jar"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"reproduce/from-document-collection/configs/{name}", text)
        return path

    return write


def score(value: float, source: str = "here", **changes) -> PublishedScore:
    row = PublishedScore(published.BM25, "beir/scifact", "nDCG@10", value, source, "A", True, "")
    return row._replace(**changes)


def expectations(every: tuple[Cell, ...], system: str) -> dict[str, dict[str, float]]:
    return {
        cell.dataset: {item.measure: item.value for item in cell.expected}
        for cell in every
        if cell.system == system
    }


@pytest.mark.parametrize(
    ("tolerance", "off", "verdict"),
    [
        *((LEXICAL, off, "OK") for off in (0.0, 0.00005, 0.0001)),
        *((LEXICAL, off, "close") for off in (0.000101, 0.0005, 0.001)),
        *((LEXICAL, off, "FAIL") for off in (0.001001, 0.2)),
        *((DENSE, off, "OK") for off in (0.0004, 0.0005)),
        *((DENSE, off, "close") for off in (0.000501, 0.005)),
        (DENSE, 0.005001, "FAIL"),
    ],
)
def test_a_difference_has_its_verdict_whatever_its_sign(tolerance, off, verdict):
    for expected in (0.6789, 0.397, 0.2299):
        assert compare(expected, expected + off, tolerance) == verdict
        assert compare(expected, expected - off, tolerance) == verdict


def test_a_value_that_was_not_found_has_no_verdict(every):
    assert Finding(every[0], every[0].expected[0]).verdict is None
    assert Finding(every[0], every[0].expected[0], measured=0.0).verdict == "FAIL"


@pytest.mark.parametrize("system", ["bm25", "bm25-multifield"])
def test_every_beir_set_has_its_bm25_values(every, system):
    """Anserini has no regression for BEIR's msmarco."""
    expected = expectations(every, system)
    beir = {name for name in expected if name.startswith("beir/")}
    assert beir == ({name for name in BEIR if name != "beir/msmarco"} | LICENSED)
    assert all(set(expected[name]) == {"nDCG@10", "R@100", "R@1000"} for name in beir)
    assert set(CQADUPSTACK) < beir


def test_known_values_are_read(every):
    assert expectations(every, "bm25")["beir/scifact"]["nDCG@10"] == 0.6789
    assert expectations(every, "bm25-multifield")["beir/arguana"]["nDCG@10"] == 0.4142
    assert expectations(every, "bm25")["msmarco-passage/dev"]["RR@10"] == 0.1840
    tuned = expectations(every, "bm25-tuned")
    assert tuned["msmarco-passage/dev"]["RR@10"] == 0.1875
    assert tuned["msmarco-document/dev"]["RR@100"] == 0.2778
    assert set(tuned) == {f"msmarco-{kind}/{part}" for kind in ("passage", "document") for part in PARTS}


def test_recall_counts_grades_from_2_on_trec_dl_passages_only(every):
    bm25 = expectations(every, "bm25")
    assert bm25["msmarco-passage/trec-dl-2019"]["R(rel=2)@1000"] == 0.7501
    assert "R@1000" not in bm25["msmarco-passage/trec-dl-2019"]
    assert bm25["msmarco-document/trec-dl-2019"]["R@1000"] == 0.6966


def test_the_published_table_and_the_jar_agree_wherever_both_have_a_value(jar, every):
    def keys(scores):
        return {row[:3] for row in scores}

    ours = [row for row in published.load() if row.system.startswith("BM25")]
    assert len(keys(ours)) > 200
    assert keys(ours) <= keys(jar)
    disputed = [cell for cell in every if any(item.disputed for item in cell.expected)]
    # Documents and the mean of BEIR-13 differ between arXiv and ACL; of ACL's documents no source is at hand.
    assert [(cell.system, cell.dataset, cell.expected[0].value) for cell in disputed] == [
        ("llara", "msmarco-document/dev", 0.475),
        ("llara", "mean/beir-13", 0.564),
    ]


def test_every_plain_model_of_the_jar_is_a_system_of_ours(jar):
    assert {row.system for row in jar} <= {name for system in SYSTEMS for name in system.published}


def test_the_later_of_two_values_counts_and_the_other_is_reported():
    (cell,) = cells([score(0.1, "table"), score(0.2, "jar")])
    assert cell.expected == (Expected("nDCG@10", 0.2, "jar", ("0.1000 (table)",)),)
    (cell,) = cells([score(0.2, "table"), score(0.2, "jar")])
    assert cell.expected == (Expected("nDCG@10", 0.2, "jar"),)


def test_published_rows_are_of_the_data_set_and_split_that_their_source_and_note_name():
    splits = set()
    for row in published.load():
        assert ("-titled/" in row.dataset) == row.note.startswith("title-augmented corpus"), row
        split = re.search(r"split (\w+)\)", row.source)
        usual = find(row.dataset)
        if split and usual:
            assert (row.split or usual.split) == split[1], row
            assert row.split != usual.split, "said only where it is another"
            splits.add(row.split)
    assert splits == {None, "dev"}


def test_a_cell_is_measured_on_the_split_of_its_value(every):
    of = {(cell.system, cell.dataset): cell for cell in every}
    for name, split in {"fiqa": "dev", "quora": "dev", "nq": None}.items():
        cell = of["all-minilm-l6-v2", f"beir/{name}"]
        assert (cell.split, f"--split {split}" in cell.command) == (split, split is not None)
    assert "-d msmarco-passage-titled/dev" in of["repllama", "msmarco-passage-titled/dev"].command


def test_means_are_over_their_members(every):
    members = {(cell.system, cell.dataset): cell.members for cell in every}
    assert members["llara", "mean/beir-13"] == AVERAGES["beir-13"]
    assert members["all-minilm-l6-v2", "beir/cqadupstack"] == CQADUPSTACK
    assert members["bm25", "beir/scifact"] == ("beir/scifact",)


def test_every_command_is_one_that_evaluate_takes(every):
    command = typer.main.get_command(app).commands["evaluate"]
    for cell in every:
        program, name, *words = shlex.split(cell.command)
        assert (program, name) == ("llara-eval", "evaluate")
        params = command.make_context(name, words).params
        assert params["dataset"] == list(cell.members)
        for member in cell.members:
            known = KNOWN[member]
            names = params["measures"].split(",") if params["measures"] else known.measures
            measures = within_depth(names, params["depth"] or known.depth)
            assert set(measures) >= {item.measure for item in cell.expected}
            assert set(measures) == set(cell.measures_of(member)), "`repro` makes the result of this command"
            assert tuple(parse_measures(cell.measures_of(member))) == cell.measures_of(member)


def test_a_regression_is_read_with_its_fields_parameters_and_grades(write_jar):
    scores = anserini_regressions.read(write_jar(REGRESSION))
    assert [row[:4] for row in scores] == [
        ("BM25 (Lucene, flat, k1=0.9, b=0.4)", "msmarco-passage/trec-dl-2019", "nDCG@10", 0.5),
        ("BM25 (Lucene, flat, k1=0.9, b=0.4)", "msmarco-passage/trec-dl-2019", "R(rel=2)@100", 0.25),
        ("BM25 (Lucene, multifield, k1=2, b=0.7)", "msmarco-passage/trec-dl-2019", "nDCG@10", 1.0),
        ("BM25 (Lucene, multifield, k1=2, b=0.7)", "msmarco-passage/trec-dl-2019", "R(rel=2)@100", 0.0),
    ]
    assert {row.source for row in scores} == {"anserini-9.9.9-fatjar.jar: dl19-passage.yaml"}


@pytest.mark.parametrize(
    "text",
    [
        "models: [{name: bm25, params: -bm25, results: {nDCG@10: [0.5]}}]",
        REGRESSION.replace("[0.25]", "[0.25, 0.3]"),
        REGRESSION.replace("[0.25]", "[unknown]"),
        "models: [",
        "",
    ],
)
def test_a_file_of_another_form_is_named(write_jar, text):
    with pytest.raises(DataError, match=r"anserini-9\.9\.9-fatjar\.jar: .*dl19-passage\.yaml"):
        anserini_regressions.read(write_jar(text))


def test_a_jar_without_regressions_is_an_error(write_jar):
    with pytest.raises(DataError, match="no regression files"):
        anserini_regressions.read(write_jar(REGRESSION, "beir-v1.0.0-scifact.splade-v3.cached.yaml"))


def test_cells_are_chosen_by_system_and_data_set(every):
    def chosen(**names):
        return [(cell.system, cell.dataset) for cell in choose(every, **names)]

    assert choose(every) == every
    assert chosen(systems=["bm25"], datasets=["scifact"]) == [("bm25", "beir/scifact")]
    assert chosen(systems=["bm25"], datasets=["cqadupstack"]) == [("bm25", forum) for forum in CQADUPSTACK]
    assert chosen(systems=["all-minilm-l6-v2"], datasets=["cqadupstack"]) == [
        ("all-minilm-l6-v2", "beir/cqadupstack")
    ]
    (cell,) = choose(every, systems=["llara"], datasets=["mean/beir-13"], models={"llara": "my model"})
    assert cell.command.startswith("llara-eval evaluate -m 'my model' -d beir/arguana -d ")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"systems": ["bm24"]}, "--system bm24"),
        ({"datasets": ["scifact", "scifats"]}, "--datasets scifats"),
        ({"models": {"bm25": "there"}}, "only llara, repllama need a checkpoint"),
        ({"systems": ["bm25-tuned"], "datasets": ["scifact"]}, "for bm25-tuned on scifact"),
    ],
)
def test_a_cell_that_was_not_published_is_refused(every, names, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        choose(every, **names)
