"""Kinds of models and LoRA adapters; transformers and peft say what their vectors are."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from checkpoint_kinds import Kind, Vectors, change, pooled, save_plain, stock
from gguf_files import write_gguf
from safetensors.torch import load_file, save_file
from tiny_models import make_config, make_model, make_tokenizer
from transformers import AutoModel, AutoModelForCausalLM, T5Config

from llara_eval.encoding.templates import TEMPLATE_FILE, Template, Templates

_DOT = {"normalize": False}


def _bare(architecture: str, **how: Any) -> Callable[[Path], Vectors]:
    """Return a maker of a model without any template."""
    return lambda folder: stock(save_plain(folder, architecture), **how)


def _lora(
    *,
    causal: bool = False,
    rows: int | None = None,
    change_files: Callable[[Path], None] = lambda folder: None,
    **settings: Any,
) -> Callable[[Path], Vectors]:
    """Return a maker of a LoRA adapter; ``rows`` is the size of the embedding matrix it was trained with."""
    from peft import LoraConfig, PeftModel, get_peft_model

    def make(folder: Path) -> Vectors:
        base = save_plain(folder.parent / "base", "llama")
        auto = AutoModelForCausalLM if causal else AutoModel
        if causal:
            auto.from_config(make_config("llama")).save_pretrained(base)

        def opened() -> Any:
            model = auto.from_pretrained(base)
            if rows is not None:
                model.resize_token_embeddings(rows, mean_resizing=False)
            return model

        usual = {"r": 4, "init_lora_weights": False, "target_modules": ["q_proj", "v_proj", "down_proj"]}
        task = "CAUSAL_LM" if causal else "FEATURE_EXTRACTION"
        torch.manual_seed(1)
        adapted = get_peft_model(opened(), LoraConfig(task_type=task, **{**usual, **settings}))
        if rows is not None:
            adapted.get_input_embeddings().weight.data.mul_(1.5)
        adapted.save_pretrained(folder, save_embedding_layers=rows is not None)
        make_tokenizer(slots=0).save_pretrained(folder)
        Templates(Template(max_length=128), Template(max_length=128)).save(folder)
        change_files(folder)
        theirs = PeftModel.from_pretrained(opened(), folder).eval()
        model = theirs.base_model.model.model if causal else theirs
        tokenizer = make_tokenizer(slots=0)
        return lambda texts, side: pooled(model, lambda text: tokenizer(text)["input_ids"], texts)

    return make


def _bin(folder: Path) -> None:
    """Write the weights of an adapter in pickled form."""
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()


def _other_adapter(folder: Path, **settings: Any) -> None:
    _lora()(folder)
    change(folder / "adapter_config.json", **settings)


def own_code(folder: Path, prefix: str = "") -> Vectors:
    """Name a model class of the folder's own, which reads the next token id instead of each."""
    save_plain(folder, "llama")
    (folder / "own.py").write_text(
        "from transformers import LlamaConfig, LlamaModel\n\n\n"
        "class Config(LlamaConfig):\n    model_type = 'own-llama'\n\n\n"
        "class Model(LlamaModel):\n    config_class = Config\n\n"
        "    def forward(self, input_ids=None, **kwargs):\n"
        "        return super().forward(input_ids=(input_ids + 1) % 300, **kwargs)\n"
    )
    classes = {"AutoConfig": f"{prefix}own.Config", "AutoModel": f"{prefix}own.Model"}
    change(folder / "config.json", auto_map=classes)
    tokenizer = make_tokenizer(slots=0)
    return stock(
        save_plain(folder.parent / "plain", "llama"),
        lambda text: [(token + 1) % 300 for token in tokenizer(text)["input_ids"]],
    )


def _other_code(folder: Path) -> None:
    own_code(folder, "someone/code--")


def _pickled(folder: Path) -> Vectors:
    vectors = stock(save_plain(folder, "bert"))
    (folder / "model.safetensors").unlink()
    torch.save(make_model("bert").state_dict(), folder / "pytorch_model.bin")
    return vectors


def _stored_as(dtype: torch.dtype) -> Callable[[Path], Vectors]:
    def make(folder: Path) -> Vectors:
        save_plain(folder, "llama")
        make_model("llama").to(dtype).save_pretrained(folder)
        return stock(folder)

    return make


def _sharded(folder: Path) -> Vectors:
    save_plain(folder, "llama")
    (folder / "model.safetensors").unlink()
    make_model("llama").save_pretrained(folder, max_shard_size="20KB")
    return stock(folder)


def _with_head(folder: Path) -> Vectors:
    save_plain(folder, "llama")
    AutoModelForCausalLM.from_config(make_config("llama")).save_pretrained(folder)
    return stock(folder)


def _both_ways(folder: Path) -> Vectors:
    save_plain(folder, "gemma3")
    model = AutoModel.from_config(make_config("gemma3", use_bidirectional_attention=True))
    model.save_pretrained(folder)
    return stock(folder)


def _left(folder: Path) -> Vectors:
    vectors = stock(save_plain(folder, "llama"))
    change(folder / "tokenizer_config.json", padding_side="left")
    return vectors


def _with_nan(folder: Path) -> None:
    weights = load_file(save_plain(folder, "llama") / "model.safetensors")
    weights["layers.1.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _projected(folder: Path) -> None:
    weights = load_file(save_plain(folder, "bert") / "model.safetensors")
    weights["linear.weight"] = torch.zeros(8, 32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    change(folder / "config.json", architectures=["HF_ColBERT"])


def _incomplete(folder: Path) -> None:
    weights = load_file(save_plain(folder, "llama") / "model.safetensors")
    del weights["layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _encoder_decoder(folder: Path) -> None:
    T5Config().save_pretrained(folder)
    make_tokenizer(slots=0).save_pretrained(folder)


def _gguf(pooling: int | None, how: str = "mean") -> Callable[[Path], Vectors]:
    """Return a maker of a folder with one GGUF file; the vectors are those of the model it was made of."""

    def make(folder: Path) -> Vectors:
        folder.mkdir()
        model, tokenizer = write_gguf(folder / "model.gguf", pooling_type=pooling)
        return lambda texts, side: pooled(
            model, lambda text: tokenizer(text)["input_ids"], texts, pooling=how
        )

    return make


KINDS = [
    Kind("a bare encoder: BERT", "no template: the mean, cosine, with a warning", _bare("bert")),
    Kind("a bare encoder: MPNet", "no template: the mean, cosine, with a warning", _bare("mpnet")),
    Kind("a bare decoder: Llama", "no template: the mean, cosine, with a warning", _bare("llama")),
    Kind("a bare decoder: Qwen 2", "no template: the mean, cosine, with a warning", _bare("qwen2")),
    Kind(
        "a bare decoder: Gemma 2, with a soft cap",
        "no template: the mean, cosine, with a warning",
        _bare("gemma2"),
    ),
    Kind("Contriever: mean, dot product", "the user says so", _bare("bert", unit=False), options=_DOT),
    Kind(
        "TAS-B: first token, dot product",
        "the user says so",
        _bare("bert", pooling="first", unit=False),
        options={**_DOT, "pooling": "first"},
    ),
    Kind("a model with its LM head", "the head is not run", _with_head),
    Kind("EmbeddingGemma: attention both ways", "`use_bidirectional_attention`", _both_ways),
    Kind("padding on the left", "`padding_side`", _left),
    Kind("weights in bfloat16", "`dtype`", _stored_as(torch.bfloat16)),
    Kind("weights in several files", "`model.safetensors.index.json`", _sharded),
    Kind("LoRA", "`adapter_config.json`", _lora()),
    Kind("LoRA on a model with its head", "names of its weights", _lora(causal=True)),
    Kind("LoRA with DoRA", "`use_dora`", _lora(use_dora=True)),
    Kind("LoRA with another scale", "`use_rslora`", _lora(use_rslora=True, lora_alpha=16)),
    Kind("LoRA with biases", "`bias`", _lora(bias="all")),
    Kind("LoRA in `adapter_model.bin`", "read as plain tensors", _lora(change_files=_bin)),
    Kind("LoRA with whole modules", "`modules_to_save`", _lora(modules_to_save=["norm"])),
    Kind(
        "LoRA of the embedding matrix", "`target_modules`", _lora(target_modules=["embed_tokens", "q_proj"])
    ),
    Kind("LoRA saved after the embedding matrix was cut (Qwen2.5)", "its rows", _lora(rows=280)),
    Kind("LoRA with its head, after the matrix was cut", "its rows", _lora(rows=280, causal=True)),
    Kind("LoRA saved after the embedding matrix had grown", "its rows", _lora(rows=320)),
    Kind(
        "LoRA without templates",
        "no template",
        _lora(change_files=lambda folder: (folder / TEMPLATE_FILE).unlink()),
        "a LoRA adapter of unknown templates; name them with",
    ),
    Kind(
        "LoRA of a newer peft",
        "a setting that peft does not know",
        partial(_other_adapter, use_newer=True),
        "use_newer True is no setting of LoRA that peft",
    ),
    Kind(
        "another adapter than LoRA",
        "`peft_type`",
        partial(_other_adapter, peft_type="IA3"),
        "expected a LoRA configuration",
    ),
    Kind("a model class of its own", "`auto_map`", own_code, r"code of its own, own\.Config"),
    Kind("a model class of its own", "`auto_map`", own_code, options={"trust_remote_code": True}),
    Kind(
        "a class in another repository",
        "`auto_map`",
        _other_code,
        "code in another repository",
        options={"trust_remote_code": True},
    ),
    Kind("weights in `pytorch_model.bin` only", "no safetensors", _pickled, "-o bin_weights=true"),
    Kind("weights in `pytorch_model.bin` only", "no safetensors", _pickled, options={"bin_weights": True}),
    Kind("a GGUF file of a language model", "no `pooling_type`", _gguf(None)),
    Kind("a GGUF file that pools the last token", "`pooling_type`", _gguf(3, "last")),
    Kind("a GGUF file that pools the mean", "`pooling_type`", _gguf(1)),
    Kind("a GGUF file of a reranker", "`pooling_type`", _gguf(4), "pooling_type 4"),
    Kind(
        "a weight that is NaN",
        "a vector holds NaN",
        _with_nan,
        r"the weight layers\.1\.mlp\.up_proj\.weight holds NaN",
    ),
    Kind("weights that are missing", "names of weights", _incomplete, "its weights are not complete"),
    Kind(
        "weights of a class that transformers does not have (ColBERT)",
        "`architectures`, names of weights",
        _projected,
        r"saved by HF_ColBERT, and BertModel has no place for linear\.weight",
    ),
    Kind("an encoder with a decoder (T5)", "`model_type`", _encoder_decoder, "an encoder and a decoder"),
]
