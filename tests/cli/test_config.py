"""``--config``: options from a file, and in the record of a run."""

import json

import pytest
from commands import call

RUN = "q1 Q0 d1 1 2.0 x\nq1 Q0 d2 2 1.0 x\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "run.trec").write_text(RUN)
    (tmp_path / "qrels.tsv").write_text("q1 0 d2 1\n")
    return tmp_path


def config(files, text, name="score.toml"):
    path = files / name
    path.write_text(text)
    return path


def score(files, *words):
    result = call("score", *words, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)["measures"]


def test_options_come_from_a_file_and_the_command_line_overrides_them(files):
    text = f"""
command = "score"
run = "{files / "run.trec"}"
qrels = "{files / "qrels.tsv"}"
measures = "RR@10"
"""
    path = config(files, text)
    assert list(score(files, "--config", path)) == ["RR@10"]
    assert list(score(files, "--config", path, "--measures", "R@1")) == ["R@1"]


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("qrls = 1", 2, "score has no option 'qrls'. Did you mean 'qrels'?"),
        ("command = 'mine'", 2, "holds options of another command than score"),
        ("run = ", 3, "cannot be read as TOML"),
    ],
)
def test_a_file_of_other_content_is_refused(files, text, code, message):
    result = call("score", "--config", config(files, text))
    assert (result.exit_code, message in " ".join(result.stderr.split())) == (code, True), result.stderr


def test_a_record_without_options_is_refused(files):
    result = call("score", "--config", config(files, "{}", "result.json"))
    assert (result.exit_code, "lacks provenance.options" in result.stderr) == (3, True)


def test_a_missing_file_is_refused(files):
    result = call("score", "--config", files / "absent.toml")
    assert (result.exit_code, "absent.toml" in result.stderr) == (3, True)


def test_a_run_is_repeated_by_its_record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLARA_EVAL_DATA", str(tmp_path / "data"))
    first = call(
        "evaluate", "-m", "bm25", "-d", "demo", "--depth", "10", "-o", "k1=0.7", "--measures", "RR@10"
    )
    assert first.exit_code == 0, first.stderr
    folder = tmp_path / "runs" / "bm25,k1=0.7" / "demo"
    record = json.loads((folder / "result.json").read_text())
    assert record["provenance"]["options"] == {
        "command": "evaluate",
        "model": ["bm25"],
        "dataset": ["demo"],
        "depth": 10,
        "option": ["k1=0.7"],
        "measures": "RR@10",
    }
    (tmp_path / "kept.json").write_text((folder / "result.json").read_text())
    run = (folder / "run.trec.gz").read_bytes()
    again = call("evaluate", "--config", "kept.json", "--on-existing", "always")
    assert again.exit_code == 0, again.stderr
    assert (folder / "run.trec.gz").read_bytes() == run
    repeated = json.loads((folder / "result.json").read_text())
    assert repeated["measures"] == record["measures"]
    assert repeated["provenance"]["options"] == record["provenance"]["options"] | {"on_existing": "always"}
