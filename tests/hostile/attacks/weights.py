"""Weights of checkpoints: safetensors, their index, GGUF, LoRA adapters, and sizes beyond any machine."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from case import CHECKED, DAMAGED, FINE, REFUSED, Case, Damage, intact
from damage import (
    BYTES,
    JSON_FILES,
    STAND_INS,
    VALUES,
    Raw,
    changed,
    cut,
    dump,
    flip,
    spoiled,
    together,
    value,
    write,
)

from attacks.checkpoints import CHECK

_WEIGHTS = "ckpt/model.safetensors"
_INDEX = "ckpt/model.safetensors.index.json"
_GGUF = "ckpt/model.gguf"
_ADAPTER = "ckpt/adapter_model.safetensors"


def cases() -> Iterator[Case]:
    """Yield the cases."""
    yield from _weights()
    yield from _index()
    yield from _gguf()
    yield from _lora()
    yield from _enormous()


def _case(name: str, part: str, damage: Damage, codes: frozenset[int] = DAMAGED) -> Case:
    """Return a case in which a damaged checkpoint is checked."""
    return Case(id=f"checkpoints/{name}", words=CHECK, parts=(part,), damage=damage, codes=codes)


def _weights() -> Iterator[Case]:
    for share in (0.0, 0.00001, 0.01, 0.5, 0.999):
        yield _case(f"weights/cut {share}", "llama", changed(_WEIGHTS, cut(share)))
    for seed in range(10):
        yield _case(f"weights/bits {seed}", "llama", changed(_WEIGHTS, flip(seed, 3)), CHECKED)
    for name, change in _HEADERS.items():
        codes = CHECKED if name == "a foreign format" else DAMAGED
        yield _case(f"weights/{name}", "llama", _header(change), codes)
    for name in STAND_INS:
        yield _case(f"weights are/{name}", "llama", spoiled(_WEIGHTS, name))
    for part in ("llama", "bert", "lora"):
        damage = _nan(_ADAPTER if part == "lora" else _WEIGHTS)
        yield _case(f"weights/NaN in {part}", part, damage, frozenset({3, 4}))


def _first(header: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of the first tensor."""
    return next(tensor for name, tensor in header.items() if name != "__metadata__")


_HEADERS: Mapping[str, Callable[[dict[str, Any]], int | None]] = {
    "a header of 2^60 bytes": lambda header: 1 << 60,
    "a header of 0 bytes": lambda header: 0,
    "an unknown dtype": lambda header: _first(header).update(dtype="F7"),
    "a dtype that is a number": lambda header: _first(header).update(dtype=7),
    "offsets beyond the end": lambda header: _first(header).update(data_offsets=[0, 10**12]),
    "offsets that are negative": lambda header: _first(header).update(data_offsets=[-5, 5]),
    "a shape of 10^18": lambda header: _first(header).update(shape=[10**9, 10**9]),
    "metadata of numbers": lambda header: header.update(__metadata__={"format": 7}),
    "a foreign format": lambda header: header.update(__metadata__={"format": "pickle"}),
    "no tensor": lambda header: header.clear(),
}
"""Name → changes the header of a safetensors file, and may return a wrong length of it, in bytes."""


def _header(change: Callable[[dict[str, Any]], int | None]) -> Damage:
    def with_header(old: bytes) -> bytes:
        length = int.from_bytes(old[:8], "little")
        header = json.loads(old[8 : 8 + length])
        stated = change(header)
        text = json.dumps(header).encode()
        size = len(text) if stated is None else stated
        return size.to_bytes(8, "little") + text + old[8 + length :]

    return changed(_WEIGHTS, with_header)


def _nan(file: str) -> Damage:
    def damage(room: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(room / file)
        first = min(tensors)  # an embedding matrix, a norm or a LoRA matrix, each of which is used
        tensors[first] = tensors[first] * float("nan")
        save_file(tensors, room / file, {"format": "pt"})

    return damage


def sharded(name: str = "model-00001-of-00001.safetensors") -> Damage:
    """Return a damage that turns the weights of a checkpoint into one shard and an index."""

    def damage(room: Path) -> None:
        from safetensors import safe_open

        (room / "ckpt" / name).parent.mkdir(exist_ok=True)
        (room / _WEIGHTS).rename(room / "ckpt" / name)
        with safe_open(room / "ckpt" / name, "pt") as opened:
            weight_map = dict.fromkeys(opened.keys(), name)
        (room / _INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))

    return damage


def _index() -> Iterator[Case]:
    yield _case("index/whole", "llama", sharded(), FINE)
    for name, change in JSON_FILES.items():
        yield _case(f"index/{name}", "llama", together(sharded(), changed(_INDEX, change)))
    for key in ("metadata", "metadata.total_size", "weight_map", "weight_map.extra"):
        for name, new in VALUES.items():
            damage = together(sharded(), value(_INDEX, key, new))
            codes = DAMAGED if key == "weight_map" else frozenset({0, 2, 3})
            yield _case(f"index/{key}={name}", "llama", damage, codes)
    for name, shard in {
        "absolute": "{room}/elsewhere/model.safetensors",
        "climbing": "../elsewhere/model.safetensors",
        "a folder": "1_Pooling",
        "empty": "",
    }.items():
        yield _case(f"index/a name that is {name}", "llama", _index_of(shard), REFUSED)


def _index_of(shard: str) -> Damage:
    """Return a damage that moves the weights out of the checkpoint and lets an index name a shard."""

    def damage(room: Path) -> None:
        (room / "elsewhere").mkdir()
        (room / "ckpt/1_Pooling").mkdir()
        sharded("../elsewhere/model.safetensors")(room)
        index = json.loads((room / _INDEX).read_text())
        weight_map = dict.fromkeys(index["weight_map"], shard.replace("{room}", str(room)))
        (room / _INDEX).write_bytes(dump({"metadata": {}, "weight_map": weight_map}))

    return damage


def _gguf() -> Iterator[Case]:
    yield _case("gguf/whole", "gguf", intact, FINE)
    for share in (0.0, 0.0001, 0.01, 0.3, 0.5, 0.9, 0.999):
        yield _case(f"gguf/cut {share}", "gguf", changed(_GGUF, cut(share)))
    for seed in range(20):
        yield _case(f"gguf/bits {seed}", "gguf", changed(_GGUF, _flip_head(seed)), CHECKED)
    for name in STAND_INS:
        yield _case(f"gguf is/{name}", "gguf", spoiled(_GGUF, name))
    for name in ("NULs", "garbage"):
        yield _case(f"gguf/{name}", "gguf", changed(_GGUF, BYTES[name]))
    for architecture in ("llama", "bert", "nonsense", ""):
        yield _case(f"gguf/only the architecture {architecture!r}", "gguf", _architecture_alone(architecture))
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json"):
        for text in ("{", "[]", '{"model_type": 7}'):
            yield Case(
                id=f"checkpoints/gguf/beside {name} {text}",
                words=("check", "-m", _GGUF, "--offline", "--json"),
                parts=("gguf",),
                damage=write(f"ckpt/{name}", text),
                codes=CHECKED,
            )


def _flip_head(seed: int) -> Callable[[bytes], bytes]:
    return lambda old: flip(seed, 3)(old[:3000]) + old[3000:]


def _architecture_alone(architecture: str) -> Damage:
    def damage(room: Path) -> None:
        import gguf

        writer = gguf.GGUFWriter(room / _GGUF, architecture)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()

    return damage


def _lora() -> Iterator[Case]:
    config = "ckpt/adapter_config.json"
    bases = {
        "itself": ".",
        "its parent": "../ckpt",
        "a hub name": "nobody/nothing",
        "a URL": "https://example.com/x/y",
        "a system": "smollm2-135m",
        "nothing": "",
    }
    for name, base in bases.items():
        yield _case(f"lora/on {name}", "lora", value(config, "base_model_name_or_path", base))
    with_revision = together(
        value(config, "base_model_name_or_path", "nobody/nothing"), value(config, "revision", "main")
    )
    yield _case("lora/on a hub name with a revision", "lora", with_revision)
    yield _case("lora/on a cycle of two", "lora", _cycle)
    for name in STAND_INS:
        yield _case(f"lora weights are/{name}", "lora", spoiled(_ADAPTER, name))
    for share in (0.0, 0.1, 0.9):
        yield _case(f"lora/cut {share}", "lora", changed(_ADAPTER, cut(share)))
    bomb = "(([a-z_.0-9]+)+)+!"
    for name, pattern in {"(a+)+$": bomb, "unclosed": "(", "backtracking": "(.*)*(.*)*(.*)*!"}.items():
        yield _case(f"lora/targets {name}", "lora", value(config, "target_modules", pattern))
    for key in ("rank_pattern", "alpha_pattern"):
        yield _case(f"lora/{key} of a bomb", "lora", value(config, key, {bomb: 4}), CHECKED)


def _cycle(room: Path) -> None:
    shutil.copytree(room / "ckpt", room / "other")
    for name, other in (("ckpt", "../other"), ("other", "../ckpt")):
        value(f"{name}/adapter_config.json", "base_model_name_or_path", other)(room)


def _enormous() -> Iterator[Case]:
    """Yield sizes that would take hours or all memory; they are refused within seconds."""
    sizes = {
        "num_hidden_layers": 10**6,
        "hidden_size": 10**8,
        "vocab_size": 10**9,
        "intermediate_size": 10**9,
        "max_position_embeddings": 10**12,
        "num_attention_heads": 10**7,
    }
    for key, size in sizes.items():
        codes = CHECKED if key == "max_position_embeddings" else DAMAGED
        for part in ("llama", "bert"):
            yield _case(f"enormous/{part} {key}", part, value("ckpt/config.json", key, size), codes)
    tokens = Raw("[" + ",".join(["{}"] * 100_000) + "]")
    yield _case("enormous/added tokens", "llama", value("ckpt/tokenizer.json", "added_tokens", tokens))
