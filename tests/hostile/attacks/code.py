"""Code that a checkpoint, a data set or the working directory brings: a canary says whether it ran."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from case import CHECKED, DAMAGED, FINE, REFUSED, Case, Damage
from damage import both, value, write

from attacks.checkpoints import CHECK, TRUSTING

_CANARY = "import os\nopen(os.environ['HOSTILE_CANARY'], 'w').write('{what}')\n"
CODE, PICKLE = _CANARY.format(what="code"), _CANARY.format(what="pickle")

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


def _without(*files: str) -> Damage:
    def damage(room: Path) -> None:
        for file in files:
            (room / file).unlink()

    return damage


_MAP = {
    "AutoConfig": "evil.Config",
    "AutoModel": "evil.Model",
    "AutoModelForCausalLM": "evil.Causal",
    "AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"],
}


def _planted(folder: str = "ckpt") -> Damage:
    """Return a damage that puts Python under every name that a library may import."""
    names = ("evil", "modeling_llama", "tokenization_llama", "configuration_llama", "handler", "conftest")
    generate = write(f"{folder}/custom_generate/generate.py", CODE)
    return both(*(write(f"{folder}/{name}.py", CODE + _CLASSES) for name in names), generate)


_AUTO: Mapping[str, tuple[str, Damage]] = {
    "config": ("llama", value("ckpt/config.json", "auto_map", _MAP)),
    "config without model_type": (
        "llama",
        both(value("ckpt/config.json", "auto_map", _MAP), value("ckpt/config.json", "model_type", ...)),
    ),
    "an unknown model_type": (
        "llama",
        both(value("ckpt/config.json", "auto_map", _MAP), value("ckpt/config.json", "model_type", "evil")),
    ),
    "tokenizer": ("llama", value("ckpt/tokenizer_config.json", "auto_map", _MAP)),
    "tokenizer as a list": (
        "llama",
        value("ckpt/tokenizer_config.json", "auto_map", ["evil.Tokenizer", None]),
    ),
    "tokenizer in the config": (
        "llama",
        value("ckpt/config.json", "auto_map", {"AutoTokenizer": ["evil.Tokenizer", None]}),
    ),
    "another auto class": (
        "llama",
        value("ckpt/config.json", "auto_map", {"AutoModelForSequenceClassification": "evil.Model"}),
    ),
    "processor": (
        "llama",
        write("ckpt/processor_config.json", json.dumps({"auto_map": {"AutoProcessor": "evil.Tokenizer"}})),
    ),
    "a nested config": (
        "llama",
        value("ckpt/config.json", "text_config", {"model_type": "evil", "auto_map": _MAP}),
    ),
    "modules": ("sentence", value("ckpt/modules.json", "1.type", "evil.Pooling")),
    "modules of another package": ("sentence", value("ckpt/modules.json", "1.type", "os.system")),
    "modules of the folder": ("sentence", value("ckpt/modules.json", "0.type", "ckpt.evil.Transformer")),
    "sentence config": ("sentence", value("ckpt/config.json", "auto_map", _MAP)),
    "sentence tokenizer": ("sentence", value("ckpt/tokenizer_config.json", "auto_map", _MAP)),
    "the base of an adapter": ("lora", both(value("base/config.json", "auto_map", _MAP), _planted("base"))),
    "the tokenizer of an adapter's base": (
        "lora",
        both(value("base/tokenizer_config.json", "auto_map", _MAP), _planted("base")),
    ),
    "peft's auto_mapping": (
        "lora",
        value(
            "ckpt/adapter_config.json",
            "auto_mapping",
            {"base_model_class": "Model", "parent_library": "evil"},
        ),
    ),
    "a custom LoRA module": ("lora", value("ckpt/adapter_config.json", "lora_custom", {"evil": "evil"})),
    "gguf and tokenizer_config": (
        "gguf",
        write("ckpt/tokenizer_config.json", json.dumps({"auto_map": _MAP})),
    ),
    "gguf and config": (
        "gguf",
        write("ckpt/config.json", json.dumps({"auto_map": _MAP, "model_type": "evil"})),
    ),
    "gguf, config of llama": (
        "gguf",
        write("ckpt/config.json", json.dumps({"auto_map": _MAP, "model_type": "llama"})),
    ),
    "gguf and generation_config": (
        "gguf",
        write("ckpt/generation_config.json", json.dumps({"custom_generate": "ckpt"})),
    ),
    "generation_config": (
        "llama",
        write("ckpt/generation_config.json", json.dumps({"custom_generate": "ckpt"})),
    ),
    "chat template": (
        "llama",
        write(
            "ckpt/chat_template.jinja", "{{ cycler.__init__.__globals__.os.system('touch $HOSTILE_CANARY') }}"
        ),
    ),
    "attention of the hub": ("llama", value("ckpt/config.json", "_attn_implementation", "evil/kernel")),
}
"""Name → a part, and what makes it name code."""

_ANYHOW = {
    *("another auto class", "processor", "generation_config", "chat template", "a nested config"),
    "peft's auto_mapping",
}
"""What names code that no command needs: it may be ignored or refused."""


def cases() -> Iterator[Case]:
    """Yield the cases."""
    for name, (part, damage) in _AUTO.items():
        for command, words in _COMMANDS.items():
            model = "ckpt"
            trusting = "--trust-remote-code" in words
            anyhow = name in _ANYHOW or part == "gguf" or (command == "plan" and part == "lora")
            codes = CHECKED if trusting or anyhow else REFUSED
            if name == "attention of the hub":
                codes = REFUSED
            yield Case(
                id=f"code/{name}/{command}",
                words=tuple(word if word != "MODEL" else model for word in words),
                parts=(part, *(("collection",) if command not in ("check", "check, allowed") else ())),
                damage=both(_planted(), damage),
                codes=codes,
                code_may_run=trusting,
            )
    yield from _gguf_files()
    yield from _pickles()
    yield from _working_directory()
    yield from _modules_by_name()


_COMMANDS: Mapping[str, tuple[str, ...]] = {
    "check": CHECK,
    "check, allowed": TRUSTING,
    "export": ("export", "-m", "ckpt", "--output", "out/export", "-q"),
    "plan": ("plan", "-m", "ckpt", "-d", "collection", "--no-probe", "--offline", "-q"),
    "finetune": (
        *(
            "finetune",
            "-m",
            "ckpt",
            "--data",
            "groups.jsonl",
            "--output",
            "out/tuned",
            "--steps",
            "1",
            "--offline",
        ),
        *("--batch-size", "2", "--batch-tokens", "600", "--dry-run", "-q"),
    ),
    "sentence-transformers": (*CHECK, "--backend", "sentence-transformers"),
}


def _gguf_files() -> Iterator[Case]:
    for name, text in {
        "tokenizer_config": json.dumps({"auto_map": _MAP, "tokenizer_class": "Tokenizer"}),
        "config": json.dumps({"auto_map": _MAP, "model_type": "evil"}),
    }.items():
        for trusting in (False, True):
            words = ("check", "-m", "ckpt/model.gguf", "--offline", "--json")
            yield Case(
                id=f"code/a GGUF file beside {name}{', allowed' if trusting else ''}",
                words=(*words, "--trust-remote-code") if trusting else words,
                parts=("gguf",),
                damage=both(_planted(), write(f"ckpt/{name}.json", text)),
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
    for name, (part, file, whole) in files.items():
        for wrapped in (True, False):
            for option, more in {
                "": (),
                ", bin_weights": ("-o", "bin_weights=true"),
                ", allowed": ("--trust-remote-code",),
            }.items():
                dense = value("ckpt/modules.json", "2.type", "sentence_transformers.models.Dense")
                damage = both(*([_without(whole)] if whole else [dense]), _pickle(file, wrapped=wrapped))
                yield Case(
                    id=f"code/a pickle as {name}{option}{'' if wrapped else ', bare'}",
                    words=(*CHECK, *more, *(() if whole else ("--backend", "sentence-transformers"))),
                    parts=(part,),
                    damage=damage,
                    codes=REFUSED,
                )
    for name in (
        "optimizer.pt",
        "training_args.bin",
        "rng_state.pth",
        "scheduler.pt",
        "flax_model.msgpack",
        "tf_model.h5",
    ):
        yield Case(
            id=f"code/a pickle beside the weights, {name}",
            words=CHECK,
            parts=("llama",),
            damage=_pickle(f"ckpt/{name}"),
            codes=FINE,
        )


def _working_directory() -> Iterator[Case]:
    """Yield modules in the working directory, in a data set and on the way to it."""
    for name in (
        "adapters",
        "sitecustomize",
        "usercustomize",
        "torch",
        "transformers",
        "json",
        "conftest",
        "evil",
    ):
        for file in (f"{name}.py", f"{name}/__init__.py"):
            yield Case(
                id=f"code/in the working directory, {file}",
                words=CHECK,
                parts=("llama",),
                damage=write(file, CODE),
                codes=FINE,
            )
    script = "import datasets\n" + CODE
    for file in ("collection/collection.py", "collection/__init__.py", "collection/corpus.py"):
        yield Case(
            id=f"code/in a data set, {file}",
            words=("datasets", "verify", "collection", "--json"),
            parts=("collection",),
            damage=write(file, script),
            codes=FINE,
        )
    head = "---\nconfigs: !!python/object/apply:os.system ['touch $HOSTILE_CANARY']\n---\n"
    yield Case(
        id="code/in the head of a README.md",
        words=("datasets", "verify", "collection", "--json"),
        parts=("collection",),
        damage=write("collection/README.md", head),
        codes=DAMAGED,
    )
    yield Case(
        id="code/in a --config file",
        words=("evaluate", "--config", "options.toml", "-d", "collection"),
        parts=("collection",),
        damage=write("options.toml", "model = '!!python/object/apply:os.system'\n"),
        codes=REFUSED,
    )


def _modules_by_name() -> Iterator[Case]:
    """Yield settings of adapters that name any module of Python, which libraries then import."""
    config = "ckpt/adapter_config.json"
    settings: Mapping[str, Damage] = {
        "megatron_core": both(
            value(config, "megatron_config", {"tensor_model_parallel_size": 1}),
            value(config, "megatron_core", "evil"),
        ),
        "auto_mapping": value(
            config, "auto_mapping", {"base_model_class": "Model", "parent_library": "evil"}
        ),
        "runtime_config": value(config, "runtime_config", {"ephemeral_gpu_offload": "evil"}),
        "corda_config": value(config, "corda_config", {"cache_file": "evil.py"}),
        "eva_config": value(config, "eva_config", {"adjust_scaling_factors": "evil"}),
    }
    for name, damage in settings.items():
        for command in ("check", "export", "check, allowed"):
            yield Case(
                id=f"code/a module named by {name}/{command}",
                words=_COMMANDS[command],
                parts=("lora",),
                damage=both(damage, _planted(), write("evil.py", CODE + _CLASSES)),
                environment={"PYTHONPATH": "{room}"},
                codes=CHECKED if command == "check, allowed" or name != "megatron_core" else REFUSED,
                code_may_run=command == "check, allowed",
            )
