"""The environment: signals, limits, locales, streams, places that cannot be read or written."""

import os
import signal
from collections.abc import Iterator, Mapping

from case import DAMAGED, FINE, REFUSED, UNWRITABLE, USAGE, Case, Damage, intact, shell
from damage import write
from parts import EVALUATE, MINE, OVERLAP, TRAIN

from attacks.checkpoints import CHECK
from attacks.collection import VERIFY
from attacks.results import BOARD, COMPARE
from attacks.runs import score

_INTO_OUT = (*EVALUATE, "--runs-dir", "out/runs")
MEASURE = (*_INTO_OUT, "--name", "é🌘")

COMMANDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "score": (score()[:-1], ("files",)),
    "score --json": (score(), ("files",)),
    "compare": (COMPARE[:-1], ("evaluated",)),
    "compare --json": (COMPARE, ("evaluated",)),
    "leaderboard": (BOARD, ("evaluated",)),
    "check": (CHECK[:-1], ("templated",)),
    "check --json": (CHECK, ("templated",)),
    "evaluate": (MEASURE, ("collection", "templated")),
    "verify": (VERIFY[:-1], ("collection",)),
    "systems": (("systems",), ()),
    "help": (("--help",), ()),
    "plan": (shell("plan -m ckpt -d collection --no-probe --offline"), ("collection", "templated")),
}
"""Name → a command, and the parts that it needs."""

_ENVIRONMENTS: Mapping[str, Mapping[str, str | None]] = {
    "ASCII": {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"},
    "no columns": {"COLUMNS": "0"},
    "columns of text": {"COLUMNS": "x"},
    "a million columns": {"COLUMNS": "1000000"},
    "no TERM": {"TERM": None},
    "colours by force": {"NO_COLOR": "1", "FORCE_COLOR": None},
    "no HOME": {"HOME": None, "XDG_CACHE_HOME": None},
    "an empty HOME": {"HOME": "", "XDG_CACHE_HOME": ""},
    "no TMPDIR": {"TMPDIR": "/nonexistent"},
    "rank of text": {"RANK": "x", "WORLD_SIZE": "y"},
}

_STREAMS: Mapping[str, Mapping[str, str]] = {
    "stdout closed": {"stdout": "closed"},
    "stderr closed": {"stderr": "closed"},
    "both closed": {"stdout": "closed", "stderr": "closed"},
    "stdout full": {"stdout": "/dev/full"},
    "stderr full": {"stderr": "/dev/full"},
    "stdout broken": {"stdout": "pipe"},
    "stderr broken": {"stderr": "pipe"},
}


def cases() -> Iterator[Case]:
    """Yield the cases."""
    for command, (words, parts) in COMMANDS.items():
        for name, environment in _ENVIRONMENTS.items():
            yield Case(
                id=f"environment/{name}/{command}",
                words=words,
                parts=parts,
                environment=environment,
                codes=FINE | USAGE if name == "rank of text" or "HOME" in name else FINE,
            )
        for name, streams in _STREAMS.items():
            yield Case(
                id=f"environment/{name}/{command}",
                words=words,
                parts=parts,
                streams=streams,
                codes=FINE if "closed" in name else FINE | UNWRITABLE,
            )
    yield from _signals()
    yield from _limits()
    yield from _outputs()
    yield from _homes()
    yield from _usage()


def _signals() -> Iterator[Case]:
    slow = {name: COMMANDS[name] for name in ("evaluate", "leaderboard")}
    slow |= {"check": COMMANDS["check --json"], "verify": (VERIFY, ("collection",))}
    slow["finetune"] = ((*TRAIN, "--steps", "60"), ("training",))
    for command, (words, parts) in slow.items():
        for number, name, code in ((signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143)):
            for seconds in (0.0, 0.05, 0.15, 0.4):
                yield Case(
                    id=f"environment/{name} after {seconds} s/{command}",
                    words=words,
                    parts=parts,
                    signal=(number, seconds),
                    codes=FINE | {code},
                )


def _limits() -> Iterator[Case]:
    def files_of(size: int, command: str, words: tuple[str, ...], parts: tuple[str, ...]) -> Case:
        return Case(
            id=f"environment/files of {size} bytes/{command}",
            words=words,
            parts=parts,
            limits={"RLIMIT_FSIZE": size},
            streams={"stdout": "/dev/null", "stderr": "/dev/null"},
            codes=UNWRITABLE if command == "finetune" else FINE | UNWRITABLE,
        )

    for command in ("evaluate", "leaderboard", "check", "score"):
        words, parts = COMMANDS[command]
        for size in (0, 100, 1000, 20_000):
            yield files_of(size, command, words, parts)
        for files in (16, 24, 40):
            yield Case(
                id=f"environment/{files} open files/{command}",
                words=words,
                parts=parts,
                limits={"RLIMIT_NOFILE": files},
                codes=FINE | UNWRITABLE | DAMAGED,
            )
    for size in (0, 1000, 30_000):
        yield files_of(size, "finetune", TRAIN, ("training",))


_PLACES: Mapping[str, tuple[str, Damage]] = {
    "a file": ("file/x", write("file", "mine")),
    "proc": ("/proc/llara", intact),
    "a device": ("/dev/null/x", intact),
    "a long name": ("out/" + "x" * 300, intact),
    "a long path": ("out" + "/x" * 2500, intact),
    "a dangling link": ("link/x", lambda room: (room / "link").symlink_to("out/nowhere/at/all")),
    "a link to itself": ("link/x", lambda room: (room / "link").symlink_to("link")),
    "full": ("/dev/full", intact),
    "a FIFO": ("fifo", lambda room: os.mkfifo(room / "fifo")),
}
"""Name → a path that cannot be written, and what is changed in the room."""


def _outputs() -> Iterator[Case]:
    commands = {
        "evaluate --runs-dir": ((*EVALUATE, "-q", "--runs-dir"), ("collection", "templated"), ""),
        "leaderboard --output": (BOARD[:-1], ("evaluated",), ".md"),
        "score --per-query": ((*score(), "--per-query"), ("files",), ".tsv"),
        "export --output": (shell("export -m ckpt -q --output"), ("templated",), ""),
        "finetune --output": ((*TRAIN, "--output"), ("training",), ""),
        "mine --output": ((*MINE, "--corpus", "self", "--output"), ("collection", "templated"), ".jsonl"),
        "overlap --output": ((*OVERLAP, "-q", "--output"), ("collection",), ".json"),
    }
    for command, (words, parts, ending) in commands.items():
        for name, (place, damage) in _PLACES.items():
            target = place if name in ("full", "a FIFO") else place + ending
            # What is there already is looked at first, and the folder that a link leads to is made.
            codes = UNWRITABLE | REFUSED | (FINE if name == "a dangling link" else frozenset())
            yield Case(
                id=f"environment/{command}/{name}",
                words=(*words, target),
                parts=parts,
                damage=damage,
                codes=codes,
            )


def _homes() -> Iterator[Case]:
    """Yield cache folders and data folders that cannot be used."""
    for name, (place, damage) in _PLACES.items():
        for variable in ("LLARA_EVAL_HOME", "LLARA_EVAL_DATA", "LLARA_EVAL_STORE"):
            is_made = variable == "LLARA_EVAL_DATA" or name == "a dangling link"
            yield Case(
                id=f"environment/{variable}/{name}",
                words=MEASURE,
                parts=("collection", "templated"),
                damage=damage,
                environment={variable: place if place.startswith("/") else "{room}/" + place},
                codes=UNWRITABLE | REFUSED | (FINE if is_made else frozenset()),
            )
    yield Case(
        id="environment/a home that cannot be found/evaluate",
        words=MEASURE,
        parts=("collection", "templated"),
        environment={"LLARA_EVAL_HOME": "~nobody-at-all/x"},
        codes=UNWRITABLE | REFUSED | FINE,
        writes=("~nobody-at-all",),
    )


_CHECK = shell("check --offline -m")

_USAGE: Mapping[str, tuple[str, ...]] = {
    "no command": ("nonsense",),
    "surrogate": ("\udcff",),
    "a surrogate model": (*_CHECK, "\udcff"),
    "a surrogate option": (*_CHECK, "ckpt", "-o", "\udcff=1"),
    "ESC in a model": (*_CHECK, "\x1b[31m"),
    "a model of NULs": (*_CHECK, "a%00b"),
    "a long model": (*_CHECK, "x" * 100_000),
    "a long hub name": (*_CHECK, "a/" + "x" * 300),
    "a model that climbs": (*_CHECK, "../../../../etc"),
    "a model of a URL": (*_CHECK, "https://example.com/a/b"),
    "a model of a file": (*_CHECK, "/etc/passwd"),
    "a model of a device": (*_CHECK, "/dev/zero"),
    "a model of nothing": (*_CHECK, ""),
    "a depth of digits": (*EVALUATE, "--depth", "9" * 5000),
    "a length of 2^70": (*_CHECK, "ckpt", "--max-length", str(2**70)),
    "an option of NaN": (*_CHECK, "ckpt", "-o", "max_length=nan"),
    "a dtype": (*_CHECK, "ckpt", "--dtype", "__class__"),
    "a backend": (*_CHECK, "ckpt", "--backend", "os"),
    "a pooling": (*_CHECK, "ckpt", "-o", "pooling=__init__"),
    "a format": shell("export -m ckpt --output out/x --format pickle"),
    "a revision": (*_CHECK, "ckpt", "--revision", "x"),
    "a hub name with code": (*_CHECK, "nobody/nothing", "--trust-remote-code"),
    "a prompt of format": (*_CHECK, "ckpt", "--query-prompt", "{0.__class__}"),
    "learning rate of NaN": (*TRAIN, "--learning-rate", "nan"),
    "learning rate of infinity": (*TRAIN, "--learning-rate", "inf"),
    "minutes of NaN": (*TRAIN, "--save-minutes", "nan"),
    "a seed of 2^70": (*TRAIN, "-o", f"seed={2**70}"),
    "a split": (*_INTO_OUT, "--split", "../../x"),
    "a name of dots": (*_INTO_OUT, "--name", "../../x"),
    "a name of NUL bytes": (*_INTO_OUT, "--name", "a\x1f\x1eb"),
}
"""Words that no command can take, or that are unusual."""


def _usage() -> Iterator[Case]:
    """Yield words that no command can take."""
    fine = {"a prompt of format", "a name of dots", "a name of NUL bytes"}
    for name, command in _USAGE.items():
        yield Case(
            id=f"environment/usage/{name}",
            words=command,
            parts=("collection", "templated"),
            codes=FINE | USAGE if name in fine else USAGE | DAMAGED,
        )
