"""Places of vectors that cannot be used, and outputs that would replace what is not the command's own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from case import DAMAGED, FINE, REFUSED, USAGE, Case
from parts import EVALUATE, TRAIN


def cases() -> Iterator[Case]:
    """Yield the cases."""
    yield from _stores()
    yield from _outputs()
    yield from _reports()


_UNUSABLE = REFUSED | {7}
"""A place that cannot be used, or needs a package that is not installed."""


def _stores() -> Iterator[Case]:
    """Yield places for a store that cannot be reached or written."""
    places = {
        "an unknown scheme": ("nosuch://bucket/x", _UNUSABLE),
        "no bucket": ("s3://", _UNUSABLE),
        "a host that does not answer": ("http://127.0.0.1:9/x", _UNUSABLE),
        "a file": ("collection/corpus.jsonl", frozenset({1, 2, 3})),
        "below a file": ("collection/corpus.jsonl/x", frozenset({1, 2, 3})),
        "a long name": ("out/" + "x" * 300, frozenset({1, 2, 3})),
        "a FIFO": ("fifo", frozenset({1, 2, 3})),
        "memory": ("memory://x", FINE | _UNUSABLE),
        "github": ("github://a:b@/x", _UNUSABLE),
        "a command": ("ssh://x/y", _UNUSABLE),
        "chained": ("simplecache::nosuch://x", _UNUSABLE),
        "a device": ("/dev/null", frozenset({1, 2, 3})),
        "proc": ("/proc/self/x", frozenset({1, 2, 3})),
        "surrogate": ("out/\udcff", FINE | _UNUSABLE),
    }
    for name, (place, codes) in places.items():
        for command in ("evaluate", "encode"):
            runs = ("--runs-dir", "out/runs") if command == "evaluate" else ()
            yield Case(
                id=f"caches/store at {name}/{command}",
                words=(command, "-m", "ckpt", "-d", "collection", *runs, "--store", place, "--offline", "-q"),
                parts=("collection", "templated"),
                damage=lambda room: os.mkfifo(room / "fifo"),
                codes=codes,
            )


def _outputs() -> Iterator[Case]:
    """Yield outputs that would replace an input or a file of the user."""
    tune = (*TRAIN[:5], "--output", "mine", *TRAIN[7:], "--on-existing", "always")

    def own_run(room: Path) -> None:
        """Put a file of the user, and the data, into the folder of a finished run."""
        shutil.move(room / "out/tuned", room / "mine")
        (room / "mine/notes.txt").write_text("mine")
        shutil.copy(room / "groups.jsonl", room / "mine/groups.jsonl")

    yield Case(
        id="caches/outputs/finetune over notes", words=tune, parts=("trained",), damage=own_run, codes=USAGE
    )
    inside = tuple("mine/groups.jsonl" if word == "groups.jsonl" else word for word in tune)
    yield Case(
        id="caches/outputs/finetune over its data",
        words=inside,
        parts=("trained",),
        damage=own_run,
        codes=USAGE,
    )
    mine = (
        "mine",
        "-m",
        "ckpt",
        "--data",
        "groups.jsonl",
        "--offline",
        "-q",
        "--overwrite",
        "--negatives",
        "1",
    )
    for name, more in {
        "its corpus": ("--corpus", "collection/corpus.jsonl", "--output", "collection/corpus.jsonl"),
        "the corpus of its collection": ("--corpus", "collection", "--output", "collection/corpus.jsonl"),
        "the queries of its collection": ("--corpus", "collection", "--output", "collection/queries.jsonl"),
        "excluded queries": (
            "--corpus",
            "self",
            "--exclude",
            "collection",
            "--output",
            "collection/queries.jsonl",
        ),
        "its data": ("--corpus", "self", "--output", "groups.jsonl"),
        "a record of the user": ("--corpus", "self", "--output", "notes.jsonl"),
    }.items():
        yield Case(
            id=f"caches/outputs/mine over {name}",
            words=(*mine, *more),
            parts=("collection", "templated"),
            damage=lambda room: (room / "notes.json").write_text('{"notes": "mine"}'),
            codes=USAGE,
        )


def _reports() -> Iterator[Case]:
    """Yield reports and exports that would replace a file of another kind."""
    board = ("leaderboard", "--runs-dir", "runs", "--output")
    targets = {
        "a result": "runs/first/collection/result.json",
        "a run": "runs/first/collection/run.trec.gz",
        "notes": "notes.md",
        "a checkpoint": "ckpt/config.json",
    }
    for name, target in targets.items():
        yield Case(
            id=f"caches/outputs/leaderboard over {name}",
            words=(*board, target),
            parts=("evaluated",),
            damage=lambda room: (room / "notes.md").write_text("# Notes\nmine\n"),
            codes=USAGE,
        )
    export = ("export", "-m", "ckpt", "-q", "--overwrite", "--output")
    yield Case(
        id="caches/outputs/export over a checkpoint",
        words=(*export, "other"),
        parts=("templated",),
        damage=lambda room: [
            shutil.copytree(room / "ckpt", room / "other"),
            (room / "other/modules.json").write_text("[]"),
        ],
        codes=USAGE,
    )
    overlap = ("overlap", "--train", "groups.jsonl", "-d", "collection", "--offline", "-q", "--output")
    for name, target in {
        "a result": "runs/first/collection/result.json",
        "a config": "ckpt/config.json",
    }.items():
        yield Case(
            id=f"caches/outputs/overlap over {name}",
            words=(*overlap, target),
            parts=("evaluated",),
            codes=USAGE,
        )
    yield Case(
        id="caches/outputs/evaluate into the data set",
        words=(*EVALUATE[:5], "--runs-dir", "collection", "--offline", "-q"),
        parts=("collection", "templated"),
        codes=FINE | USAGE | DAMAGED,
        writes=("out", "home", "user", "tmp", "collection"),
    )
