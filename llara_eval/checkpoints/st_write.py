"""The files of a sentence-transformers folder that encodes as a checkpoint with its templates does.

What a template puts around a text becomes the post-processor of the tokenizer, so truncation shortens
the text and keeps prefix and suffix; a prompt becomes a sentence-transformers prompt. Two things have
no name in that library and are made of what it has:

* Templates that differ: a ``Router``. Both routes end in the one model; in front of it, the query
  route has a model without layers, which is there for its tokenizer alone. Weights exist once.
* The mean of the last tokens: ``WordWeights`` weighs tokens by id, not by place, and a text may hold
  a slot token too. So the pooled tokens get ids of their own, which no text can produce, and the
  embedding table repeats their rows under these ids.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from llara_eval.core.errors import UsageError
from llara_eval.core.files import write_json, write_text
from llara_eval.encoding.encoder import Encoder
from llara_eval.encoding.templates import SIDES, Pooling, Template, Templates

_MODES: Mapping[Pooling, str] = {"mean": "mean", "first": "cls", "last": "lasttoken"}
"""Our names for the ways of pooling → those of sentence-transformers."""

_TYPES: Mapping[str, str] = {
    "router": "sentence_transformers.base.modules.router.Router",
    "model": "sentence_transformers.base.modules.transformer.Transformer",
    "query": "sentence_transformers.base.modules.transformer.Transformer",
    "slots": "sentence_transformers.sentence_transformer.modules.word_weights.WordWeights",
    "pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "normalize": "sentence_transformers.base.modules.normalize.Normalize",
}
"""Modules → their classes; a module's folder has its name, for pooling followed by the mode."""

_CARD = """---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, sentence-similarity, feature-extraction]
---
# {name}

{kind}, vectors of {width} numbers. Load it with sentence-transformers:

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{name}")
queries = model.encode_query(["when is the next eclipse?"])
documents = model.encode_document(["The moon passes between the sun and the earth."])
print(model.similarity(queries, documents))
```

`encode_query` and `encode_document` apply these templates (`encode` that of documents):

```json
{templates}
```
"""

_ROUTED = """
Queries and documents are encoded by the same weights, in `model/`. The model in `query/` has no layers and
is there for its tokenizer.
"""

_REPEATED = """
The last {count} rows of the embedding table repeat those of the pooled tokens, which so have ids that no
text can produce.
"""


def check_representable(encoder: Encoder) -> None:
    """Raise a UsageError if sentence-transformers cannot do what a template says."""
    tokenizer = encoder.tokenizer
    if _padding(tokenizer) is None:
        raise UsageError("sentence-transformers needs a padding token, and this tokenizer has none")
    if not tokenizer.is_fast:
        raise UsageError(
            f"{type(tokenizer).__name__} has no tokenizer.json, which holds the exported template"
        )
    for side in SIDES:
        template = encoder.templates.of(side)
        suffix = template.suffix_ids(tokenizer)
        if not (template.prompt or template.prefix_ids(tokenizer) or suffix):
            raise UsageError(
                f"the {side} template adds nothing to a text, and sentence-transformers cannot encode the "
                "empty text then; a template with a prefix, prompt or suffix can be exported"
            )
        if _weighted(template) and len(suffix) < template.slots:
            raise UsageError(
                f"the {side} template pools the last {template.slots} tokens, its suffix has {len(suffix)}: "
                "sentence-transformers cannot pool the end of a text"
            )


def write(encoder: Encoder, folder: Path, name: str) -> None:
    """Write all files of the export."""
    templates, model = encoder.templates, encoder.model
    routed = replace(templates.query, prompt="") != replace(templates.document, prompt="")
    home = folder / "model" if routed else folder
    rows = int(model.get_input_embeddings().num_embeddings)
    repeated: list[int] = []
    _write_tokenizer(home, encoder.tokenizer, templates.document, rows, repeated)
    if routed:
        _write_tokenizer(folder / "query", encoder.tokenizer, templates.query, rows, repeated)
        _write_layerless(folder / "query", rows + len(repeated))
    _repeat_rows(model, repeated)
    model.to(_stored_dtype(model)).save_pretrained(home)
    document, query = (
        _parts(template, encoder.width, rows, len(repeated))
        for template in (templates.document, templates.query)
    )
    for part, config in {**document, **query}.items():
        write_json(folder / part / "config.json", config)
    if routed:
        write_json(folder / "router_config.json", _routes(list(document), list(query)))
    top = ["router"] if routed else ["model", *document]
    modules = [
        {"idx": i, "name": str(i), "path": part if i else "", "type": _type(part)}
        for i, part in enumerate(top)
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "config_sentence_transformers.json", _settings(templates))
    templates.save(folder)
    write_text(folder / "README.md", _card(name, encoder, routed=routed, repeated=len(repeated)))


def _write_tokenizer(
    folder: Path, tokenizer: Any, template: Template, rows: int, repeated: list[int]
) -> None:
    """Write a tokenizer that applies a template, and the settings of the Transformer module it is for.

    Args:
        folder: The module's folder.
        tokenizer: The checkpoint's own; not changed.
        template: What it shall apply.
        rows: Rows of the model's embedding table.
        repeated: Ids whose rows are repeated after these; those this template pools are added.
    """
    from tokenizers.processors import TemplateProcessing

    pieces = {"prefix": template.prefix_ids(tokenizer), "suffix": template.suffix_ids(tokenizer)}
    weighted = _weighted(template)
    if weighted:
        start = rows + len(repeated)
        repeated += pieces["suffix"][-template.slots :]
        pieces["suffix"][-template.slots :] = range(start, start + template.slots)
    used = {name: ids for name, ids in pieces.items() if ids}
    special = [
        {"id": name, "ids": ids, "tokens": [f"{name} {i}" for i in range(len(ids))]}
        for name, ids in used.items()
    ]
    ours = copy.deepcopy(tokenizer)
    ours.backend_tokenizer.post_processor = TemplateProcessing(
        single=[name for name in ("prefix", "$A", "suffix") if name == "$A" or name in used],
        special_tokens=special,
    )
    ours.chat_template = None  # sentence-transformers would put every text into it
    ours.padding_side = "right"
    ours.pad_token = _padding(tokenizer)
    ours.save_pretrained(folder)
    settings: dict[str, Any] = {"max_seq_length": template.max_length}
    if weighted:
        settings["unpad_inputs"] = False  # WordWeights needs the rows and the mask of a padded batch
    write_json(folder / "sentence_bert_config.json", settings)


def _padding(tokenizer: Any) -> str | None:
    """Return the token that fills up batches; it is masked, so any will do."""
    token: str | None = tokenizer.pad_token or tokenizer.eos_token or tokenizer.unk_token
    return token


def _weighted(template: Template) -> bool:
    """Whether pooling needs weights by token id."""
    return template.pooling == "last" and template.slots > 1


def _repeat_rows(model: Any, ids: Sequence[int]) -> None:
    """Append rows of the embedding table to it once more, in place."""
    if not ids:
        return
    rows = model.get_input_embeddings().num_embeddings
    model.resize_token_embeddings(rows + len(ids), mean_resizing=False)
    with torch.no_grad():
        table = model.get_input_embeddings().weight
        table[rows:] = table[list(ids)]


def _stored_dtype(model: Any) -> torch.dtype:
    """Return the narrowest type that holds every weight exactly: the one the checkpoint was stored in."""
    for dtype in (torch.bfloat16, torch.float16):
        if all(torch.equal(weight, weight.to(dtype).float()) for weight in model.parameters()):
            return dtype
    return torch.float32


def _write_layerless(folder: Path, rows: int) -> None:
    """Write a model that computes nothing: the Transformer module of a tokenizer."""
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=rows, hidden_size=2, intermediate_size=2, num_hidden_layers=0, num_attention_heads=1
    )
    model = LlamaModel(config)
    torch.nn.init.zeros_(model.get_input_embeddings().weight)  # equal exports, byte by byte
    model.save_pretrained(folder)


def _parts(template: Template, width: int, rows: int, repeated: int) -> dict[str, dict[str, Any]]:
    """Return the modules that make vectors of hidden states, in order: folder → configuration."""
    parts: dict[str, dict[str, Any]] = {}
    mode = _MODES[template.pooling]
    if _weighted(template):
        words = ["text"] * rows + ["slot"] * repeated
        parts["slots"] = {"vocab": words, "word_weights": {"slot": 1.0}, "unknown_word_weight": 0.0}
        mode = "mean"
    parts[f"pooling_{mode}"] = {"embedding_dimension": width, "pooling_mode": mode}
    if template.normalize:
        parts["normalize"] = {}
    return parts


def _type(part: str) -> str:
    """Return the class of a module by its folder."""
    return _TYPES[part.split("_")[0]]


def _routes(document: list[str], query: list[str]) -> dict[str, Any]:
    """Return ``router_config.json``, given the modules after the model; a text of no side is a document."""
    structure = {"document": ["model", *document], "query": ["query", "model", *query]}
    return {
        "types": {part: _type(part) for route in structure.values() for part in route},
        "structure": structure,
        "parameters": {"default_route": "document", "allow_empty_key": True, "route_mappings": {}},
    }


def _settings(templates: Templates) -> dict[str, Any]:
    """Return ``config_sentence_transformers.json``; a text of no declared side is a document."""
    return {
        "model_type": "SentenceTransformer",
        "prompts": {"document": templates.document.prompt, "query": templates.query.prompt},
        "default_prompt_name": "document" if templates.document.prompt else None,
        "similarity_fn_name": "cosine" if templates.document.normalize else "dot",
    }


def _card(name: str, encoder: Encoder, *, routed: bool, repeated: int) -> str:
    """Return the README of the export."""
    card = _CARD.format(
        name=name,
        kind=type(encoder.model).__name__,
        width=encoder.width,
        templates=json.dumps(encoder.templates.as_json(), indent=2, ensure_ascii=False),
    )
    return card + (_ROUTED if routed else "") + (_REPEATED.format(count=repeated) if repeated else "")
