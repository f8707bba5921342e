"""Code that a checkpoint, a data set or the working directory brings: a canary says whether it ran."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from case import CANARY, CHECKED, DAMAGED, FINE, REFUSED, Case, Damage, shell
from damage import removed, together, value, write

from attacks.checkpoints import CHECK, TRUSTING
from attacks.collection import VERIFY

_WRITE = f"import os\nopen(os.environ['{CANARY}'], 'w').write('{{what}}')\n"
CODE, PICKLE = _WRITE.format(what="code"), _WRITE.format(what="pickle")
_SHELL = f"touch ${CANARY}"

_CLASSES = """
from transformers import LlamaConfig, LlamaModel, LlamaForCausalLM, PreTrainedTokenizerFast
class Config(LlamaConfig): pass
class Model(LlamaModel): config_class = Config
class Causal(LlamaForCausalLM): config_class = Config
class Tokenizer(PreTrainedTokenizerFast): pass
"""


class _Payload:
    """Writes the canary when it is unpickled."""

    def __reduce__(self):
        return exec, (PICKLE,)


def _pickle(file: str, *, wrapped: bool = True) -> Damage:
    """Return a damage that writes a pickle with a payload, as torch saves it or bare."""

    def damage(room: Path) -> None:
        import pickle

        import torch

        if wrapped:
            torch.save({"weight": _Payload()}, room / file)
        else:
            (room / file).write_bytes(pickle.dumps(_Payload()))

    return damage


_MAP = {
    "AutoConfig": "evil.Config",
    "AutoModel": "evil.Model",
    "AutoModelForCausalLM": "evil.Causal",
    "AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"],
}


def _planted(folder: str = "ckpt") -> Damage:
    """Return a damage that puts Python under every name that a library may import."""
    names = shell("evil modeling_llama tokenization_llama configuration_llama handler conftest")
    generate = write(f"{folder}/custom_generate/generate.py", CODE)
    return together(*(write(f"{folder}/{name}.py", CODE + _CLASSES) for name in names), generate)


def _map(file: str, auto_map: Any = _MAP) -> Damage:
    return value(file, "auto_map", auto_map)


def _json(file: str, **values: Any) -> Damage:
    return write(file, json.dumps(values))


_CONFIG, _TOKENIZER, _ADAPTER = "ckpt/config.json", "ckpt/tokenizer_config.json", "ckpt/adapter_config.json"

_LLAMA: Mapping[str, Damage] = {
    "config": _map(_CONFIG),
    "config without model_type": together(_map(_CONFIG), value(_CONFIG, "model_type", ...)),
    "an unknown model_type": together(_map(_CONFIG), value(_CONFIG, "model_type", "evil")),
    "tokenizer": _map(_TOKENIZER),
    "tokenizer as a list": _map(_TOKENIZER, ["evil.Tokenizer", None]),
    "tokenizer in the config": _map(_CONFIG, {"AutoTokenizer": ["evil.Tokenizer", None]}),
    "another auto class": _map(_CONFIG, {"AutoModelForSequenceClassification": "evil.Model"}),
    "processor": _json("ckpt/processor_config.json", auto_map={"AutoProcessor": "evil.Tokenizer"}),
    "a nested config": value(_CONFIG, "text_config", {"model_type": "evil", "auto_map": _MAP}),
    "generation_config": _json("ckpt/generation_config.json", custom_generate="ckpt"),
    "chat template": write(
        "ckpt/chat_template.jinja", f"{{{{ cycler.__init__.__globals__.os.system('{_SHELL}') }}}}"
    ),
    "attention of the hub": value(_CONFIG, "_attn_implementation", "evil/kernel"),
}

_SENTENCE: Mapping[str, Damage] = {
    "modules": value("ckpt/modules.json", "1.type", "evil.Pooling"),
    "modules of another package": value("ckpt/modules.json", "1.type", "os.system"),
    "modules of the folder": value("ckpt/modules.json", "0.type", "ckpt.evil.Transformer"),
    "sentence config": _map(_CONFIG),
    "sentence tokenizer": _map(_TOKENIZER),
}

_EVIL_CLASS = {"base_model_class": "Model", "parent_library": "evil"}

_LORA: Mapping[str, Damage] = {
    "the base of an adapter": together(_map("base/config.json"), _planted("base")),
    "the tokenizer of an adapter's base": together(_map("base/tokenizer_config.json"), _planted("base")),
    "peft's auto_mapping": value(_ADAPTER, "auto_mapping", _EVIL_CLASS),
    "a custom LoRA module": value(_ADAPTER, "lora_custom", {"evil": "evil"}),
}

_GGUF: Mapping[str, Damage] = {
    "gguf and tokenizer_config": _json(_TOKENIZER, auto_map=_MAP),
    "gguf and config": _json(_CONFIG, auto_map=_MAP, model_type="evil"),
    "gguf, config of llama": _json(_CONFIG, auto_map=_MAP, model_type="llama"),
    "gguf and generation_config": _json("ckpt/generation_config.json", custom_generate="ckpt"),
}

_AUTO: Mapping[str, Mapping[str, Damage]] = {
    "llama": _LLAMA,
    "sentence": _SENTENCE,
    "lora": _LORA,
    "gguf": _GGUF,
}
"""A part → name → what makes it name code."""

_ANYHOW = {
    *("another auto class", "processor", "generation_config", "chat template", "a nested config"),
    "peft's auto_mapping",
}
"""What names code that no command needs: it may be ignored or refused."""

_COMMANDS: Mapping[str, tuple[str, ...]] = {
    "check": CHECK,
    "check, allowed": TRUSTING,
    "export": shell("export -m ckpt --output out/export -q"),
    "plan": shell("plan -m ckpt -d collection --no-probe --offline -q"),
    "finetune": shell(
        "finetune -m ckpt --data groups.jsonl --output out/tuned --steps 1 --batch-size 2 --batch-tokens 600 "
        "--dry-run --offline -q"
    ),
    "sentence-transformers": (*CHECK, "--backend", "sentence-transformers"),
}


def cases() -> Iterator[Case]:
    """Yield the cases."""
    yield from _auto()
    yield from _gguf_files()
    yield from _pickles()
    yield from _working_directory()
    yield from _modules_by_name()


def _auto() -> Iterator[Case]:
    """Yield checkpoints that name code, which is not run unless the user allows it."""
    for part, damages in _AUTO.items():
        for name, damage in damages.items():
            for command, words in _COMMANDS.items():
                trusting = "--trust-remote-code" in words
                anyhow = name in _ANYHOW or part == "gguf" or (command == "plan" and part == "lora")
                checked = (trusting or anyhow) and name != "attention of the hub"
                yield Case(
                    id=f"code/{name}/{command}",
                    words=words,
                    parts=(part, "collection"),
                    damage=together(_planted(), damage),
                    codes=CHECKED if checked else REFUSED,
                    code_may_run=trusting,
                )


def _gguf_files() -> Iterator[Case]:
    for name, damage in {
        "tokenizer_config": _json(_TOKENIZER, auto_map=_MAP, tokenizer_class="Tokenizer"),
        "config": _json(_CONFIG, auto_map=_MAP, model_type="evil"),
    }.items():
        for trusting in (False, True):
            words = shell("check -m ckpt/model.gguf --offline --json")
            yield Case(
                id=f"code/a GGUF file beside {name}{', allowed' if trusting else ''}",
                words=(*words, "--trust-remote-code") if trusting else words,
                parts=("gguf",),
                damage=together(_planted(), damage),
                codes=CHECKED,
                code_may_run=trusting,
            )


def _pickles() -> Iterator[Case]:
    files = {
        "weights": ("llama", "ckpt/pytorch_model.bin", "ckpt/model.safetensors"),
        "adapter": ("lora", "ckpt/adapter_model.bin", "ckpt/adapter_model.safetensors"),
        "base of an adapter": ("lora", "base/pytorch_model.bin", "base/model.safetensors"),
        "sentence": ("sentence", "ckpt/pytorch_model.bin", "ckpt/model.safetensors"),
        "dense module": ("sentence", "ckpt/2_Normalize/pytorch_model.bin", None),
    }
    options = {"": (), ", bin_weights": ("-o", "bin_weights=true"), ", allowed": ("--trust-remote-code",)}
    dense = value("ckpt/modules.json", "2.type", "sentence_transformers.models.Dense")
    for name, (part, file, whole) in files.items():
        for wrapped in (True, False):
            for option, more in options.items():
                yield Case(
                    id=f"code/a pickle as {name}{option}{'' if wrapped else ', bare'}",
                    words=(*CHECK, *more, *(() if whole else ("--backend", "sentence-transformers"))),
                    parts=(part,),
                    damage=together(removed(whole) if whole else dense, _pickle(file, wrapped=wrapped)),
                    codes=REFUSED,
                )
    for name in shell(
        "optimizer.pt training_args.bin rng_state.pth scheduler.pt flax_model.msgpack tf_model.h5"
    ):
        yield Case(
            id=f"code/a pickle beside the weights, {name}",
            words=CHECK,
            parts=("llama",),
            damage=_pickle(f"ckpt/{name}"),
        )


def _working_directory() -> Iterator[Case]:
    """Yield modules in the working directory, in a data set and on the way to it."""
    for name in shell("adapters sitecustomize usercustomize torch transformers json conftest evil"):
        for file in (f"{name}.py", f"{name}/__init__.py"):
            yield Case(
                id=f"code/in the working directory, {file}",
                words=CHECK,
                parts=("llama",),
                damage=write(file, CODE),
            )
    script = "import datasets\n" + CODE
    for file in ("collection/collection.py", "collection/__init__.py", "collection/corpus.py"):
        yield Case(
            id=f"code/in a data set, {file}",
            words=VERIFY,
            parts=("collection",),
            damage=write(file, script),
        )
    head = f"---\nconfigs: !!python/object/apply:os.system ['{_SHELL}']\n---\n"
    yield Case(
        id="code/in the head of a README.md",
        words=VERIFY,
        parts=("collection",),
        damage=write("collection/README.md", head),
        codes=DAMAGED | FINE,  # the layout of the files decides where it is a known one
    )
    yield Case(
        id="code/in a --config file",
        words=shell("evaluate --config options.toml -d collection"),
        parts=("collection",),
        damage=write("options.toml", "model = '!!python/object/apply:os.system'\n"),
        codes=REFUSED,
    )


def _modules_by_name() -> Iterator[Case]:
    """Yield settings of adapters that name any module of Python, which libraries then import."""
    settings: Mapping[str, Damage] = {
        "megatron_core": together(
            value(_ADAPTER, "megatron_config", {"tensor_model_parallel_size": 1}),
            value(_ADAPTER, "megatron_core", "evil"),
        ),
        "auto_mapping": value(_ADAPTER, "auto_mapping", _EVIL_CLASS),
        "runtime_config": value(_ADAPTER, "runtime_config", {"ephemeral_gpu_offload": "evil"}),
        "corda_config": value(_ADAPTER, "corda_config", {"cache_file": "evil.py"}),
        "eva_config": value(_ADAPTER, "eva_config", {"adjust_scaling_factors": "evil"}),
    }
    for name, damage in settings.items():
        for command in ("check", "export", "check, allowed"):
            yield Case(
                id=f"code/a module named by {name}/{command}",
                words=_COMMANDS[command],
                parts=("lora",),
                damage=together(damage, _planted(), write("evil.py", CODE + _CLASSES)),
                environment={"PYTHONPATH": "{room}"},
                codes=CHECKED if command == "check, allowed" or name != "megatron_core" else REFUSED,
                code_may_run=command == "check, allowed",
            )
