"""A stored result is read back exactly, is in the folder of its name, and is complete or absent."""

import dataclasses
import gzip
import json
import re

import numpy as np
import pytest
from checkout import ROOT
from hypothesis import given
from hypothesis import strategies as st
from stored import make_result

from llara_eval.core.errors import DataError
from llara_eval.core.files import slug, write_text
from llara_eval.core.types import Hits, as_ids
from llara_eval.evaluation import record
from llara_eval.evaluation.record import folder_of, qrels_fingerprint, read_all
from llara_eval.scoring.measures import Scores
from llara_eval.scoring.ranking import rank


def small_run():
    rows = [("q1", "a", 1 / 3), ("q1", "b", 2e-30), ("q 2", "ü", -7.5)]
    return rank(Hits.of_rows(rows), depth=10)


def test_a_result_is_read_back_as_it_was_saved(tmp_path):
    result = make_result()
    record.save(tmp_path / "a" / "b", result)
    assert record.load(tmp_path / "a" / "b") == result
    assert result.means == {"nDCG@10": 0.1 + 0.2}


@pytest.mark.parametrize("schema", [record.SCHEMA + 1, 0, None, "1"])
def test_another_schema_is_refused(tmp_path, schema):
    record.save(tmp_path, dataclasses.replace(make_result(), schema=schema))
    with pytest.raises(DataError, match=f"schema {schema!r}; this version reads {record.SCHEMA}"):
        record.load(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", "null", '{"schema": 1}', '{"schema": 1, "system": "x"}', "\udcff"]
)
def test_what_is_not_a_result_is_refused(tmp_path, content):
    (tmp_path / record.RESULT).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r"result\.json: "):
        record.load(tmp_path)


def changed(tmp_path, path, value):
    """Save a record of which one value was replaced by text."""
    record.save(tmp_path, make_result())
    content = json.loads((tmp_path / record.RESULT).read_text())
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = "HERE"
    (tmp_path / record.RESULT).write_text(json.dumps(content).replace('"HERE"', value))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["system"], "7", r"Expected `str`, got `int` - at `\$\.system`"),
        (["depth"], "null", r"Expected `int`, got `null` - at `\$\.depth`"),
        (["depth"], "true", r"Expected `int`, got `bool` - at `\$\.depth`"),
        (["depth"], "10.5", r"Expected `int`, got `float` - at `\$\.depth`"),
        (["drop_own_ids"], "0", r"Expected `bool`, got `int` - at `\$\.drop_own_ids`"),
        (["measures"], "[]", r"Expected `object`, got `array` - at `\$\.measures`"),
        (["measures", "nDCG@10"], '{"mean": 1, "low": 0}', "missing required field `high`"),
        (["measures", "nDCG@10", "mean"], "null", r"Expected `float`, got `null` - at `\$\.measures"),
        (["measures", "nDCG@10", "mean"], "NaN", r"invalid character \(byte"),
        (["measures", "nDCG@10", "mean"], "-Infinity", r"invalid number \(byte|invalid character \(byte"),
        (["measures", "nDCG@10", "mean"], "1e999", r"Number out of range - at `\$\.measures"),
        (["warnings"], '[["x"]]', r"Expected `str`, got `array` - at `\$\.warnings\[0\]`"),
        (["settings"], "NaN", r"invalid character \(byte"),
        (["phases", "search", "seconds"], '"1"', r"Expected `.*`, got `str` - at `\$\.phases"),
        (["settings"], "[" * 100_000, "recursion"),
        (["measures", "nDCG@10", "mean"], "1e308", r"Expected `float` <= 9.* - at `\$\.measures"),
        (["ties_at_10"], "1e308", r"Expected `float` <= 1"),
        (["n_documents"], "0", r"Expected `int` >= 1"),
        (["n_queries"], "1" + "0" * 30, r"(out of range|<= 9|Expected `int`)"),
        (["system"], '"\\ud800"', r"cannot be read as JSON"),
        (["settings", "titles"], '"x"', r"settings: Expected `int \| null`, got `str` - at `\$\.titles`"),
        (["settings", "dtype"], "[]", r"settings: Expected `str`, got `array` - at `\$\.dtype`"),
        (["settings", "runtime"], "3", r"settings: Expected `object`, got `int` - at `\$\.runtime`"),
        (
            ["settings", "templates"],
            '{"query": {"prompt": 1}}',
            r"settings: .*`\$\.templates\.query\.prompt`",
        ),
        (["settings", "templates"], '{"query": {"slots": 1e308}}', r"settings: .*\.slots`"),
        (["settings", "training_files"], '{"a": null}', r"settings: .* - at `\$\.training_files"),
        (["settings", "prompts_from"], '{"x": "y"}', r"settings: Invalid enum value 'x'"),
        (["provenance"], "{}", r"provenance: Object missing required field `date`"),
        (["provenance", "date"], '"[x](y)"', r"provenance: Expected `str` matching regex .* - at `\$\.date`"),
        (
            ["provenance", "git"],
            '{"commit": 7}',
            r"provenance: Expected `str`, .*\$\.git\.commit`",
        ),
        (["provenance", "git"], '"clean"', r"provenance: Expected .* - at `\$\.git`"),
    ],
)
def test_a_wrong_value_is_refused_with_its_file_and_its_place(tmp_path, path, value, message):
    changed(tmp_path, path, value)
    with pytest.raises(DataError, match=rf"(?s)result\.json.*{message}"):
        record.load(tmp_path)


def test_counts_stay_whole_numbers(tmp_path):
    record.save(tmp_path, make_result(phases={"index": {"documents": 5, "seconds": 1.0}}))
    before = (tmp_path / record.RESULT).read_bytes()
    record.save(tmp_path, record.load(tmp_path))
    assert (tmp_path / record.RESULT).read_bytes() == before


def test_all_stored_results_are_read_and_would_be_written_alike(tmp_path):
    results, damaged = read_all(ROOT / "runs")
    assert not damaged
    for folder, result in results.items():
        record.save(tmp_path, result)
        assert json.loads((tmp_path / record.RESULT).read_text()) == json.loads(
            (folder / record.RESULT).read_text()
        )


def test_a_missing_result_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"result\.json: "):
        record.load(tmp_path)


def test_a_value_that_is_not_a_number_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        record.save(tmp_path, make_result(ties_at_10=float("nan")))
    assert list(tmp_path.iterdir()) == []


def test_per_query_values_are_not_rounded(tmp_path):
    values = {"nDCG@10": np.array([1 / 3, 0.1 + 0.2, 5e-324]), "RR@10": np.array([1.0, 0.0, 1 / 7])}
    record.save_per_query(tmp_path / "x.tsv", Scores(as_ids(["q1", "q 2", "ü"]), values))
    back = record.load_per_query(tmp_path / "x.tsv")
    assert back.query_ids.tolist() == ["q1", "q 2", "ü"]
    assert {name: column.tolist() for name, column in back.values.items()} == {
        name: column.tolist() for name, column in values.items()
    }
    assert list(back.values) == ["nDCG@10", "RR@10"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a table of per-query values"),
        ("\0\0\0", "not a table of per-query values"),
        ("query_id\tA\n", "not a table of per-query values"),
        ("query_id\n", "not a table of per-query values"),
        ("q1\t0.5\nq2\t1\n", "not a table of per-query values"),
        ("query_id\tA\tA\nq1\t1\t1\n", "not a table of per-query values"),
        ("query_id\tnDCG@10\nq1\thalf\n", r":2: expected 1 values .*, found \['half'\]"),
        ("query_id\tA\tB\nq1\t1\n", r":2: expected 2 values .*, found \['1'\]"),
        ("query_id\tA\nq1\t1\nq2\n", r":3: expected 1 values .*, found \[\]"),
        ("query_id\tA\nq1\tnan\n", r":2: expected .*'nan'"),
        ("query_id\tA\nq1\tinf\n", r":2: expected .*'inf'"),
        ("query_id\tA\nq1\t1e308\n", r":2: expected .*'1e308'"),
        ("query_id\tA\nq1\t1_0\n", r":2: expected .*'1_0'"),
        ("query_id\tA\nq1\t1\nq1\t0\n", r":3: query 'q1' is in line 2 already"),
    ],
)
def test_a_malformed_table_is_refused(tmp_path, content, message):
    (tmp_path / "x.tsv").write_text(content)
    with pytest.raises(DataError, match=rf"x\.tsv.*{message}"):
        record.load_per_query(tmp_path / "x.tsv")


def test_identifiers_may_hold_characters_that_other_readers_end_lines_at(tmp_path):
    scores = Scores(as_ids(["q\x851", "q\u20282", "q\x1c3"]), {"A": np.array([0.0, 0.5, 1.0])})
    record.save_per_query(tmp_path / "x.tsv", scores)
    assert record.load_per_query(tmp_path / "x.tsv").query_ids.tolist() == scores.query_ids.tolist()


def test_a_run_is_read_back_and_its_checksum_is_of_the_text(tmp_path):
    run = small_run()
    sha = record.save_run(tmp_path, run, "fake system")
    back = record.load_run(tmp_path)
    assert {query: (docs.tolist(), scores.tolist()) for query, docs, scores in back} == {
        query: (docs.tolist(), scores.tolist()) for query, docs, scores in run
    }
    text = gzip.decompress((tmp_path / record.RUN).read_bytes())
    (tmp_path / record.RUN).write_bytes(gzip.compress(text, compresslevel=1))
    assert record.run_sha256(tmp_path) == sha
    (tmp_path / record.RUN).write_bytes(gzip.compress(text.replace(b"-7.5", b"-7.6")))
    assert record.run_sha256(tmp_path) != sha


@pytest.mark.parametrize("damage", ["missing", "cut", "bits"])
def test_a_damaged_run_is_a_data_error(tmp_path, damage):
    run = tmp_path / record.RUN
    content = gzip.compress(b"".join(b"q\tQ0\td%d\t1\t%d\tx\n" % (i, -i * i) for i in range(500)))
    if damage == "cut":
        run.write_bytes(content[:-20])
    elif damage == "bits":
        run.write_bytes(content[:200] + b"\xff" * 50 + content[250:])
    with pytest.raises(DataError, match=r"run\.trec\.gz: cannot be read"):
        record.run_sha256(tmp_path)


def test_results_are_walked_in_the_order_of_their_paths(tmp_path):
    pairs = [("b", "x"), ("a", "z"), ("a", "beir/y"), ("B", "x")]
    for system, dataset in pairs:
        result = make_result(system=system, dataset=dataset)
        record.save(folder_of(tmp_path, system, dataset, "test"), result)
    (tmp_path / "a" / "unfinished").mkdir()
    results, _ = read_all(tmp_path)
    walked = [(folder.relative_to(tmp_path).as_posix(), result.dataset) for folder, result in results.items()]
    assert walked == [("B/x", "x"), ("a/beir--y", "beir/y"), ("a/z", "z"), ("b/x", "x")]


def test_a_newer_record_is_named_beside_the_others(tmp_path):
    record.save(tmp_path / "a" / "x", make_result(schema=record.SCHEMA + 1))
    record.save(tmp_path / "b" / "x", make_result())
    results, damaged = read_all(tmp_path)
    assert list(results) == [tmp_path / "b" / "x"]
    assert list(damaged) == [tmp_path / "a" / "x"]
    assert "schema" in str(damaged[tmp_path / "a" / "x"])


@pytest.mark.parametrize("kind", ["folder", "link to nothing", "link to itself"])
def test_what_is_no_file_in_the_place_of_a_record_is_damage(tmp_path, kind):
    path = tmp_path / "a" / "x" / record.RESULT
    path.parent.mkdir(parents=True)
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "link to itself" else "nothing")
    assert record.is_stored(path.parent)
    assert list(read_all(tmp_path)[1]) == [path.parent]


def test_other_splits_than_test_have_their_own_folder(tmp_path):
    folders = [folder_of(tmp_path, "s", "beir/x", split).name for split in ("test", "dev", "a/b")]
    assert folders == ["beir--x", "beir--x--dev", "beir--x--a--b"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "/etc", "a\\b", "C:", "a\0b", "~", "\udcff", "x" + "/.." * 3]
)
def test_a_hostile_name_stays_inside_the_runs_folder(tmp_path, name):
    folder = folder_of(tmp_path, name, name, "test")
    assert folder.resolve().relative_to(tmp_path.resolve()).parts == (slug(name), slug(name))


tricky = st.text(alphabet="-/.%2FDab\\ é", max_size=6) | st.text(max_size=8)


@given(tricky)
def test_a_slug_is_one_safe_path_component(name):
    assert re.fullmatch(r"[A-Za-z0-9_=,+%-][A-Za-z0-9._=,+%-]*", slug(name))


@given(tricky, tricky)
def test_slugs_of_different_names_differ(first, second):
    assert (slug(first) == slug(second)) == (first == second)


@pytest.mark.parametrize("name", ["данные-" * 30, "日本語" * 30, "x" * 300])
def test_a_long_name_is_a_path_that_file_systems_take(tmp_path, name):
    short = slug(name)
    assert short != slug(name[:-1])
    assert short != slug(short)
    write_text(tmp_path / short / f"{short}.json", "text")
    assert slug("x" * 160) == "x" * 160


def test_slugs_of_close_names_differ():
    parts = ["-", "/", "%2D", ".", "a", "--", "%2F"]
    names = {one + two + three + four for one in parts for two in parts for three in parts for four in parts}
    assert len({slug(name) for name in names}) == len(names)
    assert slug("beir/nq") == "beir--nq"
    assert slug("bm25,k1=0.82") == "bm25,k1=0.82"


def test_the_fingerprint_of_judgements_does_not_depend_on_order():
    qrels = {"q1": {"a": 1, "b": 0}, "q2": {"a": 2}}
    turned = {"q2": {"a": 2}, "q1": {"b": 0, "a": 1}}
    assert qrels_fingerprint(qrels) == qrels_fingerprint(turned)
    changed = [
        {"q1": {"a": 1, "b": 1}, "q2": {"a": 2}},
        {"q1": {"a": 1}, "q2": {"a": 2}},
        {"q1": {"a": 1, "b": 0}, "q3": {"a": 2}},
        {"q1": {"a": 1}, "q2": {"a": 2, "b": 0}},
    ]
    assert qrels_fingerprint(qrels) not in {qrels_fingerprint(other) for other in changed}
