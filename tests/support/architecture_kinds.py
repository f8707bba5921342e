"""Architectures that retrievers are made of, each small and in the layout of sentence-transformers."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from checkpoint_kinds import Kind, Vectors, library
from tiny_models import make_tokenizer
from transformers import CONFIG_MAPPING, AutoModel

_SMALL = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {**_SMALL, "num_key_value_heads": 2}
_GPT2 = {"vocab_size": 300, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
_DISENTANGLED = {
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "max_relative_positions": 128,
    "position_buckets": 32,
    "share_att_key": True,
}
_PACKAGE = "sentence_transformers.models"


def _make(folder: Path, model_type: str, sizes: dict[str, Any], pooling: str) -> Vectors:
    torch.manual_seed(0)
    model = AutoModel.from_config(CONFIG_MAPPING[model_type](**sizes))
    model.save_pretrained(folder)
    make_tokenizer(slots=0).save_pretrained(folder)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": f"{_PACKAGE}.{name}"}
        for i, (path, name) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(entries))
    (folder / "1_Pooling").mkdir()
    pooled = {"embedding_dimension": 32, "pooling_mode": pooling}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooled))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 60}')
    return library(folder)


def _maker(model_type: str, sizes: dict[str, Any], pooling: str = "mean") -> Callable[[Path], Vectors]:
    return partial(_make, model_type=model_type, sizes=sizes, pooling=pooling)


_MAKERS = {
    "DistilBERT": _maker(
        "distilbert",
        {
            **{"vocab_size": 300, "dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4},
            **{"max_position_embeddings": 128, "pad_token_id": 0},
        },
    ),
    "ALBERT": _maker("albert", {**_SMALL, "embedding_size": 16}),
    "DeBERTa v3": _maker("deberta-v2", {**_SMALL, **_DISENTANGLED}),
    "Longformer": _maker("longformer", {**_SMALL, "attention_window": [16, 16]}),
    "ModernBERT, local and global layers": _maker(
        "modernbert", {**_SMALL, "global_attn_every_n_layers": 2, "local_attention": 16}
    ),
    "Nomic BERT": _maker("nomic_bert", _SMALL),
    "GTE": _maker("gte", _SMALL, "cls"),
    "EuroBERT": _maker("eurobert", _GROUPED),
    "Qwen 3": _maker("qwen3", {**_GROUPED, "head_dim": 8}, "lasttoken"),
    "Mistral, with a window": _maker("mistral", {**_GROUPED, "sliding_window": 8}, "lasttoken"),
    "Phi 3": _maker("phi3", _GROUPED, "lasttoken"),
    "gpt-oss, with sinks": _maker(
        "gpt_oss", {**_GROUPED, "head_dim": 8, "num_local_experts": 4, "sliding_window": 16}, "lasttoken"
    ),
    "GPT-2": _maker("gpt2", _GPT2, "lasttoken"),
    "OPT": _maker(
        "opt",
        {
            **{"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "ffn_dim": 64},
            **{"num_attention_heads": 4, "max_position_embeddings": 128, "word_embed_proj_dim": 32},
        },
    ),
    "BLOOM": _maker("bloom", {"vocab_size": 300, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "Mamba": _maker("mamba", {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}),
}


def _unfit(folder: Path, model_type: str, **sizes: Any) -> None:
    """Write a model whose configuration its own code cannot compute with."""
    AutoModel.from_config(CONFIG_MAPPING[model_type](**{**_SMALL, **sizes})).save_pretrained(folder)
    make_tokenizer(slots=0).save_pretrained(folder)


KINDS = [
    *(Kind(name, "`model_type`", make) for name, make in _MAKERS.items()),
    Kind(
        "Nyströmformer, landmarks that do not fit",
        "its forward pass fails",
        partial(_unfit, model_type="nystromformer", num_landmarks=8),
        "the forward pass of a nystromformer model .* fails with RuntimeError",
    ),
    Kind(
        "Helium, heads of another width",
        "its forward pass fails",
        partial(_unfit, model_type="helium"),
        "the forward pass of a helium model .* fails with RuntimeError",
    ),
]
