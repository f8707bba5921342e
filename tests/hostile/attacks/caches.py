"""Caches, vector stores, leases and training states: what is damaged is made again or named, never used."""

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from case import DOUBTFUL, UNWRITABLE, Case, Damage, Outcome, intact, shell
from damage import BYTES, STAND_INS, VALUES, Change, cut, dump, flip, together, value
from parts import STORE

from attacks.weights import sharded

AGAIN = (*STORE, "--on-existing", "always", "--name", "first")
"""Measures again, with the caches of the first time."""


def same_result(room: Path, outcome: Outcome) -> Iterator[str]:
    """Check that the values of each query are those that were stored before the damage."""
    if outcome.code == 0:
        now = (room / "runs/first/collection/per_query.tsv").read_bytes()
        if now != (room / "before.tsv").read_bytes():
            yield "the values of queries are others than before, and nothing was said"


def _keep_result(room: Path) -> None:
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
    "engines": "**/engine.json",
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


def _damaged(name: str, pattern: str) -> Iterator[Case]:
    changes = {
        **{f"bit {seed}": (seed, _bytes(flip(seed))) for seed in range(4)},
        **{f"cut {seed}": (seed, _bytes(cut(share))) for seed, share in enumerate((0.4, 0.8))},
        "NULs 0": (0, _bytes(BYTES["NULs"])),
        **{f"{how} 0": (0, stand_in) for how, stand_in in STAND_INS.items()},
    }
    damages = {how: _one_of(pattern, seed, change) for how, (seed, change) in changes.items()}
    damages["swapped 0"] = _swapped(pattern)
    if "records" in name or name in ("keys", "engines"):
        damages |= {f"a value that is {key}": _set(pattern, new) for key, new in VALUES.items()}
    for how, damage in damages.items():
        yield Case(
            id=f"caches/{name}/{how}",
            words=AGAIN,
            parts=("evaluated",),
            damage=together(_keep_result, damage),
            codes=DOUBTFUL | UNWRITABLE if how.removesuffix(" 0") in STAND_INS else DOUBTFUL,
            check=same_result,
            writes=("runs",),
        )


def _one_of(pattern: str, seed: int, change: Callable[[Path], object]) -> Damage:
    """Return a damage of one of the files that match a pattern, drawn by a seed."""
    return lambda room: change(random.Random(seed).choice(_files(room, pattern)))


def _swapped(pattern: str) -> Damage:
    """Return a damage that puts the last file that matches a pattern in the place of the first."""

    def damage(room: Path) -> None:
        files = _files(room, pattern)
        files[0].write_bytes(files[-1].read_bytes())

    return damage


def _bytes(change: Change) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def _set(pattern: str, new: Any) -> Damage:
    """Return a damage that sets the first value of each file that matches a pattern."""

    def damage(room: Path) -> None:
        for path in _files(room, pattern):
            whole = json.loads(path.read_text())
            path.write_bytes(dump({**whole, min(whole): new}))

    return damage


def _of_host(pid: Any) -> dict[str, Any]:
    return {"host": os.uname().nodename, "pid": pid, "id": "x", "renewed": 0}


_LEASES: Mapping[str, Any] = {
    "of another host": {"host": "elsewhere", "pid": 1, "id": "x", "renewed": 0},
    "of this process": _of_host(os.getpid()),
    "of no process": _of_host(2**22 - 1),
    "of a negative process": _of_host(-1),
    "of process 0": _of_host(0),
    "of a large process": _of_host(10**30),
    "with a path": {"host": "elsewhere", "pid": 1, "id": "../../../escaped", "renewed": 0},
    "with a long id": {"host": "elsewhere", "pid": 1, "id": "x" * 300, "renewed": 0},
    "of nulls": {"host": None, "pid": None, "id": None},
    "of a list": [],
    "empty": None,
    "of text": "x",
}
"""Name → what stands in a lease; None: nothing."""


def _leases() -> Iterator[Case]:
    for name, lease in _LEASES.items():
        for age, seconds in {"old": -10_000.0, "of now": 0.0, "of the future": 10_000_000.0}.items():
            if age == "of now" and "process" not in name:
                continue  # it would be waited for
            yield Case(
                id=f"caches/leases/{name}, {age}",
                words=shell("encode -m ckpt -d collection --offline -q --lease-seconds 5"),
                parts=("evaluated",),
                damage=_leased(lease, seconds),
            )


def _leased(lease: Any, seconds: float) -> Damage:
    """Return a damage that puts a lease in the place of each shard of vectors, changed at a time from now."""

    def damage(room: Path) -> None:
        for shard in _files(room, "**/vectors/**/*.npy"):
            path = shard.parent / "leases" / f"{shard.stem}.lease"
            path.parent.mkdir(exist_ok=True)
            shard.unlink()
            path.write_bytes(b"" if lease is None else json.dumps(lease).encode())
            os.utime(path, (time.time() + seconds,) * 2)

    return damage


def _reseeded(file: str) -> Damage:
    """Return a damage that gives a file of weights other values."""

    def damage(room: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        torch.manual_seed(5)
        tensors = {name: torch.randn_like(tensor) for name, tensor in load_file(room / file).items()}
        save_file(tensors, room / file, {"format": "pt"})

    return damage


def _linked(room: Path) -> None:
    (room / "ckpt/model.safetensors").rename(room / "blob")
    (room / "ckpt/model.safetensors").symlink_to("../blob")


def _two_shards(room: Path) -> None:
    sharded("weights/a.safetensors")(room)
    shutil.copy(room / "ckpt/weights/a.safetensors", room / "ckpt/weights/b.safetensors")
    _reseeded("ckpt/weights/b.safetensors")(room)


def _other_shard(room: Path) -> None:
    """Let the index name another shard, which lay there all the time."""
    index = room / "ckpt/model.safetensors.index.json"
    index.write_text(index.read_text().replace("/a.safetensors", "/b.safetensors"))


def _other_pooling(room: Path) -> None:
    path = room / "ckpt/1_Pooling/config.json"
    path.write_text(path.read_text().replace("true", "XX").replace("false", "true", 1).replace("XX", "false"))


def _other_tokens(room: Path) -> None:
    path = room / "ckpt/tokenizer.json"
    whole = json.loads(path.read_text())
    vocabulary = whole["model"]["vocab"]
    vocabulary["a"], vocabulary["e"] = vocabulary["e"], vocabulary["a"]
    path.write_text(json.dumps(whole))


_SHARD = "model-00001-of-00001.safetensors"

_STALE: Mapping[str, tuple[str, Damage, Damage]] = {
    "weights": ("templated", intact, _reseeded("ckpt/model.safetensors")),
    "a shard": ("templated", sharded(_SHARD), _reseeded(f"ckpt/{_SHARD}")),
    "a shard in a subfolder": (
        *("templated", sharded("weights/a.safetensors"), _reseeded("ckpt/weights/a.safetensors")),
    ),
    "the index alone": ("templated", _two_shards, _other_shard),
    "what a link leads to": ("templated", _linked, _reseeded("blob")),
    "the base of an adapter": ("lora", intact, _reseeded("base/model.safetensors")),
    "the adapter": ("lora", intact, _reseeded("ckpt/adapter_model.safetensors")),
    "the pooling": ("sentence", intact, _other_pooling),
    "the tokenizer": ("templated", intact, _other_tokens),
    "the base's config": ("lora", intact, value("base/config.json", "rms_norm_eps", 0.5)),
    "the config": ("templated", intact, value("ckpt/config.json", "rms_norm_eps", 0.5)),
    "the template": ("templated", intact, value("ckpt/template.json", "query.prompt", "find ")),
}
"""Name → a part, what is changed before the first evaluation, and what after it."""


def _stale() -> Iterator[Case]:
    """Yield checkpoints that change between two evaluations: no vector of the first may serve the second."""
    for name, (part, before, after) in _STALE.items():
        yield Case(
            id=f"caches/stale/{name}",
            words=AGAIN,
            parts=("collection", part),
            before=((shell("systems --json"), before), ((*STORE, "--name", "first"), intact)),
            damage=after,
            check=_as_without_caches,
            writes=("runs",),
        )


def _as_without_caches(room: Path, outcome: Outcome) -> Iterator[str]:
    """Check that the vectors are those of the checkpoint as it is now, computed here without any cache."""
    import numpy as np

    from adapters.dense import open_checkpoint
    from adapters.options import Context
    from llara_eval.datasets.load import load
    from llara_eval.evaluation import evaluate
    from llara_eval.evaluation.record import load_run

    fresh = open_checkpoint(str(room / "ckpt"), {}, {}, Context(room / "fresh"))
    dataset = load(str(room / "collection"), data_dir=room, offline=True)
    expected = evaluate.evaluate(fresh, dataset, runs_dir=room / "fresh-runs")
    stored, computed = (
        np.concatenate([scores for *_, scores in load_run(folder)])
        for folder in (room / "runs/first/collection", expected.folder)
    )
    if not np.allclose(stored, computed, atol=1e-3):
        yield "the scores are those of other weights: stale vectors were used"
