"""Folders of checkpoints: each file damaged, each value replaced, names that lead elsewhere."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from case import CHECKED, DAMAGED, Case
from damage import FILES, KINDS, VALUES, content, kind, value

CHECK = ("check", "-m", "ckpt", "--offline", "--json")
TRUSTING = (*CHECK, "--trust-remote-code")

_USUAL = ("null", "big", "text", "list", "surrogate")
"""The values of :data:`damage.VALUES` that each key gets; the others go round among the keys."""

_KEYS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("llama", "config.json"): (
        *("architectures", "attention_bias", "attention_dropout", "bos_token_id", "dtype", "eos_token_id"),
        *("head_dim", "hidden_act", "hidden_size", "initializer_range", "intermediate_size", "model_type"),
        *("max_position_embeddings", "num_attention_heads", "num_hidden_layers", "num_key_value_heads"),
        *("pad_token_id", "rms_norm_eps", "rope_parameters", "tie_word_embeddings", "vocab_size"),
        *("quantization_config", "rope_scaling", "sliding_window", "layer_types", "id2label", "text_config"),
        *("is_encoder_decoder", "torch_dtype", "attn_implementation", "auto_map", "_name_or_path"),
    ),
    ("llama", "tokenizer_config.json"): (
        *("backend", "bos_token", "eos_token", "pad_token", "model_max_length", "tokenizer_class"),
        *("add_bos_token", "extra_special_tokens", "chat_template", "padding_side", "truncation_side"),
        *("split_special_tokens", "added_tokens_decoder", "auto_map", "add_prefix_space"),
    ),
    ("llama", "tokenizer.json"): (
        *("version", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model"),
        *("model.vocab", "model.merges", "model.type", "added_tokens.0.id", "added_tokens.0.content"),
        *("truncation", "padding"),
    ),
    ("bert", "config.json"): (
        *(
            "hidden_size",
            "num_hidden_layers",
            "type_vocab_size",
            "vocab_size",
            "hidden_act",
            "layer_norm_eps",
        ),
    ),
    ("sentence", "modules.json"): ("0.path", "1.path", "0.type", "1.type", "2.type", "0.idx", "0", "1"),
    ("sentence", "1_Pooling/config.json"): (
        *("word_embedding_dimension", "pooling_mode_cls_token", "pooling_mode_mean_tokens", "pooling_mode"),
        *("include_prompt",),
    ),
    ("sentence", "sentence_bert_config.json"): (
        "max_seq_length",
        "do_lower_case",
        "model_args",
        "query_length",
    ),
    ("sentence", "config_sentence_transformers.json"): (
        *(
            "prompts",
            "prompts.query",
            "default_prompt_name",
            "similarity_fn_name",
            "truncate_dim",
            "model_type",
        ),
    ),
    ("templated", "template.json"): (
        *("version", "query", "document", "query.prefix", "query.prompt", "query.suffix", "query.slots"),
        *("query.pooling", "query.max_length", "query.normalize", "query.unknown"),
    ),
    ("templated", "training.json"): ("training_files", "steps", "schedule"),
    ("lora", "adapter_config.json"): (
        *(
            "base_model_name_or_path",
            "bias",
            "r",
            "lora_alpha",
            "target_modules",
            "modules_to_save",
            "peft_type",
        ),
        *("task_type", "use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "layers_to_transform"),
        *("layers_pattern", "fan_in_fan_out", "inference_mode", "init_lora_weights", "lora_bias", "revision"),
        *("auto_mapping", "exclude_modules", "loftq_config", "eva_config", "corda_config", "megatron_config"),
        *("trainable_token_indices", "target_parameters", "layer_replication", "lora_dropout"),
    ),
}
"""A part and one of its JSON files → the values that are replaced."""

_REFUSED_WHOLE = {"config.json", "modules.json", "template.json", "adapter_config.json", "tokenizer.json"}
"""Files that must be what they are; the vectors do not depend on some others."""


def cases() -> Iterator[Case]:
    """Yield the cases."""
    for (part, file), keys in _KEYS.items():
        yield from _whole(part, file)
        for number, key in enumerate(keys):
            yield from _values(part, file, key, number)


def _whole(part: str, file: str) -> Iterator[Case]:
    if (part, file) == ("templated", "training.json"):
        return
    strict = Path(file).name in _REFUSED_WHOLE or "Pooling" in file
    for name, change in FILES.items():
        codes = DAMAGED if strict and part != "bert" else CHECKED
        yield Case(
            id=f"checkpoints/{part}/{file}/{name}",
            words=CHECK,
            parts=(part,),
            damage=content(f"ckpt/{file}", change),
            codes=codes,
        )
    for name in KINDS:
        codes = CHECKED if name == "missing" or not strict else DAMAGED
        yield Case(
            id=f"checkpoints/{part}/{file} is/{name}",
            words=CHECK,
            parts=(part,),
            damage=kind(f"ckpt/{file}", name),
            codes=codes,
        )


def _values(part: str, file: str, key: str, number: int) -> Iterator[Case]:
    others = [name for name in VALUES if name not in _USUAL]
    names = [*_USUAL, *(others[(number + shift) % len(others)] for shift in (0, 5))]
    for position, name in enumerate(dict.fromkeys(names)):
        trusting = (number + position) % 4 == 0
        yield Case(
            id=f"checkpoints/{part}/{file}/{key}={name}{', code allowed' if trusting else ''}",
            words=TRUSTING if trusting else CHECK,
            parts=(part,),
            damage=value(f"ckpt/{file}", key, VALUES[name]),
            codes=CHECKED,
            code_may_run=trusting,
        )
