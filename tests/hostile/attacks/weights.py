"""Weights of checkpoints: safetensors, their index, GGUF, LoRA adapters, and sizes beyond any machine."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from case import CHECKED, DAMAGED, FINE, REFUSED, Case, Damage
from damage import FILES, KINDS, VALUES, Raw, both, content, cut, dump, flip, kind, value, write

from attacks.checkpoints import CHECK


def cases() -> Iterator[Case]:
    """Yield the cases."""
    yield from _weights()
    yield from _index()
    yield from _gguf()
    yield from _lora()
    yield from _enormous()


def _weights() -> Iterator[Case]:
    file = "ckpt/model.safetensors"
    for share in (0.0, 0.00001, 0.01, 0.5, 0.999):
        yield Case(
            id=f"checkpoints/weights/cut {share}",
            words=CHECK,
            parts=("llama",),
            damage=cut(file, share),
            codes=DAMAGED,
        )
    for seed in range(10):
        yield Case(
            id=f"checkpoints/weights/bits {seed}",
            words=CHECK,
            parts=("llama",),
            damage=flip(file, seed, 3),
            codes=CHECKED,
        )
    for name, change in _HEADERS.items():
        yield Case(
            id=f"checkpoints/weights/{name}",
            words=CHECK,
            parts=("llama",),
            damage=_header(file, change),
            codes=CHECKED if name == "a foreign format" else DAMAGED,
        )
    for name in KINDS:
        codes = DAMAGED
        yield Case(
            id=f"checkpoints/weights are/{name}",
            words=CHECK,
            parts=("llama",),
            damage=kind(file, name),
            codes=codes,
        )
    for part in ("llama", "bert", "lora"):
        adapter = "ckpt/adapter_model.safetensors" if part == "lora" else file
        yield Case(
            id=f"checkpoints/weights/NaN in {part}",
            words=CHECK,
            parts=(part,),
            damage=_nan(adapter),
            codes=frozenset({3, 4}),
        )


def _first(header: dict[str, object]) -> dict[str, object]:
    return next(tensor for name, tensor in header.items() if name != "__metadata__")  # type: ignore[return-value]


_HEADERS = {
    "a header of 2^60 bytes": lambda header: (1 << 60, None),
    "a header of 0 bytes": lambda header: (0, None),
    "an unknown dtype": lambda header: _first(header).update(dtype="F7"),
    "a dtype that is a number": lambda header: _first(header).update(dtype=7),
    "offsets beyond the end": lambda header: _first(header).update(data_offsets=[0, 10**12]),
    "offsets that are negative": lambda header: _first(header).update(data_offsets=[-5, 5]),
    "a shape of 10^18": lambda header: _first(header).update(shape=[10**9, 10**9]),
    "metadata of numbers": lambda header: header.update(__metadata__={"format": 7}),
    "a foreign format": lambda header: header.update(__metadata__={"format": "pickle"}),
    "no tensor": lambda header: header.clear(),
}


def _header(file: str, change) -> Damage:
    def damage(room: Path) -> None:
        raw = (room / file).read_bytes()
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + length])
        given = change(header)
        text = json.dumps(header).encode()
        size = given[0] if isinstance(given, tuple) else len(text)
        (room / file).write_bytes(size.to_bytes(8, "little") + text + raw[8 + length :])

    return damage


def _nan(file: str) -> Damage:
    def damage(room: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(room / file)
        first = min(tensors)  # an embedding matrix, a norm or a LoRA matrix, each of which is used
        tensors[first] = tensors[first] * float("nan")
        save_file(tensors, room / file, {"format": "pt"})

    return damage


def shards(folder: Path, *, seed: int | None = None, name: str = "model-00001-of-00001.safetensors") -> None:
    """Turn the weights of a checkpoint into one shard and an index; a seed gives other weights."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if seed is not None:
        torch.manual_seed(seed)
        tensors = {key: torch.randn_like(tensor) * 0.3 for key, tensor in tensors.items()}
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / name, {"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(tensors, name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _index() -> Iterator[Case]:
    index = "ckpt/model.safetensors.index.json"

    def sharded(room: Path) -> None:
        shards(room / "ckpt")

    yield Case(id="checkpoints/index/whole", words=CHECK, parts=("llama",), damage=sharded, codes=FINE)
    for name, change in FILES.items():
        damage = both(sharded, content(index, change))
        yield Case(
            id=f"checkpoints/index/{name}", words=CHECK, parts=("llama",), damage=damage, codes=DAMAGED
        )
    for key in ("metadata", "metadata.total_size", "weight_map", "weight_map.norm\x00weight"):
        for name, new in VALUES.items():
            path = key.replace("norm\x00weight", "extra")
            codes = DAMAGED if key == "weight_map" else frozenset({0, 2, 3})
            yield Case(
                id=f"checkpoints/index/{path}={name}",
                words=CHECK,
                parts=("llama",),
                damage=both(sharded, value(index, path, new)),
                codes=codes,
            )
    for name, target in {
        "absolute": "{room}/elsewhere/model.safetensors",
        "climbing": "../elsewhere/model.safetensors",
        "a folder": "1_Pooling",
        "empty": "",
    }.items():

        def damage(room: Path, target: str = target) -> None:
            (room / "elsewhere").mkdir()
            (room / "ckpt/model.safetensors").rename(room / "elsewhere/model.safetensors")
            (room / "ckpt/1_Pooling").mkdir()
            from safetensors import safe_open

            with safe_open(room / "elsewhere/model.safetensors", "pt") as opened:
                names = list(opened.keys())
            weight_map = dict.fromkeys(names, target.replace("{room}", str(room)))
            (room / index).write_bytes(dump({"metadata": {}, "weight_map": weight_map}))

        yield Case(
            id=f"checkpoints/index/a name that is {name}",
            words=CHECK,
            parts=("llama",),
            damage=damage,
            codes=REFUSED,
        )


def _gguf() -> Iterator[Case]:
    file = "ckpt/model.gguf"
    yield Case(id="checkpoints/gguf/whole", words=CHECK, parts=("gguf",), codes=FINE)
    for share in (0.0, 0.0001, 0.01, 0.3, 0.5, 0.9, 0.999):
        yield Case(
            id=f"checkpoints/gguf/cut {share}",
            words=CHECK,
            parts=("gguf",),
            damage=cut(file, share),
            codes=DAMAGED,
        )
    for seed in range(20):
        damage = content(file, _flip_head(seed))
        yield Case(
            id=f"checkpoints/gguf/bits {seed}", words=CHECK, parts=("gguf",), damage=damage, codes=CHECKED
        )
    for name in KINDS:
        yield Case(
            id=f"checkpoints/gguf is/{name}",
            words=CHECK,
            parts=("gguf",),
            damage=kind(file, name),
            codes=DAMAGED,
        )
    for name, change in {"NULs": lambda old: b"\0" * 4096, "garbage": lambda old: old[::-1]}.items():
        yield Case(
            id=f"checkpoints/gguf/{name}",
            words=CHECK,
            parts=("gguf",),
            damage=content(file, change),
            codes=DAMAGED,
        )
    for architecture in ("llama", "bert", "nonsense", ""):
        yield Case(
            id=f"checkpoints/gguf/only the architecture {architecture!r}",
            words=CHECK,
            parts=("gguf",),
            damage=_architecture_alone(file, architecture),
            codes=DAMAGED,
        )
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json"):
        for text in ("{", "[]", '{"model_type": 7}'):
            yield Case(
                id=f"checkpoints/gguf/beside {name} {text}",
                words=("check", "-m", file, "--offline", "--json"),
                parts=("gguf",),
                damage=write(f"ckpt/{name}", text),
                codes=CHECKED,
            )


def _flip_head(seed: int):
    def change(old: bytes) -> bytes:
        import random

        new, drawn = bytearray(old), random.Random(seed)
        for _ in range(3):
            new[drawn.randrange(min(len(new), 3000))] ^= 1 << drawn.randrange(8)
        return bytes(new)

    return change


def _architecture_alone(file: str, architecture: str) -> Damage:
    def damage(room: Path) -> None:
        import gguf

        writer = gguf.GGUFWriter(room / file, architecture)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()

    return damage


def _lora() -> Iterator[Case]:
    config, weights = "ckpt/adapter_config.json", "ckpt/adapter_model.safetensors"
    bases: Mapping[str, tuple[Damage, frozenset[int]]] = {
        "itself": (value(config, "base_model_name_or_path", "."), DAMAGED),
        "its parent": (value(config, "base_model_name_or_path", "../ckpt"), DAMAGED),
        "a hub name": (value(config, "base_model_name_or_path", "nobody/nothing"), DAMAGED),
        "a hub name with a revision": (
            both(
                value(config, "base_model_name_or_path", "nobody/nothing"), value(config, "revision", "main")
            ),
            DAMAGED,
        ),
        "a URL": (value(config, "base_model_name_or_path", "https://example.com/x/y"), DAMAGED),
        "a system": (value(config, "base_model_name_or_path", "smollm2-135m"), DAMAGED),
        "nothing": (value(config, "base_model_name_or_path", ""), DAMAGED),
        "a cycle of two": (_cycle, DAMAGED),
    }
    for name, (damage, codes) in bases.items():
        yield Case(id=f"checkpoints/lora/on {name}", words=CHECK, parts=("lora",), damage=damage, codes=codes)
    for name in KINDS:
        yield Case(
            id=f"checkpoints/lora weights are/{name}",
            words=CHECK,
            parts=("lora",),
            damage=kind(weights, name),
            codes=DAMAGED,
        )
    for share in (0.0, 0.1, 0.9):
        yield Case(
            id=f"checkpoints/lora/cut {share}",
            words=CHECK,
            parts=("lora",),
            damage=cut(weights, share),
            codes=DAMAGED,
        )
    bombs = {"(a+)+$": "(([a-z_.0-9]+)+)+!", "unclosed": "(", "backtracking": "(.*)*(.*)*(.*)*!"}
    for name, pattern in bombs.items():
        damage = value(config, "target_modules", pattern)
        yield Case(
            id=f"checkpoints/lora/targets {name}", words=CHECK, parts=("lora",), damage=damage, codes=DAMAGED
        )
    for key in ("rank_pattern", "alpha_pattern"):
        damage = value(config, key, {"(([a-z_.0-9]+)+)+!": 4})
        yield Case(
            id=f"checkpoints/lora/{key} of a bomb", words=CHECK, parts=("lora",), damage=damage, codes=CHECKED
        )


def _cycle(room: Path) -> None:
    import shutil

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
        for part in ("llama", "bert"):
            codes = CHECKED if key == "max_position_embeddings" else DAMAGED
            damage = value("ckpt/config.json", key, size)
            yield Case(
                id=f"checkpoints/enormous/{part} {key}",
                words=CHECK,
                parts=(part,),
                damage=damage,
                codes=codes,
            )
    damage = value("ckpt/tokenizer.json", "added_tokens", Raw("[" + ",".join(["{}"] * 100_000) + "]"))
    yield Case(
        id="checkpoints/enormous/added tokens", words=CHECK, parts=("llama",), damage=damage, codes=DAMAGED
    )
