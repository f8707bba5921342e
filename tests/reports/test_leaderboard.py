"""The leaderboard is a pure function of the stored results and of the published scores."""

import random
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from stored import cells, make_result

from llara_eval.core.shown import shown
from llara_eval.datasets.known import AVERAGES, CQADUPSTACK
from llara_eval.encoding.templates import Template, Templates
from llara_eval.evaluation.record import Result, folder_of
from llara_eval.reports.leaderboard import consistent, render
from llara_eval.reports.markdown import escaped
from llara_eval.reports.published import (
    BASELINES,
    BM25,
    LLAMA2VEC,
    LLARA,
    PUBLISHED_FILE,
    REPLLAMA,
    PublishedScore,
)
from llara_eval.reports.published import load as load_published

BEIR_13 = AVERAGES["beir-13"]
HOSTILE = [
    *("a|b", "<script>alert(1)</script>", "[x](y)", "**bold**", "new\nline | x", "`code`", "../up (1)"),
    *("https://evil.example/?a=b&c=d", "http://evil.example", "WWW.evil.example", "~~gone~~ &lt; $x$"),
    *("\x1b[2Jcleared", "\u202etxt.exe", "a\x9bb\x07", "zero\u200bwidth"),
]


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"system": "other", "dataset_fingerprint": "0" * 64}, "different data under one name, tiny"),
        (
            {"dataset": "small", "settings": {"checkpoint_sha256": "b"}},
            "different weights under one name, fake",
        ),
    ],
    ids=["data", "weights"],
)
def test_one_name_does_not_stand_for_two_things(changes, difference) -> None:
    first = make_result(settings={"checkpoint_sha256": "a"})
    second = make_result(**{"settings": {"checkpoint_sha256": "a"}, **changes})
    entries = [(Path("runs/first"), first), (Path("runs/second"), second)]
    same = make_result(system="third", dataset="third", settings={"checkpoint_sha256": "c"})
    kept, (problem,) = consistent(dict([*entries, (Path("runs/third"), same)]))
    assert list(kept) == [Path("runs/third")], "nobody knows which of both is outdated"
    assert f"runs/first and runs/second have {difference}" in problem
    assert consistent(dict([entries[0], (Path("runs/third"), same)]))[1] == []


def test_what_stands_in_no_table_is_named() -> None:
    other = make_result(system="other", measures={"P@1": {"mean": 0.5, "low": 0.4, "high": 0.6}})
    entries = [(Path("runs/fake"), make_result()), (Path("runs/other"), other)]
    text = render(entries, [], Path("leaderboard.md"))
    assert "in no table above: other on tiny" in text
    assert "in no table above" not in render(entries[:1], [], Path("leaderboard.md"))


def test_warnings_are_shown_once_with_what_they_are_about() -> None:
    warning = "a|b leaves its similarity open"
    entries = [
        (Path(f"runs/{name}"), make_result(system="a|b", dataset=name, warnings=[warning]))
        for name in ("tiny", "small")
    ]
    text = render(entries, [], Path("leaderboard.md"))
    assert "### Warnings\n\n- a\\|b on small, tiny: a\\|b leaves its similarity open.\n" in text
    silent = make_result(warnings=[])
    assert "### Warnings" not in render([(Path("runs/x"), silent)], [], Path("leaderboard.md"))


def entry(system: str = "fake", dataset: str = "tiny", mean: float = 0.5, **changes) -> tuple[Path, Result]:
    result = make_result(
        system=system, dataset=dataset, measures={"nDCG@10": {"mean": mean, "low": 0, "high": 1}}, **changes
    )
    return folder_of(Path("runs"), system, dataset, result.split), result


def published(system: str, dataset: str, value: float, **changes) -> PublishedScore:
    row = PublishedScore(system, dataset, "nDCG@10", value, "a paper, table 1", "A", True, "")
    return row._replace(**changes)


def test_rendering_does_not_depend_on_the_order_of_results():
    entries = [entry(system, dataset, 0.1 * i) for i, system in enumerate("acb") for dataset in ("y", "x")]
    entries.append((Path("runs/copy/x"), entries[0][1]))
    texts = set()
    for seed in range(5):
        random.Random(seed).shuffle(entries)
        texts.add(render(entries, load_published(), Path("leaderboard.md")))
    assert len(texts) == 1


def test_values_are_the_measured_ones_with_n_and_the_best_is_bold():
    text = render([entry("a", mean=0.12344), entry("b", mean=0.5)], [], Path("leaderboard.md"))
    assert "tiny, n = 2" in text
    assert cells(text, "a")[1] == "[0.1234](runs/a/tiny/result.json)"
    assert cells(text, "b")[1] == "**[0.5000](runs/b/tiny/result.json)**"


def test_a_missing_value_is_a_dash_and_other_splits_are_columns_of_their_own():
    text = render([entry("a", "x"), entry("b", "x", split="dev")], [], Path("leaderboard.md"))
    assert "| system | x (dev), n = 2 | x, n = 2 |" in text
    assert cells(text, "a")[1] == "–"


def test_without_results_the_page_says_how_to_make_one():
    assert "llara-eval evaluate --model bm25 --dataset demo" in render([], [], Path("leaderboard.md"))


def test_published_scores_are_linked_only_where_the_page_lies_beside_the_package(tmp_path):
    checkout = PUBLISHED_FILE.parents[2]
    assert "](llara_eval/data/published.csv)" in render([], load_published(), checkout / "leaderboard.md")
    assert "](../llara_eval/data/published.csv)" in render([], load_published(), checkout / "docs" / "x.md")
    apart = {render([], load_published(), tmp_path / name) for name in ("x.md", "deep/er/x.md")}
    assert len(apart) == 1, "the page does not depend on where the package is installed"


def test_beir_13_has_a_mean_only_if_all_thirteen_are_there():
    rows = [published("whole", dataset, 0.1 * i) for i, dataset in enumerate(BEIR_13)]
    rows += [row._replace(system="part") for row in rows[1:]]
    rows += [published("only mean", "mean/beir-13", 0.561), published("only mean", BEIR_13[0], 0.4)]
    text = render([], rows, Path("leaderboard.md"))
    assert "**BEIR-13 (n = 13)**" in text
    assert cells(text, "whole")[1] == "0.6000"
    assert cells(text, "part")[1] == "–"
    assert cells(text, "only mean")[1] == "0.561 †"
    assert "† only the mean was published." in text


def test_means_of_other_groups_are_columns_if_a_system_has_them():
    rows = [published("whole", dataset, 0.5) for dataset in BEIR_13]
    forums = [published("forums", dataset, 0.1 * i) for i, dataset in enumerate(CQADUPSTACK)]
    rows += [published("whole", "beir/cqadupstack", 0.1), published("whole", "beir/msmarco", 0.2), *forums]
    rows += [
        published("only mean", "mean/beir-15", 0.574),
        *(row._replace(system="part") for row in forums[1:]),
    ]
    text = render([], rows, Path("leaderboard.md"))
    header = ["system", *(f"**BEIR-{n} (n = {n})**" for n in (13, 14, 15)), "**CQADupStack (n = 12)**"]
    assert cells(text, "system")[:5] == header
    whole = [0.5, (6.5 + 0.1) / 14, (6.5 + 0.1 + 0.2) / 15, 0.1]
    assert cells(text, "whole")[1:5] == [f"{value:.4f}" for value in whole]
    assert cells(text, "forums")[1:5] == ["–", "–", "–", "0.5500"]
    assert cells(text, "only mean")[1:5] == ["–", "–", "0.574 †", "–"]
    assert cells(text, "part")[1:5] == ["–"] * 4


def test_measured_means_are_shown_only_where_every_member_is_there():
    whole = [entry("whole", dataset, 0.5) for dataset in CQADUPSTACK]
    part = [entry("part", dataset, 0.9) for dataset in CQADUPSTACK[1:]]
    other_split = [entry("part", CQADUPSTACK[0], 0.9, split="dev")]
    text = render([*whole, *part, *other_split], [], Path("leaderboard.md"))
    table = text.split("### Conditions")[0]
    assert cells(table, "system")[1] == "**CQADupStack (n = 12)**"
    assert cells(table, "whole")[1] == "**0.5000**", "the best, since the other is not complete"
    assert cells(table, "part")[1] == "–"
    assert "BEIR" not in text


def test_further_sets_do_not_enter_the_mean_of_beir_13():
    rows = [published("s", dataset, 0.5) for dataset in (*BEIR_13, "beir/msmarco")]
    rows += [published("s", "beir/cqadupstack/tex", 0.1)]
    text = render([], [*rows, published("s", "beir/msmarco", 0.9)], Path("leaderboard.md"))
    assert cells(text, "s")[1] == "0.5000"
    assert "tex" not in text


def test_values_of_other_splits_and_of_titled_passages_are_marked_and_enter_no_mean():
    rows = [published("s", dataset, 0.5) for dataset in BEIR_13[1:]]
    rows.append(published("s", BEIR_13[0], 0.9, split="dev"))
    text = render([], rows, Path("x.md"))
    assert cells(text, "s")[1:3] == ["0.900 (dev)", "0.500"]
    assert "BEIR-13" not in text
    titled = published("both", "msmarco-passage-titled/dev", 0.4, measure="RR@10")
    rows = [titled, titled._replace(system="one", measure="R@1000", value=0.3)]
    rows.append(titled._replace(dataset="msmarco-passage/dev", value=0.2))
    text = render([], rows, Path("x.md"))
    assert cells(text, "both")[1:3] == ["0.200", "–"], "where both are known, that of the column"
    assert cells(text, "one")[1:3] == ["–", "0.300 §"]
    assert "§ on passages with titles" in text
    assert "§" not in render([], rows[2:], Path("x.md"))


def test_the_conditions_say_how_texts_were_read() -> None:
    query = Template(prefix=("<s>",), prompt="query: ", suffix=("</s>",), pooling="last", max_length=32)
    document = Template(suffix=("<s1><s2>",), pooling="last", slots=2, max_length=512)
    templates = Templates(query, document).as_json()
    settings = {"templates": templates, "titles": 2, "prompts": "mteb"}
    dense = make_result(system="dense", n_documents=8, settings=settings)
    text = render([(Path("runs/dense"), dense), entry("bm25", "tiny")], [], Path("x.md"))
    conditions = text.split("### Conditions")[1]
    titles, *values = [row for row in rows_of(conditions) if row[1] in ("system", "dense")]
    shown = dict(zip(titles, *values, strict=True))
    assert (shown["titles"], shown["query length"], shown["document length"]) == ("25 %", "32", "512")
    assert shown["query template"] == r"\<s\>query: …\</s\>, last"
    assert shown["document template"] == r"…\<s1\>\<s2\>, last 2"
    assert shown["prompts"] == "mteb"
    (other,) = [row for row in rows_of(conditions) if row[1] == "bm25"]
    assert other[titles.index("titles") : titles.index("engine")] == ["–"] * 6, "a system without templates"


def rows_of(text: str) -> list[list[str]]:
    """Return the cells of all lines of tables."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]


def test_a_version_is_a_row_with_its_checkpoints_and_second_hand_values_are_marked() -> None:
    text = render([], load_published(), Path("x.md"))
    for name, beir, document in ((LLARA, "0.561", "0.475"), (LLAMA2VEC, "0.564", "0.479")):
        assert cells(text, f"{name}: LLARA-beir")[1] == f"{beir} † ¶"
        passages, *_, documents, _ = cells(text, name)[1:]
        assert (passages, documents) == (
            "0.431 § ¶ (LLARA-passage)",
            f"{document} ¶ (LLARA-document)",
        )
    assert "¶ second-hand" in text
    own = published("own", "beir/nq", 0.5)
    assert "¶" not in render([], [own], Path("x.md")), "read in its own source"


def test_systems_trained_on_beir_have_a_table_of_their_own():
    rows = [published("a", "beir/nq", 0.5), published("b", "beir/nq", 0.6, zero_shot=False)]
    zero_shot, trained = render([], rows, Path("x.md")).split("(not zero-shot)")
    assert "| a |" in zero_shot
    assert "| b |" not in zero_shot
    assert "| b |" in trained


def test_the_published_rows_are_well_formed_and_hold_the_baselines():
    rows = load_published()
    assert {*BASELINES} <= {row.system for row in rows}
    assert all(0 < row.value <= 1 and row.source and row.confidence in "ABC" for row in rows)
    assert len({row[:3] for row in rows if row.system in (BM25, REPLLAMA)}) == sum(
        row.system in (BM25, REPLLAMA) for row in rows
    )
    assert PUBLISHED_FILE.read_text(encoding="utf-8").count("\n") == len(rows) + 1


def test_dates_commits_prompts_and_names_of_files_are_shown_as_text() -> None:
    evil = "[x](https://evil.example) \x1b[2J|\u202e<b>"
    sides = {side: {"prompt": evil, "pooling": evil, "prefix": [evil]} for side in ("query", "document")}
    settings = {"templates": sides, "prompts": evil, "dtype": evil, "toolkit": evil}
    result = make_result(
        settings={**settings, "training_files": {"a": evil}},
        provenance={"date": "2025-01-01", "git": {"commit": "[](//a|b\x1b"}},
    )
    text = render([(Path("runs/\udcff"), result)], [], Path("x.md"))
    assert "[x]" not in text
    assert "<b>" not in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", text)
    for block in text.split("\n\n"):
        if block.startswith("| "):
            assert len({len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_as_text(name):
    text = render([entry(name, name), entry("plain", name)], [published(name, "beir/nq", 0.5)], Path("x.md"))
    assert f"| {escaped(name)} |" in text
    inline = MarkdownIt("commonmark").parseInline(escaped(name))[0].children
    assert {token.type for token in inline} <= {"text", "text_special"}, "nothing in a name is markup"
    assert "".join(token.content for token in inline) == " ".join(shown(name).split())
    assert not re.search(r"(?i)(?<!\\):(?=//)|www\.", escaped(name)), "GitHub makes no link of it"
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e]", text)
    assert "<script>" not in text
    assert "](y)" not in re.sub(r"\\\]\(y\)", "", text)
    for block in text.split("\n\n"):
        if block.startswith("| "):
            widths = {len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(widths) == 1, block
