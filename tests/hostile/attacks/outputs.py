"""Places of vectors that cannot be used, and outputs that would replace what is not the command's own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from case import DAMAGED, FINE, REFUSED, UNWRITABLE, USAGE, Case, Damage, intact, replaced, shell
from damage import write
from parts import EVALUATE, MINE, OVERLAP, TRAIN


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
        "a file": ("collection/corpus.jsonl", REFUSED | UNWRITABLE),
        "below a file": ("collection/corpus.jsonl/x", REFUSED | UNWRITABLE),
        "a long name": ("out/" + "x" * 300, REFUSED | UNWRITABLE),
        "a FIFO": ("fifo", REFUSED | UNWRITABLE),
        "memory": ("memory://x", FINE | _UNUSABLE),
        "github": ("github://a:b@/x", _UNUSABLE),
        "a command": ("ssh://x/y", _UNUSABLE),
        "chained": ("simplecache::nosuch://x", _UNUSABLE),
        "a device": ("/dev/null", REFUSED | UNWRITABLE),
        "proc": ("/proc/self/x", REFUSED | UNWRITABLE),
        "surrogate": ("out/\udcff", FINE | _UNUSABLE),
    }
    commands = {
        "evaluate": (*EVALUATE, "-q", "--runs-dir", "out/runs"),
        "encode": shell("encode -m ckpt -d collection --offline -q"),
    }
    for name, (place, codes) in places.items():
        for command, words in commands.items():
            yield Case(
                id=f"caches/store at {name}/{command}",
                words=(*words, "--store", place),
                parts=("collection", "templated"),
                damage=lambda room: os.mkfifo(room / "fifo"),
                codes=codes,
            )


def _refused(name: str, words: tuple[str, ...], parts: tuple[str, ...], damage: Damage = intact) -> Case:
    """Return a case in which a command would replace what is not its own."""
    return Case(id=f"caches/outputs/{name}", words=words, parts=parts, damage=damage, codes=USAGE)


def _outputs() -> Iterator[Case]:
    """Yield outputs that would replace an input or a file of the user."""
    tune = (*TRAIN, "--output", "mine", "--on-existing", "always")

    def own_run(room: Path) -> None:
        """Put a file of the user, and the data, into the folder of a finished run."""
        shutil.move(room / "out/tuned", room / "mine")
        (room / "mine/notes.txt").write_text("mine")
        shutil.copy(room / "groups.jsonl", room / "mine/groups.jsonl")

    inside = replaced(tune, "groups.jsonl", "mine/groups.jsonl")
    yield _refused("finetune over notes", tune, ("trained",), own_run)
    yield _refused("finetune over its data", inside, ("trained",), own_run)
    for name, more in {
        "its corpus": "--corpus collection/corpus.jsonl --output collection/corpus.jsonl",
        "the corpus of its collection": "--corpus collection --output collection/corpus.jsonl",
        "the queries of its collection": "--corpus collection --output collection/queries.jsonl",
        "excluded queries": "--corpus self --exclude collection --output collection/queries.jsonl",
        "its data": "--corpus self --output groups.jsonl",
        "a record of the user": "--corpus self --output notes.jsonl",
    }.items():
        words = (*MINE, "--overwrite", *shell(more))
        notes = write("notes.json", '{"notes": "mine"}')
        yield _refused(f"mine over {name}", words, ("collection", "templated"), notes)


def _reports() -> Iterator[Case]:
    """Yield reports and exports that would replace a file of another kind."""
    targets = {
        "a result": "runs/first/collection/result.json",
        "a run": "runs/first/collection/run.trec.gz",
        "notes": "notes.md",
        "a checkpoint": "ckpt/config.json",
    }
    board = shell("leaderboard --runs-dir runs --output")
    for name, target in targets.items():
        notes = write("notes.md", "# Notes\nmine\n")
        yield _refused(f"leaderboard over {name}", (*board, target), ("evaluated",), notes)
    for name, target in {"a result": targets["a result"], "a config": "ckpt/config.json"}.items():
        yield _refused(f"overlap over {name}", (*OVERLAP, "-q", "--output", target), ("evaluated",))

    def other_checkpoint(room: Path) -> None:
        shutil.copytree(room / "ckpt", room / "other")
        (room / "other/modules.json").write_text("[]")

    export = shell("export -m ckpt -q --overwrite --output other")
    yield _refused("export over a checkpoint", export, ("templated",), other_checkpoint)
    yield Case(
        id="caches/outputs/evaluate into the data set",
        words=(*EVALUATE, "-q", "--runs-dir", "collection"),
        parts=("collection", "templated"),
        codes=FINE | USAGE | DAMAGED,
        writes=("collection",),
    )
