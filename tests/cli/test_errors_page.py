"""``docs/errors.md``: each example ends with the exit code and the message that the page shows."""

import json
import re

import pytest
from checkout import ROOT
from typer.testing import CliRunner

from llara_eval.cli import app

PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
CODES = {int(code): text for code, text in re.findall(r"^## (\d+): (.*?)(?=^## |\Z)", PAGE, re.M | re.S)}
EXAMPLES = [
    (code, command, " ".join(message.split()))
    for code, text in CODES.items()
    for block in re.findall(r"```console\n(.*?)```", text, re.S)
    for command, message in re.findall(r"^\$ llara-eval (.*?)\nerror: (.*?)(?=^\$|\Z)", block, re.M | re.S)
]


def test_every_class_of_errors_has_its_row_and_an_example():
    from llara_eval.core.errors import LlaraEvalError

    rows = dict(re.findall(r"^\| (\d) \| `(\w+)`", PAGE, re.M))
    errors = (LlaraEvalError, *LlaraEvalError.__subclasses__())
    assert rows == {str(error.exit_code): error.__name__ for error in errors}
    assert {code for code, _, _ in EXAMPLES} == {error.exit_code for error in errors}


@pytest.mark.parametrize(
    ("code", "command", "message"), [example for example in EXAMPLES if example[0] in (2, 3, 4, 7)], ids=str
)
def test_an_example_ends_as_the_page_says(tmp_path, monkeypatch, code, command, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qrels.tsv").write_text("q1 0 d1 1\n")
    (tmp_path / "run.trec").write_text("q1 Q0 d1 1 2.0 t\n")
    for language in ("de", "fr"):
        for name, content in (
            ("corpus/test.jsonl", json.dumps({"_id": "d1", "text": "x"})),
            ("queries/test.jsonl", json.dumps({"_id": "q1", "text": "x"})),
            ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1"),
        ):
            path = tmp_path / "both" / f"{language}-{name}"
            path.parent.mkdir(parents=True)
            path.write_text(content + "\n")
    result = CliRunner().invoke(app, command.split())
    if code == 7 and result.exit_code != 7:
        pytest.skip("vLLM is installed")
    assert result.exit_code == code, result.output
    assert message in " ".join(result.stderr.split())
