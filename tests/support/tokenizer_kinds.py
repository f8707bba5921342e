"""Kinds of tokenizers in a checkpoint; tokenizers says what their token ids are."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from checkpoint_kinds import Kind, Vectors, change, library, save_plain, stock
from tiny_models import make_config, make_sentence_transformer
from tokenizer_files import write as write_tokenizer
from transformers import AutoModel


def _tokenizer(
    architecture: str,
    file: str,
    *,
    ends: tuple[list[int], list[int]] | None = None,
    pooling: str | None = None,
    **settings: Any,
) -> Callable[[Path], Vectors]:
    """Return a maker of a model whose tokenizer.json is of another kind than transformers expects.

    The ids are those of tokenizers; with ``ends``, these stand before and after those of the text.
    """

    def make(folder: Path) -> Vectors:
        if pooling is None:
            save_plain(folder, architecture)
        else:
            make_sentence_transformer(folder, architecture, pooling)
        model = AutoModel.from_config(make_config(architecture, vocab_size=400))
        model.save_pretrained(folder)
        tokenizer = write_tokenizer(folder, file, **settings)

        full, bare = (tokenizer.encode("a", add_special_tokens=special).ids for special in (True, False))
        start = full.index(bare[0])
        before, after = ends or (full[:start], full[start + len(bare) :])
        room = (128 if pooling is None else 48) - len(before) - len(after)

        def ids(text: str) -> list[int]:
            return [*before, *tokenizer.encode(text, add_special_tokens=False).ids[:room], *after]

        return stock(folder, ids, pooling={"lasttoken": "last", None: "mean"}[pooling])

    return make


_LEFT = {"direction": "Left", "max_length": 24, "strategy": "LongestFirst", "stride": 0}


def _cut(folder: Path, file: str, **settings: Any) -> Vectors:
    """Write a folder with prompts whose tokenizer cuts off the start of texts longer than 24 tokens."""
    make_sentence_transformer(folder)
    change(folder / "sentence_bert_config.json", max_seq_length=24)
    change(folder / "config_sentence_transformers.json", prompts={"query": "q: ", "document": "d: "})
    change(folder / file, **settings)
    return library(folder)


def _own_tokenizer(folder: Path) -> None:
    save_plain(folder, "llama")
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Slow", "own.Fast"]})


KINDS = [
    Kind(
        "paraphrase-multilingual-MiniLM: unigrams in a BERT",
        "`tokenizer.json` gives other ids",
        _tokenizer("bert", "unigram", do_lower_case=True),
    ),
    Kind(
        "unigrams with RobertaTokenizer",
        "`tokenizer.json` gives other ids",
        _tokenizer("xlm-roberta", "unigram", tokenizer_class="RobertaTokenizer"),
    ),
    Kind(
        "DeepSeek: bytes and single digits with LlamaTokenizerFast",
        "`tokenizer.json` gives other ids",
        _tokenizer("llama", "byte level", tokenizer_class="LlamaTokenizerFast"),
    ),
    Kind(
        "SmolLM2, Granite, phi: GPT2Tokenizer",
        "`tokenizer.json`, which the class does not list",
        _tokenizer("llama", "byte level", tokenizer_class="GPT2Tokenizer"),
    ),
    Kind(
        "e5-mistral: `</s>` at the end, which alone is pooled",
        "`add_eos_token`",
        _tokenizer(
            *("llama", "byte level"),
            pooling="lasttoken",
            ends=([0], [2]),  # the ids of <s> and </s>
            add_bos_token=True,
            add_eos_token=True,
            tokenizer_class="LlamaTokenizer",
        ),
    ),
    Kind(
        "Qwen3-Embedding: the post-processor ends the text",
        "`tokenizer.json`; `add_bos_token` is false",
        _tokenizer("qwen2", "byte fallback", pooling="lasttoken", add_bos_token=False, bos_token=None),
    ),
    Kind(
        "flags that contradict the post-processor",
        "`add_eos_token`",
        _tokenizer("llama", "unigram", add_eos_token=True, eos_token="<mask>"),
        r"add_eos_token is True, but tokenizer\.json puts </s> there",
    ),
    Kind(
        "long texts lose their start, and with it the prompt",
        "`truncation_side`",
        partial(_cut, file="tokenizer_config.json", truncation_side="left"),
    ),
    Kind(
        "long texts lose their start, and with it the prompt",
        "`truncation` of `tokenizer.json`",
        partial(_cut, file="tokenizer.json", truncation=_LEFT),
    ),
    Kind("a tokenizer class of its own", "`auto_map`", _own_tokenizer, r"code of its own, own\.Slow"),
]
