"""What a user says of prompts: contradictions, files, instructions, and the name of the set."""

import json

import pytest

from llara_eval.core.errors import DataError, UsageError
from llara_eval.encoding.prompt_sets import Entry, PromptOptions, PromptSet
from llara_eval.encoding.prompts import StoredPrompts, format_of, is_instruction
from llara_eval.encoding.templates import Template, Templates

BARE = Templates(Template(), Template())
CLAIM = "Given a claim, find documents that refute it"


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("content", "names", "expected"),
    [
        ({"query": "q: ", "document": "d: "}, ["nq"], ("q: ", "d: ")),
        ({"scifact": "s: ", "default": "q: "}, ["beir/scifact", "scifact"], ("s: ", None)),
        ({"scifact": "s: ", "default": {"query": "q: ", "passage": ""}}, ["nq"], ("q: ", "")),
        ({"SciFact-query": "s: ", "SciFact-document": "d: "}, ["scifact", "SciFact"], ("s: ", "d: ")),
        ({"ArguAna-query": "a: ", "ArguAna-passage": "b: ", "NQ": "n: "}, ["ArguAna"], ("a: ", "b: ")),
        ({"cqadupstack": {"document": "d: "}}, ["cqadupstack/gis", "cqadupstack"], (None, "d: ")),
        ('[scifact]\nquery = "s: "\n[default]\nquery = "q: "\n', ["scifact"], ("s: ", None)),
    ],
)
def test_a_file_has_a_prompt_for_each_data_set_or_for_all(tmp_path, content, names, expected) -> None:
    toml = isinstance(content, str)
    entry = PromptSet.from_file(write(tmp_path / f"p.{'toml' if toml else 'json'}", content)).of(names)
    assert (entry.query, entry.document) == expected
    assert entry.source.endswith("of p.toml" if toml else "of p.json")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"msmarco-passage": "q: "}, {"msmarco-passage": Entry("msmarco-passage of p.json", query="q: ")}),
        (
            {"MSMARCO-Passage": {"query": "q: ", "document": "d: "}},
            {"msmarco-passage": Entry("MSMARCO-Passage of p.json", query="q: ", document="d: ")},
        ),
        (
            {"msmarco-passage-query": "q: ", "msmarco-passage-document": "d: "},
            {"msmarco-passage": Entry("msmarco-passage of p.json", query="q: ", document="d: ")},
        ),
        (
            {"MSMARCO-query": "q: ", "MSMARCO-passage": "d: "},
            {"msmarco": Entry("MSMARCO of p.json", query="q: ", document="d: ")},
        ),
        ({"SciFact-passage": "d: "}, {"scifact": Entry("SciFact of p.json", document="d: ")}),
    ],
)
def test_a_data_set_whose_name_ends_like_a_side_is_no_side(tmp_path, content, expected) -> None:
    names = {"msmarco-passage", "msmarco-document", "scifact"}
    assert PromptSet.from_file(write(tmp_path / "p.json", content), names).entries == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"scifact": {"passage": "a: ", "document": "b: "}},
            "the document prompt of 'scifact' is given twice",
        ),
        ({}, "expected prompts, found none"),
        ([], "expected an object"),
        ({"scifact": 3}, "'scifact': expected a text, or a table of texts named query and document, found 3"),
        ({"scifact": {"question": "q: "}}, "'scifact': expected a text"),
        ({"SciFact-query": "a: ", "scifact": "b: "}, "the query prompt of 'scifact' is given twice"),
        ("{", "cannot be read as JSON"),
    ],
)
def test_a_malformed_file_is_named_with_its_key(tmp_path, content, message) -> None:
    path = write(tmp_path / "p.json", content)
    with pytest.raises(DataError, match=message) as error:
        PromptSet.from_file(path)
    assert str(path) in str(error.value)


def test_files_that_are_missing_or_lack_a_data_set_are_named(tmp_path) -> None:
    write(tmp_path / "p.toml", "scifact = ")
    with pytest.raises(DataError, match="cannot be read as TOML"):
        PromptSet.from_file(tmp_path / "p.toml")
    with pytest.raises(DataError, match=r"--prompts .*gone\.json: there is no such file; give one, or mteb"):
        PromptSet.from_file(tmp_path / "gone.json")
    prompts = PromptSet.from_file(write(tmp_path / "p.json", {"SciFact": "s: ", "nq": "n: "}))
    with pytest.raises(DataError, match="has no prompt for beir/fiqa; it has scifact, nq"):
        prompts.of(["beir/fiqa", "fiqa"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"none": True, "query": "q: "}, "--no-prompts and --query-prompt contradict"),
        ({"name": "query", "set_name": "mteb"}, "--prompt-name and --prompts contradict"),
        ({"set_name": "mteb", "document": "d: "}, "--prompts and --document-prompt contradict"),
        ({"set_name": "mteb", "query": "q: "}, "has no {instruction}: with --prompts it is the format"),
        ({"query": "Instruct: {instruction}"}, "{instruction} needs --prompts"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message) -> None:
    with pytest.raises(UsageError, match=message):
        PromptOptions(**options)


def test_a_set_has_one_name_and_two_sets_have_two(tmp_path) -> None:
    path = write(tmp_path / "own.json", {"query": "q: "})
    first = PromptOptions(set_name=str(path)).label
    assert PromptOptions().label == ""
    assert PromptOptions(none=True).label == "+no-prompts"
    assert PromptOptions(name="s2p_query").label == "+s2p_query"
    assert PromptOptions(set_name="mteb").label == "+mteb"
    assert first.startswith("+own.json@")
    assert len(first) == len("+own.json@") + 8
    write(path, {"query": "other: "})
    texts = [PromptOptions(query="a: "), PromptOptions(document="a: "), PromptOptions(query="b: ")]
    labels = {first, PromptOptions(set_name=str(path)).label, *(options.label for options in texts)}
    assert len(labels) == 5


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Instruct: Find it\nQuery: ", "Instruct: {instruction}\nQuery: "),
        ("Instruct: Find it\nQuery:", "Instruct: {instruction}\nQuery:"),
        ("Instruct: Find it \n Query: ", "Instruct: {instruction} \n Query: "),
        ("Instruction: Find it \nQuery: ", "Instruction: {instruction} \nQuery: "),
        ("<instruct>Find it\n<query>", "<instruct>{instruction}\n<query>"),
        ("task: search result | query: ", "task: {instruction} | query: "),
        ("<|user|>\nFind it\n<|embed|>\n", "<|user|>\n{instruction}\n<|embed|>\n"),
        ("title: none | text: ", None),
        ("query: ", None),
        ("Represent this sentence for searching: ", None),
    ],
)
def test_the_format_of_instructions_is_found_in_a_prompt(prompt, expected) -> None:
    assert format_of(prompt) == expected


def test_a_sentence_is_an_instruction_and_what_ends_in_a_separator_is_a_prompt() -> None:
    assert all(map(is_instruction, (CLAIM, CLAIM + ".", "Retrieve it?")))
    assert not any(map(is_instruction, ("", "query: ", "Instruct: x\nQuery:", "<query>", "search: ")))


def test_an_instruction_is_put_into_the_format_of_the_checkpoint() -> None:
    entry = Entry("SciFact of p.json", CLAIM)
    options = PromptOptions(set_name="p.json")
    stored = StoredPrompts({"query": "Instruct: Web\nQuery:", "document": ""}, file="f.json")
    by_side = options.settle(BARE, "modules.json", stored, entry)
    assert by_side["query"].text == f"Instruct: {CLAIM}\nQuery:"
    assert by_side["query"].source == "SciFact of p.json"
    assert (by_side["document"].text, by_side["document"].source) == ("", "none in f.json")
    own = Templates(Template(prompt="<instruct>Web\n<query>"), Template())
    assert options.settle(own, "template.json", None, entry)["query"].text == f"<instruct>{CLAIM}\n<query>"
    whole = options.settle(BARE, "none", None, Entry("key", "query: "))
    assert whole["query"].text == "query: "
    with pytest.raises(UsageError, match=r"--query-prompt 'Instruct: \{instruction\}\\nQuery: '"):
        options.settle(BARE, "none", None, entry)
    given = PromptOptions(set_name="p.json", query="{instruction}: ")
    assert given.settle(own, "template.json", None, entry)["query"].text == f"{CLAIM}: "


def test_of_two_formats_that_of_the_queries_is_used() -> None:
    stored = StoredPrompts({"query": "Instruct: a\nQuery: ", "code": "task: b | query: "}, file="f.json")
    assert stored.find_format() == "Instruct: {instruction}\nQuery: "
    assert StoredPrompts({"query": "query: "}).find_format() is None
