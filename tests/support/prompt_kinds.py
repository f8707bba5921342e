"""Kinds of prompts that folders store, by the names that families of models use.

sentence-transformers is given the text that the author of such a model puts before queries and documents,
since its own ``encode_query`` and ``encode_document`` know few of these names.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from checkpoint_kinds import Kind, Vectors, change
from tiny_models import make_sentence_transformer

_WEB = "Instruct: Given a question, find an answer\nQuery: "
_SAME = "Instruct: Find the same\nQuery: "


def _stored(
    prompts: Mapping[str, str], query: str, document: str = "", default: str | None = None
) -> Callable[[Path], Vectors]:
    """Return what writes a folder with these prompts, and returns the vectors with the author's texts."""

    def make(folder: Path) -> Vectors:
        from sentence_transformers import SentenceTransformer

        make_sentence_transformer(folder, "llama", "lasttoken")
        change(folder / "config_sentence_transformers.json", prompts=prompts, default_prompt_name=default)
        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        text = {"query": query, "document": document}
        return lambda texts, side: model.encode(list(texts), prompt=text[side])

    return make


def _kind(name: str, known: str, refused: str | None = None, **options: Any) -> Callable[..., Kind]:
    return lambda *stored, **how: Kind(name, known, _stored(*stored, **how), refused, options)


_CODE = {"code_query": "Find code: ", "code_document": "Code: ", "qa_query": "Answer: "}

KINDS = [
    _kind("e5: a prompt of passages", "`passage`")(
        {"query": "query: ", "passage": "passage: "}, "query: ", "passage: "
    ),
    _kind("Qwen3-Embedding: an instruction for queries alone", "`query`; `document` is empty")(
        {"query": _WEB, "document": ""}, _WEB
    ),
    _kind("nomic-embed: prompts for search and for other tasks", "`search_query`, `search_document`")(
        {"search_query": "search_query: ", "search_document": "search_document: ", "clustering": "c: "},
        "search_query: ",
        "search_document: ",
    ),
    _kind("e5-mistral, Harrier: an instruction for web search and others", "`web_search_query`")(
        {"web_search_query": _WEB, "sts_query": _SAME, "bitext_query": _SAME}, _WEB
    ),
    _kind("stella: prompts of a sentence to a passage and to a sentence", "`s2p_query`")(
        {"s2p_query": _WEB, "s2s_query": _SAME}, _WEB
    ),
    _kind("EmbeddingGemma: a prompt for each task", "`query`, `document`")(
        {
            "query": "task: search | query: ",
            "document": "title: none | text: ",
            "STS": "task: same | query: ",
        },
        "task: search | query: ",
        "title: none | text: ",
    ),
    _kind("prompts called by the types of mteb", "`Retrieval-query`, `Retrieval-document`")(
        {"Retrieval-query": "find: ", "Retrieval-document": "found: ", "STS": "same: "}, "find: ", "found: "
    ),
    _kind("jina-embeddings: prompts called by task and side", "`retrieval.query`, `retrieval.passage`")(
        {"retrieval.query": "Find: ", "retrieval.passage": "Found: ", "separation": ""}, "Find: ", "Found: "
    ),
    _kind("arctic-embed, gte-Qwen2: a prompt of queries alone", "`query`")({"query": _WEB}, _WEB),
    _kind("mxbai: an empty prompt of passages", "`query`; `passage` is empty")(
        {"query": "Represent this: ", "passage": ""}, "Represent this: "
    ),
    _kind("prompts saved again by sentence-transformers", "`search_query`; its own names are empty")(
        {"query": "", "document": "", "search_query": _WEB}, _WEB
    ),
    _kind("a default prompt whose name means no side", "`default_prompt_name`: for both")(
        {"embed": "embed: "}, "embed: ", "embed: ", default="embed"
    ),
    _kind(
        "prompts for several tasks, none of them retrieval",
        "`code_query`, `qa_query`",
        "code_query, qa_query",
    )(_CODE, ""),
    _kind(
        "prompts for several tasks, none of them retrieval",
        "`code_query`, `code_document`",
        prompt_name="code",
    )(_CODE, "Find code: ", "Code: "),
    _kind("prompts whose names mean no side", "`clustering`", "no name says which is for queries")(
        {"clustering": "c: "}, ""
    ),
    _kind("prompts whose names mean no side", "`clustering`", no_prompts=True)({"clustering": "c: "}, ""),
]
