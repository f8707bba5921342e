"""The files of a sentence-transformers folder that gives the vectors of a checkpoint with its templates.

Prefix and suffix of a template are written into the post-processor of the tokenizer, so that truncation
shortens the text alone; a prompt becomes a sentence-transformers prompt. Two features have no counterpart in
that library and are composed of its modules:

* Templates that differ between the sides: a ``Router``. Both routes end in the same model, so that its
  weights exist once. The query route begins with a model without layers, which only brings the tokenizer of
  queries.
* The mean of several last tokens: ``WordWeights`` weights tokens by their id, not by their position, and a
  text may contain a slot token as well. So the pooled tokens get new ids, which no text can produce, and the
  embedding matrix repeats their rows under the new ids.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from llara_eval.checkpoints.st_read import POOLING_MODES
from llara_eval.core.errors import UsageError
from llara_eval.core.files import write_json, write_text
from llara_eval.encoding.encoder import Encoder
from llara_eval.encoding.templates import SIDES, Template, Templates

_MODES = {pooling: mode for mode, pooling in POOLING_MODES.items()}

_TYPES: Mapping[str, str] = {
    "router": "sentence_transformers.base.modules.router.Router",
    "model": "sentence_transformers.base.modules.transformer.Transformer",
    "query": "sentence_transformers.base.modules.transformer.Transformer",
    "slots": "sentence_transformers.sentence_transformer.modules.word_weights.WordWeights",
    "pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "normalize": "sentence_transformers.base.modules.normalize.Normalize",
}
"""The classes of modules; the folder of a module has its name, that of pooling also the mode."""

_CARD = """---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, sentence-similarity, feature-extraction]
---
# {name}

{model_class}, vectors of {width} numbers. Load it with sentence-transformers:

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
Queries and documents are encoded by the same weights, in `model/`. The model in `query/` has no layers; only
its tokenizer is used.
"""

_REPEATED = """
The last {count} rows of the embedding matrix repeat those of the pooled tokens, so that these have ids that
no text can produce.
"""


def check_representable(encoder: Encoder) -> None:
    """Raise a UsageError if sentence-transformers cannot apply a template."""
    tokenizer = encoder.tokenizer
    if _padding(tokenizer) is None:
        raise UsageError("sentence-transformers needs a padding token, and this tokenizer has none")
    if not tokenizer.is_fast:
        raise UsageError(
            f"{type(tokenizer).__name__} has no tokenizer.json, into which a template is exported"
        )
    for side in SIDES:
        template = encoder.templates.of(side)
        suffix = template.suffix_ids(tokenizer)
        if not (template.prompt or template.prefix_ids(tokenizer) or suffix):
            raise UsageError(
                f"the {side} template adds nothing to a text, and sentence-transformers then cannot encode "
                "the empty text; only a template with a prefix, prompt or suffix can be exported"
            )
        if template.pools_slots and len(suffix) < template.slots:
            raise UsageError(
                f"the {side} template pools the last {template.slots} tokens, its suffix has {len(suffix)}: "
                "sentence-transformers cannot pool the last tokens of a text"
            )


def write(encoder: Encoder, folder: Path, name: str) -> None:
    """Write all files of the export into a folder; the model card calls it by ``name``."""
    templates, model = encoder.templates, encoder.model
    routed = replace(templates.query, prompt="") != replace(templates.document, prompt="")
    model_folder = folder / "model" if routed else folder
    rows = int(model.get_input_embeddings().num_embeddings)
    repeated: list[int] = []
    _write_tokenizer(model_folder, encoder.tokenizer, templates.document, rows, repeated)
    if routed:
        _write_tokenizer(folder / "query", encoder.tokenizer, templates.query, rows, repeated)
        _write_layerless(folder / "query", rows + len(repeated))
    _repeat_rows(model, repeated)
    model.to(_stored_dtype(model)).save_pretrained(model_folder)
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
    """Write a tokenizer that applies a template, and the settings of its Transformer module.

    Args:
        folder: The module's folder.
        tokenizer: The checkpoint's tokenizer, which is not changed.
        template: The template.
        rows: Rows of the model's embedding matrix.
        repeated: Token ids whose rows will be repeated after these; the tokens that the template pools are
            added to it.
    """
    from tokenizers.processors import TemplateProcessing

    prefix, suffix = template.prefix_ids(tokenizer), template.suffix_ids(tokenizer)
    settings: dict[str, Any] = {"max_seq_length": template.max_length}
    if template.pools_slots:
        settings["unpad_inputs"] = False  # WordWeights needs padded batches and their mask
        start = rows + len(repeated)
        repeated += suffix[-template.slots :]
        suffix[-template.slots :] = range(start, start + template.slots)
    around = {name: ids for name, ids in (("prefix", prefix), ("suffix", suffix)) if ids}
    special = [
        {"id": name, "ids": ids, "tokens": [f"{name} {i}" for i in range(len(ids))]}
        for name, ids in around.items()
    ]
    exported = copy.deepcopy(tokenizer)
    exported.backend_tokenizer.post_processor = TemplateProcessing(
        single=[name for name in ("prefix", "$A", "suffix") if name == "$A" or name in around],
        special_tokens=special,
    )
    exported.chat_template = None  # sentence-transformers would put every text into it
    exported.padding_side = "right"
    exported.truncation_side = "left" if template.cut == "start" else "right"
    exported.pad_token = _padding(tokenizer)
    exported.save_pretrained(folder)
    write_json(folder / "sentence_bert_config.json", settings)


def _padding(tokenizer: Any) -> str | None:
    """Return the padding token or, since padding is masked, another one; None if there is none."""
    token: str | None = tokenizer.pad_token or tokenizer.eos_token or tokenizer.unk_token
    return token


def _repeat_rows(model: Any, ids: Sequence[int]) -> None:
    """Append the rows of some token ids to the embedding matrix, in place."""
    if not ids:
        return
    rows = model.get_input_embeddings().num_embeddings
    model.resize_token_embeddings(rows + len(ids), mean_resizing=False)
    with torch.no_grad():
        matrix = model.get_input_embeddings().weight
        matrix[rows:] = matrix[list(ids)]


def _stored_dtype(model: Any) -> torch.dtype:
    """Return the narrowest dtype that holds every weight exactly, which is that of the stored checkpoint."""
    for dtype in (torch.bfloat16, torch.float16):
        if all(torch.equal(weight, weight.to(dtype).float()) for weight in model.parameters()):
            return dtype
    return torch.float32


def _write_layerless(folder: Path, rows: int) -> None:
    """Write a model without layers, since a Transformer module consists of a model and a tokenizer."""
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=rows, hidden_size=2, intermediate_size=2, num_hidden_layers=0, num_attention_heads=1
    )
    model = LlamaModel(config)
    torch.nn.init.zeros_(model.get_input_embeddings().weight)  # random numbers would differ between exports
    model.save_pretrained(folder)


def _parts(template: Template, width: int, rows: int, repeated: int) -> dict[str, dict[str, Any]]:
    """Return the modules after the model, in order: folder → configuration."""
    parts: dict[str, dict[str, Any]] = {}
    mode = _MODES[template.pooling]
    if template.pools_slots:
        words = ["text"] * rows + ["slot"] * repeated
        parts["slots"] = {"vocab": words, "word_weights": {"slot": 1.0}, "unknown_word_weight": 0.0}
        mode = "mean"
    parts[f"pooling_{mode}"] = {"embedding_dimension": width, "pooling_mode": mode}
    if template.normalize:
        parts["normalize"] = {}
    return parts


def _type(part: str) -> str:
    """Return the class of a module, given its folder."""
    return _TYPES[part.split("_")[0]]


def _routes(document: list[str], query: list[str]) -> dict[str, Any]:
    """Return ``router_config.json``, given the modules after the model; a text is a document by default."""
    structure = {"document": ["model", *document], "query": ["query", "model", *query]}
    return {
        "types": {part: _type(part) for route in structure.values() for part in route},
        "structure": structure,
        "parameters": {"default_route": "document", "allow_empty_key": True, "route_mappings": {}},
    }


def _settings(templates: Templates) -> dict[str, Any]:
    """Return ``config_sentence_transformers.json``; a text is a document by default."""
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
        model_class=type(encoder.model).__name__,
        width=encoder.width,
        templates=json.dumps(encoder.templates.as_json(), indent=2, ensure_ascii=False),
    )
    return card + (_ROUTED if routed else "") + (_REPEATED.format(count=repeated) if repeated else "")
