"""``llara-eval leaderboard`` on real results: links, and a check that finds damage and stale pages."""

import gzip
import json
import os
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
from commands import text_of
from fakes import WordOverlap
from typer.testing import CliRunner

from llara_eval.cli import app
from llara_eval.datasets.load import load
from llara_eval.evaluation import record
from llara_eval.evaluation.audit import audit
from llara_eval.evaluation.evaluate import evaluate
from llara_eval.evaluation.record import PER_QUERY, RESULT, RUN, folder_of, read_all
from llara_eval.reports.leaderboard import render
from llara_eval.reports.published import BM25, LLARA, REPLLAMA
from llara_eval.reports.published import load as load_published


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Path:
    """Make results of two systems on the demo collection, and their leaderboard."""
    workspace = tmp_path_factory.mktemp("measured")
    dataset = load("demo", data_dir=workspace)
    for retriever in (WordOverlap(name="words"), WordOverlap(name="stems", letters=5)):
        evaluate(retriever, dataset, runs_dir=workspace / "runs", depth=100)
    assert check(workspace).exit_code == 5, "there is no leaderboard yet"
    assert invoke(workspace).exit_code == 0
    return workspace


@pytest.fixture
def workspace(measured, tmp_path) -> Path:
    """Return a copy to tamper with."""
    return Path(shutil.copytree(measured, tmp_path / "workspace"))


def invoke(workspace: Path, *options: str):
    folders = [
        "--runs-dir",
        workspace / "runs",
        "--output",
        workspace / "leaderboard.md",
        "--data-dir",
        workspace,
    ]
    return CliRunner().invoke(app, ["leaderboard", *map(str, folders), *options])


def check(workspace: Path):
    return invoke(workspace, "--check")


def folder(workspace: Path, system: str = "words") -> Path:
    return workspace / "runs" / system / "demo"


def edit_result(folder: Path, **changes) -> None:
    value = json.loads((folder / RESULT).read_text())
    (folder / RESULT).write_text(json.dumps({**value, **changes}))


def test_measured_and_published_stand_apart(workspace):
    text = (workspace / "leaderboard.md").read_text()
    ours, theirs = text.split("## Published")
    assert "words" in ours
    assert "words" not in theirs
    assert all(system.split(" (")[0] not in ours for system in (REPLLAMA, LLARA, BM25))
    assert all(system in theirs for system in ("RepLLaMA-7B", "LLaRA-7B", "published.csv"))


def test_links_lead_to_existing_files_wherever_the_page_is(workspace):
    odd = workspace / "od d (1) [x] #%20"
    shutil.copytree(workspace / "runs", odd / "runs")
    for runs, output in [
        (workspace / "runs", workspace / "leaderboard.md"),
        (workspace / "runs", workspace / "docs" / "deep" / "page.md"),
        (odd / "runs", workspace / "page.md"),
    ]:
        text = render(read_all(runs)[0].items(), load_published(), output)
        links = re.findall(r"\]\(([^)]*)\)", text)
        assert len(links) == 8
        for link in links:
            assert not re.search(r"[\s()<>\[\]#]", link)
            assert Path(os.path.normpath(output.parent / unquote(link))).is_file(), link


def test_a_clean_folder_passes_the_check(workspace):
    result = check(workspace)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("scored again") == 2
    assert result.stderr.splitlines()[-1].endswith("and the published scores")


def tamper_mean(workspace: Path) -> None:
    measures = record.load(folder(workspace)).measures
    measures["nDCG@10"]["mean"] += 1e-6
    edit_result(folder(workspace), measures=measures)


def tamper_count(workspace: Path) -> None:
    edit_result(folder(workspace), n_queries=61)


def tamper_run(workspace: Path) -> None:
    path = folder(workspace) / RUN
    first, *rest = gzip.decompress(path.read_bytes()).split(b"\n")
    path.write_bytes(gzip.compress(b"\n".join([first.replace(b"\td", b"\te"), *rest])))


def tamper_run_and_its_checksum(workspace: Path) -> None:
    path = folder(workspace) / RUN
    rows = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(row for row in rows if not row.startswith(b"q07\t"))))
    edit_result(folder(workspace), run_sha256=record.run_sha256(folder(workspace)))


def tamper_per_query(workspace: Path) -> None:
    path = folder(workspace) / PER_QUERY
    header, *rows = path.read_text().splitlines()
    rows.sort(key=lambda row: row.split("\t")[1])
    ids = sorted(row.split("\t")[0] for row in rows)
    values = [row.split("\t", 1)[1] for row in rows]
    path.write_text("\n".join([header, *map("\t".join, zip(ids, values, strict=True))]) + "\n")


def tamper_query_id(workspace: Path) -> None:
    path = folder(workspace) / PER_QUERY
    path.write_text(path.read_text().replace("\nq01\t", "\nq00\t"))


def tamper_per_query_away(workspace: Path) -> None:
    path = folder(workspace) / PER_QUERY
    path.write_text(path.read_text().splitlines()[0] + "\n")


def tamper_copy(workspace: Path) -> None:
    shutil.copytree(folder(workspace), folder(workspace, "much better"))


def tamper_damage(workspace: Path) -> None:
    path = folder(workspace) / RUN
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (tamper_mean, "the run scores nDCG@10"),
        (tamper_count, "60 per-query values, the result has 61"),
        (tamper_run, "is not the run the result was measured on"),
        (tamper_run_and_its_checksum, "the run scores "),
        (tamper_per_query, "per-query values of nDCG@10 are not those of the run"),
        (tamper_query_id, "not of the judged queries"),
        (tamper_per_query_away, "per_query.tsv: not a table of per-query values"),
        (tamper_copy, "is not the folder of words on demo"),
        (tamper_damage, "run.trec.gz: cannot be read"),
    ],
)
def test_tampering_is_found_though_the_page_was_rendered_again(workspace, tamper, message):
    tamper(workspace)
    assert invoke(workspace).exit_code == 0
    result = check(workspace)
    assert result.exit_code == 5
    assert message in text_of(result)
    assert "stale" not in result.stderr


@pytest.mark.parametrize("change", ["edited", "a result more", "missing"])
def test_a_stale_page_fails_the_check(workspace, change):
    page = workspace / "leaderboard.md"
    if change == "edited":
        page.write_text(page.read_text().replace("RepLLaMA", "RepLLama", 1))
    elif change == "missing":
        page.unlink()
    else:
        shutil.rmtree(folder(workspace, "stems"))
    before = page.read_bytes() if page.exists() else None
    result = check(workspace)
    assert result.exit_code == 5
    assert "is stale" in result.stderr
    assert (page.read_bytes() if page.exists() else None) == before, "a check writes nothing"


@pytest.mark.parametrize("dataset", ["a-set-that-is-not-here", "demo"])
def test_judgements_that_are_not_at_hand_are_reported_and_do_not_fail(workspace, dataset):
    """The set is absent, or it has the same name and other judgements."""
    target = folder_of(workspace / "runs", "words", dataset, "test")
    if dataset != "demo":
        folder(workspace).rename(target)
    edit_result(target, dataset=dataset, qrels_fingerprint="0" * 64)
    assert invoke(workspace).exit_code == 0
    result = check(workspace)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("judgements not at hand") == 1
    last = text_of(result)
    assert last.endswith("1 of 2 scored again; the judgements of the others are not at hand")


def test_a_set_that_cannot_be_downloaded_does_not_keep_the_others_from_being_checked(workspace):
    private = folder_of(workspace / "runs", "words", "private", "test")
    folder(workspace).rename(private)
    edit_result(private, dataset="private")
    assert invoke(workspace).exit_code == 0
    result = invoke(workspace, "--check", "--download")
    assert result.exit_code == 0, result.stderr
    assert "private is not downloaded: 'private' is neither a folder" in text_of(result)
    assert "1 of 2 scored again" in result.stderr


def test_files_are_checked_against_each_other_without_judgements(workspace):
    edit_result(folder(workspace), qrels_fingerprint="0" * 64)
    tamper_query_values = folder(workspace) / PER_QUERY
    tamper_query_values.write_text(tamper_query_values.read_text().replace("\t1.0\t", "\t0.5\t", 1))
    verdict = audit(folder(workspace), record.load(folder(workspace)), workspace)
    assert not verdict.scored
    assert any("per-query values give" in problem for problem in verdict.problems)


def test_no_runs_folder_is_a_data_error(tmp_path):
    assert invoke(tmp_path).exit_code == 3


def damage_record(folder: Path) -> None:
    (folder / RESULT).write_text((folder / RESULT).read_text()[:100])


def damage_settings(folder: Path) -> None:
    edit_result(folder, settings={"titles": "x"})


def damage_ties(folder: Path) -> None:
    edit_result(folder, ties_at_10=1e308)


def damage_measure(folder: Path) -> None:
    measures = json.loads((folder / RESULT).read_text())["measures"]
    edit_result(folder, measures={**measures, "evil": "text"})


@pytest.mark.parametrize("damage", [damage_record, damage_settings, damage_ties, damage_measure])
def test_a_damaged_result_is_named_and_left_out(workspace, damage):
    damage(folder(workspace))
    rendered = invoke(workspace)
    assert rendered.exit_code == 6
    assert f"left out, since it cannot be used: {folder(workspace) / RESULT}" in text_of(rendered)
    board = (workspace / "leaderboard.md").read_text()
    assert "| stems |" in board
    assert "| words |" not in board
    checked = check(workspace)
    assert checked.exit_code == 6
    assert str(folder(workspace) / RESULT) in text_of(checked)
    assert "scored again" in checked.stdout
    (workspace / "leaderboard.md").write_text(board + "x")
    stale = check(workspace)
    assert stale.exit_code == 5
    assert "left out" in text_of(stale)


def test_an_unknown_measure_fails_the_check_of_that_result_only(workspace):
    measures = json.loads((folder(workspace) / RESULT).read_text())["measures"]
    edit_result(
        folder(workspace), measures={**measures, "Nonsense@10": {"mean": 0.5, "low": 0.4, "high": 0.6}}
    )
    assert invoke(workspace).exit_code == 0
    checked = check(workspace)
    assert checked.exit_code == 5
    assert "stems" not in checked.stderr
    assert "scored again" in checked.stdout


def test_a_damaged_finding_is_named_and_left_out(workspace):
    (workspace / "runs" / "overlap").mkdir()
    (workspace / "runs" / "overlap" / "x.json").write_text("[]")
    rendered = invoke(workspace)
    assert rendered.exit_code == 6
    assert "x.json: Expected `object`" in text_of(rendered)


def test_a_file_that_is_no_leaderboard_is_not_replaced(workspace):
    notes = workspace / "notes.md"
    notes.write_text("# Leaderboard\n\nmine\n")
    for path in (notes, folder(workspace) / RESULT, folder(workspace) / RUN, workspace):
        before = path.read_bytes() if path.is_file() else b""
        words = ["leaderboard", "--runs-dir", workspace / "runs", "--output", path, "--data-dir", workspace]
        refused = CliRunner().invoke(app, [*map(str, words)])
        assert refused.exit_code == 2
        assert "`llara-eval leaderboard` did not write it" in text_of(refused)
        assert not before or path.read_bytes() == before
