"""Caches, vector stores, leases and training states: what is damaged is made again or named, never used."""

import json
import os
import random
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from case import DOUBTFUL, FINE, UNWRITABLE, Case, Damage, Outcome
from damage import KINDS, VALUES, dump
from parts import EVALUATE

from attacks.weights import shards

AGAIN = (*EVALUATE, "--on-existing", "always", "--name", "first")
"""Measures again, with the caches of the first time."""


def same_result(room: Path, outcome: Outcome) -> Iterator[str]:
    """Check that the values of each query are those that were stored before the damage."""
    if outcome.code == 0:
        now = (room / "runs/first/collection/per_query.tsv").read_bytes()
        if now != (room / "before.tsv").read_bytes():
            yield "the values of queries are others than before, and nothing was said"


def _kept(room: Path) -> None:
    shutil.copy(room / "runs/first/collection/per_query.tsv", room / "before.tsv")


def _files(room: Path, pattern: str) -> list[Path]:
    files = sorted(path for path in (room / "home").glob(pattern) if path.is_file())
    assert files, f"no file in the cache matches {pattern}"
    return files


_CACHES = {
    "vectors": "**/vectors/**/*.npy",
    "records of vectors": "**/vectors/**/[0-9a-f]*.json",
    "ids of vectors": "**/vectors/**/*.ids",
    "keys": "**/key.json",
    "tokens": "**/tokens/**/*.npz",
    "records of tokens": "**/tokens/**/[0-9a-f]*.json",
}
"""What a cache holds → where it is below the cache folder."""


def cases() -> Iterator[Case]:
    """Yield the cases."""
    for name, pattern in _CACHES.items():
        yield from _damaged(name, pattern)
    yield from _leases()
    yield from _stale()


def _evaluated(identifier: str, damage: Damage, codes: frozenset[int] = DOUBTFUL, **more: Any) -> Case:
    def prepared(room: Path) -> None:
        _kept(room)
        damage(room)

    return Case(
        id=identifier,
        words=AGAIN,
        parts=("evaluated",),
        damage=prepared,
        codes=codes,
        check=same_result,
        writes=("out", "home", "user", "tmp", "runs"),
        **more,
    )


def _damaged(name: str, pattern: str) -> Iterator[Case]:
    def changed(seed: int, how: str) -> Damage:
        def damage(room: Path) -> None:
            drawn = random.Random(seed)
            path = drawn.choice(_files(room, pattern))
            old = path.read_bytes()
            if how == "bit":
                position = drawn.randrange(8 * len(old))
                new = bytearray(old)
                new[position // 8] ^= 1 << position % 8
                path.write_bytes(new)
            elif how == "cut":
                path.write_bytes(old[: int(len(old) * drawn.random())])
            elif how == "NULs":
                path.write_bytes(b"\0" * len(old))
            elif how == "swapped":
                other = drawn.choice(_files(room, pattern))
                path.write_bytes(other.read_bytes())
            else:
                KINDS[how](path)

        return damage

    for how in ("bit", "cut", "NULs", "swapped", *KINDS):
        for seed in range(4 if how == "bit" else 2 if how == "cut" else 1):
            codes = DOUBTFUL | UNWRITABLE if how in KINDS else DOUBTFUL
            yield _evaluated(f"caches/{name}/{how} {seed}", changed(seed, how), codes)
    if "records" in name or name == "keys":
        for key, new in VALUES.items():
            yield _evaluated(f"caches/{name}/a value that is {key}", _set(pattern, new))


def _set(pattern: str, new: Any) -> Damage:
    def damage(room: Path) -> None:
        for path in _files(room, pattern):
            whole = json.loads(path.read_text())
            key = sorted(whole)[0]
            path.write_bytes(dump({**whole, key: new}))

    return damage


_LEASES: Mapping[str, Any] = {
    "of another host": {"host": "elsewhere", "pid": 1, "id": "x", "renewed": 0},
    "of this process": {"host": os.uname().nodename, "pid": os.getpid(), "id": "x", "renewed": 0},
    "of no process": {"host": os.uname().nodename, "pid": 2**22 - 1, "id": "x", "renewed": 0},
    "of a negative process": {"host": os.uname().nodename, "pid": -1, "id": "x", "renewed": 0},
    "of process 0": {"host": os.uname().nodename, "pid": 0, "id": "x", "renewed": 0},
    "of a large process": {"host": os.uname().nodename, "pid": 10**30, "id": "x", "renewed": 0},
    "with a path": {"host": "elsewhere", "pid": 1, "id": "../../../escaped", "renewed": 0},
    "with a long id": {"host": "elsewhere", "pid": 1, "id": "x" * 300, "renewed": 0},
    "of nulls": {"host": None, "pid": None, "id": None},
    "of a list": [],
    "empty": None,
    "of text": "x",
}


def _leases() -> Iterator[Case]:
    encode = ("encode", "-m", "ckpt", "-d", "collection", "--offline", "-q", "--lease-seconds", "5")
    for name, lease in _LEASES.items():
        for age, seconds in {"old": -10_000.0, "of now": 0.0, "of the future": 10_000_000.0}.items():
            if age == "of now" and "process" not in name:
                continue

            def damage(room: Path, lease: Any = lease, seconds: float = seconds) -> None:
                for record in _files(room, "**/vectors/**/*.npy"):
                    path = record.parent / "leases" / f"{record.stem}.lease"
                    path.parent.mkdir(exist_ok=True)
                    record.unlink()
                    path.write_bytes(b"" if lease is None else json.dumps(lease).encode())
                    os.utime(path, (time.time() + seconds,) * 2)

            yield Case(
                id=f"caches/leases/{name}, {age}",
                words=encode,
                parts=("evaluated",),
                damage=damage,
                codes=FINE,
            )


def _reseeded(file: str) -> Damage:
    def damage(room: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        torch.manual_seed(5)
        tensors = {name: torch.randn_like(tensor) for name, tensor in load_file(room / file).items()}
        save_file(tensors, room / file, {"format": "pt"})

    return damage


def _sharded(name: str) -> Damage:
    return lambda room: shards(room / "ckpt", name=name)


def _linked(room: Path) -> None:
    (room / "blob").write_bytes((room / "ckpt/model.safetensors").read_bytes())
    (room / "ckpt/model.safetensors").unlink()
    (room / "ckpt/model.safetensors").symlink_to("../blob")


def _other_shard(room: Path) -> None:
    """Let the index name another shard, which lay there all the time."""
    index = room / "ckpt/model.safetensors.index.json"
    index.write_text(index.read_text().replace("/a.safetensors", "/b.safetensors"))


def _two_shards(room: Path) -> None:
    shards(room / "ckpt", name="weights/a.safetensors")
    shutil.copy(room / "ckpt/weights/a.safetensors", room / "ckpt/weights/b.safetensors")
    _reseeded("ckpt/weights/b.safetensors")(room)


def _other_pooling(room: Path) -> None:
    path = room / "ckpt/1_Pooling/config.json"
    path.write_text(path.read_text().replace("true", "XX").replace("false", "true", 1).replace("XX", "false"))


def _stale() -> Iterator[Case]:
    """Yield checkpoints that change between two evaluations: no vector of the first may serve the second."""

    changes: Mapping[str, tuple[str, Damage, Damage]] = {
        "weights": ("templated", lambda room: None, _reseeded("ckpt/model.safetensors")),
        "a shard": (
            "templated",
            _sharded("model-00001-of-00001.safetensors"),
            _reseeded("ckpt/model-00001-of-00001.safetensors"),
        ),
        "a shard in a subfolder": (
            "templated",
            _sharded("weights/a.safetensors"),
            _reseeded("ckpt/weights/a.safetensors"),
        ),
        "the index alone": ("templated", _two_shards, _other_shard),
        "what a link leads to": ("templated", _linked, _reseeded("blob")),
        "the base of an adapter": ("lora", lambda room: None, _reseeded("base/model.safetensors")),
        "the adapter": ("lora", lambda room: None, _reseeded("ckpt/adapter_model.safetensors")),
        "the pooling": ("sentence", lambda room: None, _other_pooling),
        "the tokenizer": ("templated", lambda room: None, _other_tokens),
        "the base's config": ("lora", lambda room: None, _changed("base/config.json", "rms_norm_eps", 0.5)),
        "the config": ("templated", lambda room: None, _changed("ckpt/config.json", "rms_norm_eps", 0.5)),
        "the template": (
            "templated",
            lambda room: None,
            _changed("ckpt/template.json", "query.prompt", "find "),
        ),
    }
    first = (*EVALUATE, "--name", "first")
    for name, (part, before, after) in changes.items():

        def prepared(room: Path, before: Damage = before) -> None:
            before(room)

        yield Case(
            id=f"caches/stale/{name}",
            words=(*AGAIN[:-4], "--name", "first", "--on-existing", "always"),
            parts=("collection", part),
            before=((("systems", "--json"), prepared), (first, lambda room: None)),
            damage=after,
            check=_as_without_caches,
            writes=("out", "home", "user", "tmp", "runs"),
        )


def _as_without_caches(room: Path, outcome: Outcome) -> Iterator[str]:
    """Check that the vectors are those of the checkpoint as it is now, computed here without any cache."""
    import numpy as np

    from adapters.dense import open_checkpoint
    from adapters.options import Context
    from llara_eval.datasets.load import load
    from llara_eval.evaluation import evaluate

    fresh = open_checkpoint(str(room / "ckpt"), {}, {}, Context(room / "fresh"))
    dataset = load(str(room / "collection"), data_dir=room, offline=True)
    expected = evaluate.evaluate(fresh, dataset, runs_dir=room / "fresh-runs")
    from llara_eval.evaluation.record import load_run

    now = load_run(room / "runs/first/collection")
    then = load_run(expected.folder)
    if not np.allclose(
        np.concatenate([s for _, _, s in now]), np.concatenate([s for _, _, s in then]), atol=1e-3
    ):
        yield "the scores are those of other weights: stale vectors were used"


def _changed(file: str, path: str, new: Any) -> Damage:
    from damage import value

    return value(file, path, new)


def _other_tokens(room: Path) -> None:
    path = room / "ckpt/tokenizer.json"
    whole = json.loads(path.read_text())
    vocabulary = whole["model"]["vocab"]
    vocabulary["a"], vocabulary["e"] = vocabulary["e"], vocabulary["a"]
    path.write_text(json.dumps(whole))
