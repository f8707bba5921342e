"""Tiny random models of several architectures and a tokenizer for them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    AutoModel,
    BertConfig,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MPNetConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    XLMRobertaConfig,
)

TEXTS = [
    "eclipse",
    "the moon passes between the sun and the earth",
    "a violin and a cello, tuned in fifths, are played with a bow; a guitar is plucked",
    "sourdough rises slowly",
    "word " * 60,
]

_SMALL = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,  # far enough from zero that attention matters
}
_GROUPED = {**_SMALL, "num_key_value_heads": 2}

_CONFIGS = {
    "llama": LlamaConfig(**_GROUPED),
    "qwen2": Qwen2Config(**_GROUPED),
    "gemma2": Gemma2Config(**_GROUPED, head_dim=8),
    "gemma3": Gemma3TextConfig(**_GROUPED, head_dim=8, sliding_window=64),
    "bert": BertConfig(**_SMALL),
    "xlm-roberta": XLMRobertaConfig(**_SMALL),
    "mpnet": MPNetConfig(**_SMALL),
}
CAUSAL = {architecture: architecture not in ("bert", "xlm-roberta", "mpnet") for architecture in _CONFIGS}
ARCHITECTURES = tuple(architecture for architecture in _CONFIGS if architecture != "mpnet")
"""The architectures that most tests use, without MPNet, whose attention cannot be replaced."""


def make_config(architecture: str, **changes: Any) -> PreTrainedConfig:
    """Return a new configuration, since a model whose vocabulary grows changes it."""
    usual = _CONFIGS[architecture]
    return usual.__class__(**{**usual.to_dict(), **changes})


def make_tokenizer(slots: int = 16) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer without merges: every byte is a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<pad>", "<s>", "</s>", "[CLS]", "[SEP]", *(f"<s{i}>" for i in range(1, slots + 1))]
    vocabulary = {token: i for i, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def make_model(architecture: str, seed: int = 0) -> torch.nn.Module:
    """Return a random base model in float32."""
    torch.manual_seed(seed)
    return AutoModel.from_config(make_config(architecture)).eval()


def save_checkpoint(folder: Path, architecture: str = "llama", seed: int = 0) -> Path:
    """Write a checkpoint folder: model, tokenizer, no template."""
    make_model(architecture, seed).save_pretrained(folder)
    tokenizer = make_tokenizer()
    if architecture == "qwen2":  # transformers gives its tokenizers this normalizer in any case
        tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    tokenizer.save_pretrained(folder)
    return folder


@contextmanager
def kept_for_backward(model: torch.nn.Module) -> Iterator[dict[int, torch.Tensor]]:
    """Yield address → tensor of all that is kept for the backward pass, parameters excepted."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in weights:
            kept[address] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def make_sentence_transformer(folder, architecture="bert", pooling="mean", **files):
    """Write a folder in sentence-transformers layout around a tiny model."""
    save_checkpoint(folder, architecture)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    (folder / "1_Pooling").mkdir()
    (folder / "2_Normalize").mkdir()
    modes = {"mean": "mean_tokens", "cls": "cls_token", "lasttoken": "lasttoken", "max": "max_tokens"}
    switches = {f"pooling_mode_{mode}": mode == modes[pooling] for mode in modes.values()}
    contents = {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": 32, **switches},
        "sentence_bert_config.json": {"max_seq_length": 48, "do_lower_case": False},
        **{name.replace("__", "/") + ".json": value for name, value in files.items()},
    }
    for name, value in contents.items():
        (folder / name).write_text(json.dumps(value))
    return folder
