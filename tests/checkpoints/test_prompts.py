"""The prompts that checkpoints store: which one is used, and when none can be chosen.

The kinds in ``prompt_kinds`` compare the vectors with those of sentence-transformers.
"""

import json

import pytest
from tiny_models import make_sentence_transformer

from llara_eval.checkpoints.load import LoadOptions, load
from llara_eval.core.errors import CheckFailedError, DataError, UsageError
from llara_eval.encoding.prompt_sets import PromptOptions
from llara_eval.encoding.templates import SIDES

WEB = "Instruct: Given a question, find an answer\nQuery: "
FILE = "config_sentence_transformers.json"

USED = {
    "exact": ({"query": "query: ", "document": "text: "}, "query", "document"),
    "passage": ({"query": "query: ", "passage": "passage: "}, "query", "passage"),
    "corpus": ({"query": "query: ", "corpus": "text: "}, "query", "corpus"),
    "saved again": ({"query": "", "document": "", "search_query": "q: "}, "search_query", None),
    "an empty document": ({"query": WEB, "document": ""}, "query", None),
    "search and other tasks": (
        {
            "search_query": "search_query: ",
            "search_document": "search_document: ",
            "clustering": "clustering: ",
        },
        "search_query",
        "search_document",
    ),
    "web search and other tasks": (
        {
            "web_search_query": WEB,
            "sts_query": "Instruct: Same\nQuery: ",
            "bitext_query": "Instruct: T\nQuery: ",
        },
        "web_search_query",
        None,
    ),
    "a side after a point": (
        {"retrieval.query": "Find: ", "retrieval.passage": "Found: ", "text-matching": "", "separation": ""},
        "retrieval.query",
        "retrieval.passage",
    ),
    "a side after a hyphen": (
        {
            "Retrieval-query": "task: search | query: ",
            "Retrieval-document": "text: ",
            "STS": "task: same | query: ",
        },
        "Retrieval-query",
        "Retrieval-document",
    ),
    "sentence to passage": ({"s2p_query": WEB, "s2s_query": "Instruct: Same\nQuery: "}, "s2p_query", None),
    "two names of one text": ({"search_query": WEB, "web_search_query": WEB}, "search_query", None),
}


def make(folder, prompts, default=None):
    settings = {"prompts": prompts, "default_prompt_name": default}
    return make_sentence_transformer(folder, "bert", config_sentence_transformers=settings)


@pytest.mark.parametrize("case", USED)
def test_a_stored_prompt_is_used_and_its_source_is_said(tmp_path, case) -> None:
    prompts, *names = USED[case]
    folder = make(tmp_path / "st", prompts)
    encoder = load(folder, dtype="float32")
    for side, name in zip(SIDES, names, strict=True):
        source = getattr(encoder.origin, side)
        assert source == (f"none in {FILE}" if name is None else f"{name} of {FILE}")
        assert encoder.templates.of(side).prompt == (prompts[name] if name else "")


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({"nl2code_query": "a: ", "qa_query": "b: "}, "query under the names nl2code_query, qa_query"),
        ({"search_query": "a: ", "web_query": "b: "}, "search_query, web_query: several may be meant"),
        ({"sts_query": WEB}, "sts_query: none of them names retrieval"),
        ({"query": "a: ", "qa_document": "b: "}, "document under the names qa_document"),
        ({"clustering": "a: ", "classification": "b: "}, "no name says which is for queries or documents"),
    ],
)
def test_unclear_prompts_are_refused_with_their_names_and_the_options(tmp_path, prompts, message) -> None:
    folder = make(tmp_path / "st", prompts)
    with pytest.raises(CheckFailedError, match=message) as error:
        load(folder)
    assert f"{FILE} stores" in str(error.value)
    assert "--prompt-name NAME, --query-prompt TEXT and --document-prompt TEXT, or --no-prompts" in str(
        error.value
    )
    silent = load(folder, LoadOptions(prompts=PromptOptions(none=True))).templates
    assert (silent.query.prompt, silent.document.prompt) == ("", "")


@pytest.mark.parametrize(
    ("prompts", "default", "query", "document"),
    [
        ({"web": "a: "}, "web", "a: ", "a: "),
        ({"qa_query": "a: ", "s2s_query": "b: "}, "qa_query", "a: ", ""),
        ({"query": "a: "}, "query", "a: ", ""),
        ({"query": "a: ", "document": "b: "}, "document", "a: ", "b: "),
        ({"search_query": "a: ", "clustering": "b: "}, "clustering", "a: ", "b: "),
    ],
)
def test_a_default_is_put_on_the_side_that_its_name_means(
    tmp_path, prompts, default, query, document
) -> None:
    templates = load(make(tmp_path / "st", prompts, default)).templates
    assert (templates.query.prompt, templates.document.prompt) == (query, document)


@pytest.mark.parametrize(
    ("name", "query", "document"),
    [
        ("nl2code", "a: ", "b: "),
        ("nl2code_query", "a: ", "b: "),
        ("nl2code_document", "a: ", "b: "),
        ("qa_query", "c: ", None),
        ("sts", "d: ", None),
    ],
)
def test_a_name_chooses_a_prompt_and_its_counterpart(tmp_path, name, query, document) -> None:
    prompts = {"nl2code_query": "a: ", "nl2code_document": "b: ", "qa_query": "c: ", "sts": "d: "}
    folder = make(tmp_path / "st", prompts)
    if document is None:
        with pytest.raises(CheckFailedError, match="document under the names nl2code_document"):
            load(folder, LoadOptions(prompts=PromptOptions(name=name)))
        folder = make(tmp_path / "without", {key: text for key, text in prompts.items() if text != "b: "})
    templates = load(folder, LoadOptions(prompts=PromptOptions(name=name))).templates
    assert (templates.query.prompt, templates.document.prompt) == (query, document or "")
    with pytest.raises(
        UsageError, match="--prompt-name web: the checkpoint stores no such prompt; it stores nl2"
    ):
        load(folder, LoadOptions(prompts=PromptOptions(name="web")))


def test_given_texts_replace_stored_prompts_side_by_side(tmp_path) -> None:
    folder = make(tmp_path / "st", {"query": "q: ", "document": "d: "})
    encoder = load(folder, LoadOptions(prompts=PromptOptions(query="mine: ")))
    assert (encoder.templates.query.prompt, encoder.templates.document.prompt) == ("mine: ", "d: ")
    assert (encoder.origin.query, encoder.origin.document) == ("--query-prompt", f"document of {FILE}")
    with pytest.raises(UsageError, match="--no-prompts: there is none to leave out"):
        load(make(tmp_path / "none", {}), LoadOptions(prompts=PromptOptions(none=True)))


def test_malformed_prompts_are_named(tmp_path) -> None:
    folder = make(tmp_path / "st", {"query": "q: "}, "search")
    with pytest.raises(DataError, match="default_prompt_name 'search' is not one of its prompts, query"):
        load(folder)
    (folder / FILE).write_text(json.dumps({"prompts": {"query": 3}}))
    with pytest.raises(DataError, match=r"Expected `str \| null`, got `int` - at `\$.prompts\[...\]`"):
        load(folder)
    (folder / FILE).write_text(json.dumps({"prompts": {"query": None, "passage": "p: "}}))
    assert load(folder).templates.document.prompt == "p: "
