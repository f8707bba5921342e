"""docs/python.md is executed: every block of Python, and every output it shows."""

import contextlib
import io
import itertools
import json
import re

import pytest
from checkout import ROOT
from tiny_training import WORDS, make_base

PAGE = ROOT / "docs" / "python.md"
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_every_block_of_the_page_runs_and_prints_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_base(tmp_path / "base")
    sentences = [f"The {first} and the {second} meet here." for first in WORDS for second in WORDS]
    (tmp_path / "wiki.txt").write_text("\n\n".join(" ".join(sentences[at : at + 11]) for at in range(99)))
    pairs = [{"query": word, "pos": [f"{word} and {other}"]} for word, other in itertools.pairwise(WORDS)]
    (tmp_path / "pairs.jsonl").write_text("".join(f"{json.dumps(pair)}\n" for pair in pairs))
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) >= 12
    names: dict = {}
    printed = ""
    for language, text in blocks:
        if language == "text":
            assert [line.rstrip() for line in printed.splitlines()] == text.splitlines()
            printed = ""
            continue
        assert not printed, "the output of a block stands under it"
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(text, str(PAGE), "exec"), names)  # noqa: S102
        printed = out.getvalue()
    assert not printed
