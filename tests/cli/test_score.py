"""``llara-eval score``: run files and judgements in all their forms."""

import json
import shutil
from pathlib import Path

import pytest
from commands import QRELS_FORMS, RUN_FORMS, call, program, qrels_file, run_file, text_of


@pytest.mark.parametrize("run_form", RUN_FORMS)
@pytest.mark.parametrize("qrels_form", QRELS_FORMS)
@pytest.mark.parametrize("ending", ["txt", "gz"])
def test_score_reads_all_forms(tmp_path, run_form, qrels_form, ending):
    run, qrels = run_file(tmp_path, run_form, ending), qrels_file(tmp_path, qrels_form, ending)
    result = call("score", "--run", run, "--qrels", qrels, "--measures", "MRR@10,R@1", "--json")
    assert result.exit_code == 0, result.stderr
    value = json.loads(result.stdout)
    assert value == {
        "run": str(run),
        "qrels": str(qrels),
        "n_queries": 3,
        "measures": {"RR@10": pytest.approx(0.5), "R@1": pytest.approx(0.5 / 3)},
        "ties@10": 0.0,
        "by_written_ranks": {},
    }


def test_score_shows_what_the_script_of_ms_marco_counts_where_ranks_have_gaps(tmp_path):
    run = run_file(tmp_path, "msmarco")
    run.write_text("q1\td1\t3\nq2\td3\t1\n")
    qrels = tmp_path / "qrels"
    qrels.write_text("q1 0 d1 1\nq2 0 d3 1\n")
    shown = call("score", "--run", run, "--qrels", qrels, "--measures", "MRR@10")
    assert "RR@10 by the written ranks │ 0.6667" in shown.stdout
    assert "1.0000" in shown.stdout
    assert "have gaps or repeats" in " ".join(shown.stdout.split())


def test_score_writes_the_values_of_each_query(tmp_path):
    table = tmp_path / "deep" / "per_query.tsv"
    words = ["--run", run_file(tmp_path), "--qrels", qrels_file(tmp_path), "--measures", "RR@10"]
    result = call("score", *words, "--per-query", table)
    assert result.exit_code == 0
    assert table.read_text() == "query_id\tRR@10\nq1\t0.5\nq2\t1.0\nq3\t0.0\n"
    assert "3 judged queries" in " ".join(result.stdout.split())
    assert "0.5000" in result.stdout


def test_the_real_program_names_a_malformed_line_on_stderr_only(tmp_path):
    run = run_file(tmp_path)
    run.write_text(run.read_text() + "q2 Q0 d9\n")
    done = program("score", "--run", run, "--qrels", qrels_file(tmp_path), "--json")
    assert done.returncode == 3
    assert done.stdout == ""
    assert f"{run}:5: 3 columns, expected 6" in text_of(done)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("input_file", ["run", "qrels"])
def test_score_does_not_replace_what_it_reads(tmp_path, input_file):
    files = {"run": run_file(tmp_path), "qrels": qrels_file(tmp_path)}
    before = files[input_file].read_text()
    result = call("score", "--run", files["run"], "--qrels", files["qrels"], "--per-query", files[input_file])
    assert result.exit_code == 2
    assert "would replace an input" in text_of(result)
    assert files[input_file].read_text() == before


def test_score_replaces_only_a_table_that_it_wrote(tmp_path):
    words = ["--run", run_file(tmp_path), "--qrels", qrels_file(tmp_path), "--measures", "RR@10"]
    table = tmp_path / "table.tsv"
    for _ in range(2):
        assert call("score", *words, "--per-query", table).exit_code == 0
    result_folder = tmp_path / "runs" / "a" / "b"
    result_folder.mkdir(parents=True)
    stored = Path(shutil.copy(table, result_folder / "per_query.tsv"))
    (result_folder / "result.json").write_text("{}")
    notes = tmp_path / "notes.tsv"
    notes.write_text("query_id\tnote\nq1\tgood\n")
    for file in (stored, result_folder / "result.json", notes, result_folder):
        before = file.read_bytes() if file.is_file() else b""
        result = call("score", *words, "--per-query", file)
        assert result.exit_code == 2, file
        assert "`llara-eval score` did not write it" in text_of(result)
        assert not before or file.read_bytes() == before
