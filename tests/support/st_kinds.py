"""Kinds of folders in the layout of sentence-transformers; that library says what their vectors are."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from checkpoint_kinds import Kind, Vectors, change, library
from tiny_models import make_sentence_transformer, save_checkpoint

_SETTINGS = "sentence_bert_config.json"
_GENERAL = "config_sentence_transformers.json"


def _folder(folder: Path, kind: str = "bert", pooling: str = "mean", *, unit: bool = True) -> Path:
    """Write a folder, with a Normalize module or without."""
    make_sentence_transformer(folder, kind, pooling)
    if not unit:
        modules = json.loads((folder / "modules.json").read_text())
        (folder / "modules.json").write_text(json.dumps(modules[:2]))
    return folder


def _written(
    kind: str = "bert",
    pooling: str = "mean",
    *,
    unit: bool = True,
    then: Callable[[Path], Any] = lambda folder: None,
    read: Callable[[Path], Vectors] = library,
) -> Callable[[Path], Vectors]:
    def make(folder: Path) -> Vectors:
        then(_folder(folder, kind, pooling, unit=unit))
        return read(folder)

    return make


def _refused(then: Callable[[Path], Any], kind: str = "bert", **how: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        then(_folder(folder, kind, **how))

    return make


def _general(**values: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / _GENERAL, **values)


def _settings(**values: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / _SETTINGS, **values)


def _add_module(folder: Path, name: str, config: dict[str, Any], type_: str | None = None) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    path = f"{len(modules)}_{name}"
    type_ = type_ or f"sentence_transformers.models.{name}"
    modules.append({"idx": len(modules), "name": str(len(modules)), "path": path, "type": type_})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / path).mkdir()
    (folder / path / "config.json").write_text(json.dumps(config))


def _dense(folder: Path, activation: str = "torch.nn.modules.activation.Tanh") -> None:
    from safetensors.torch import save_file

    config = {"in_features": 32, "out_features": 8, "bias": True, "activation_function": activation}
    _add_module(folder, "Dense", config)
    torch.manual_seed(0)
    weights = {"linear.weight": torch.randn(8, 32), "linear.bias": torch.randn(8)}
    save_file(weights, folder / "3_Dense" / "model.safetensors")


def _passage(folder: Path) -> Vectors:
    """Return the vectors of a folder whose prompts are called query and passage, as e5's are."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    names = {"query": "query", "document": "passage"}
    return lambda texts, side: model.encode(list(texts), prompt_name=names[side])


def _again(folder: Path) -> None:
    """Save a folder with the installed sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    model.save(str(folder))


def _adapter(folder: Path) -> None:
    """Turn the weights of a folder into a LoRA adapter of a base model, as a training with peft saves it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    base = save_checkpoint(folder.parent / "base", "llama")
    model = get_peft_model(
        AutoModel.from_pretrained(base),
        LoraConfig(r=4, task_type="FEATURE_EXTRACTION", init_lora_weights=False, target_modules=["q_proj"]),
    )
    for name in ("model.safetensors", "config.json"):
        (folder / name).unlink()
    model.save_pretrained(folder)


def _own_class(folder: Path) -> None:
    """Name a module of the folder's own, as jina-embeddings do."""
    (folder / "custom_st.py").write_text(
        "from sentence_transformers.base.modules.transformer import Transformer as Stock\n\n\n"
        "class Transformer(Stock):\n    def forward(self, features, **_):\n"
        "        features = super().forward(features)\n"
        "        features['token_embeddings'] = features['token_embeddings'].flip(-1) ** 3\n"
        "        return features\n"
    )
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "custom_st.Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))


def _static(folder: Path) -> None:
    module = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.StaticEmbedding"}
    (folder / "modules.json").write_text(json.dumps([module]))


def _router(folder: Path) -> None:
    module = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Router"}
    (folder / "modules.json").write_text(json.dumps([module]))


_OWN = {"backend": "sentence-transformers"}
_CHAT = {
    "modality_config": {
        "message": {"method": "forward", "method_output_name": "last_hidden_state", "format": "structured"}
    }
}

KINDS = [
    Kind("mean pooling", "`1_Pooling`", _written()),
    Kind("pooling of the first token", "`pooling_mode_cls_token`", _written(pooling="cls")),
    Kind("pooling of the last token, decoder", "`pooling_mode_lasttoken`", _written("llama", "lasttoken")),
    Kind("Gemma 3, with a window", "`sliding_window`", _written("gemma3", "lasttoken")),
    Kind(
        "XLM-R and MPNet, whose positions start behind padding",
        "`model_type`",
        _written("xlm-roberta", then=_settings(max_seq_length=20)),
    ),
    Kind("saved by sentence-transformers 6", f"`{_SETTINGS}`", _written(then=_again)),
    Kind(
        "saved by an old version",
        "`sentence_roberta_config.json`",
        _written(then=lambda folder: (folder / _SETTINGS).rename(folder / "sentence_roberta_config.json")),
    ),
    Kind(
        "no pooling switched on",
        "`1_Pooling`: the mean, as in the library",
        _written(then=lambda f: (f / "1_Pooling/config.json").write_text('{"word_embedding_dimension": 32}')),
    ),
    Kind(
        "no Normalize, similarity null",
        "cosine, as in the library, with a warning",
        _written(unit=False, then=_general(similarity_fn_name=None)),
    ),
    Kind(
        "no Normalize, similarity dot",
        "`similarity_fn_name`",
        _written(unit=False, then=_general(similarity_fn_name="dot")),
    ),
    Kind("Normalize, similarity dot", "both", _written(then=_general(similarity_fn_name="dot"))),
    Kind(
        "prompts called query and document",
        "`prompts`",
        _written(then=_general(prompts={"query": "search: ", "document": "text: "})),
    ),
    Kind(
        "prompts called query and passage",
        "`prompts`",
        _written(then=_general(prompts={"query": "query: ", "passage": "passage: "}), read=_passage),
    ),
    Kind(
        "a default prompt, for queries",
        "`default_prompt_name` is not put on documents",
        _written(then=_general(prompts={"query": "search: "}, default_prompt_name="query")),
    ),
    Kind(
        "a length of each side",
        "`query_length`, `document_length`",
        _written(then=_settings(query_length=8, document_length=16)),
    ),
    Kind(
        "a LoRA adapter with pooling", "`adapter_config.json`", _written("llama", "lasttoken", then=_adapter)
    ),
    Kind("pooling of maxima", "`1_Pooling`", _written(pooling="max"), r"pooling 'max'; only"),
    Kind("pooling of maxima", "`1_Pooling`", _written(pooling="max"), options=_OWN),
    Kind(
        "two poolings at once",
        "`1_Pooling`",
        _refused(lambda folder: change(folder / "1_Pooling/config.json", pooling_mode=["cls", "mean"])),
        r"pooling 'cls\+mean'",
    ),
    Kind(
        "pooling without the prompt (INSTRUCTOR)",
        "`include_prompt`",
        _refused(lambda folder: change(folder / "1_Pooling/config.json", include_prompt=False)),
        "without the prompt",
    ),
    Kind("a Dense module", "`modules.json`", _refused(_dense), "Dense; only Transformer"),
    Kind("a Dense module", "`modules.json`", _written(then=_dense), options=_OWN),
    Kind(
        "a Dense module with an activation of its own",
        "`activation_function`",
        _refused(partial(_dense, activation="custom.Swish")),
        r"the activation custom\.Swish is code of the checkpoint",
        options=_OWN,
    ),
    Kind("a module of its own", "`modules.json`", _refused(_own_class), r"custom_st\.Transformer"),
    Kind(
        "a module of its own",
        "`modules.json`",
        _written(then=_own_class, read=partial(library, trust_remote_code=True)),
        options={**_OWN, "trust_remote_code": True},
    ),
    Kind("static embeddings", "`modules.json`", _refused(_static), "modules StaticEmbedding"),
    Kind("a router of queries and documents", "`modules.json`", _refused(_router), "modules Router"),
    Kind(
        "a sparse encoder, a cross encoder",
        "`model_type`",
        _refused(_general(model_type="SparseEncoder")),
        "a SparseEncoder of sentence-transformers",
    ),
    Kind(
        "case lowered outside of the tokenizer",
        "`do_lower_case`",
        _refused(_settings(do_lower_case=True)),
        "do_lower_case.* save it again",
    ),
    Kind(
        "texts put into a chat template",
        "`modality_config`",
        _refused(_settings(**_CHAT)),
        "modality_config .* changes the vectors",
    ),
    Kind(
        "arguments that change the model",
        "`model_args`",
        _refused(_settings(model_args={"rope_theta": 1})),
        "model_args .* changes the vectors",
    ),
    Kind(
        "Euclidean distance",
        "`similarity_fn_name`",
        _refused(_general(similarity_fn_name="euclidean")),
        "only cosine and dot",
    ),
    Kind("vectors cut short", "`truncate_dim`", _refused(_general(truncate_dim=8)), "use --dims 8"),
]
