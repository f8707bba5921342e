"""The environment: signals, limits, locales, streams, places that cannot be read or written."""

import os
import signal
from collections.abc import Iterator, Mapping

from case import DAMAGED, FINE, REFUSED, UNWRITABLE, USAGE, Case, Damage
from parts import EVALUATE, TRAIN

from attacks.checkpoints import CHECK
from attacks.collection import VERIFY
from attacks.results import BOARD, COMPARE
from attacks.runs import score

MEASURE = (*EVALUATE[:5], "--runs-dir", "out/runs", "--offline", "--name", "é🌘")

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
    "plan": (
        ("plan", "-m", "ckpt", "-d", "collection", "--no-probe", "--offline"),
        ("collection", "templated"),
    ),
}

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
            ranked = name == "rank of text"
            yield Case(
                id=f"environment/{name}/{command}",
                words=words,
                parts=parts,
                environment=environment,
                codes=FINE | (USAGE if ranked or "HOME" in name else frozenset()),
            )
        for name, streams in _STREAMS.items():
            lost = set(streams.values()) & {"/dev/full", "pipe"}
            codes = FINE | UNWRITABLE if lost else FINE
            yield Case(
                id=f"environment/{name}/{command}", words=words, parts=parts, streams=streams, codes=codes
            )
    yield from _signals()
    yield from _limits()
    yield from _outputs()
    yield from _homes()
    yield from _usage()


def _signals() -> Iterator[Case]:
    slow = {
        "evaluate": (MEASURE, ("collection", "templated"), FINE),
        "check": (CHECK, ("templated",), FINE),
        "finetune": (
            tuple(
                "60" if word == "4" and TRAIN[i - 1] == "--steps" else word for i, word in enumerate(TRAIN)
            ),
            ("training",),
            FINE,
        ),
        "leaderboard": (BOARD, ("evaluated",), FINE),
        "verify": (VERIFY, ("collection",), FINE),
    }
    for command, (words, parts, ends) in slow.items():
        for number, name, code in ((signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143)):
            for seconds in (0.0, 0.05, 0.15, 0.4):
                yield Case(
                    id=f"environment/{name} after {seconds} s/{command}",
                    words=words,
                    parts=parts,
                    signal=(number, seconds),
                    codes=ends | {code},
                )


def _limits() -> Iterator[Case]:
    for command in ("evaluate", "leaderboard", "check", "score"):
        words, parts = COMMANDS[command]
        for size in (0, 100, 1000, 20_000):
            codes = FINE | UNWRITABLE
            yield Case(
                id=f"environment/files of {size} bytes/{command}",
                words=words,
                parts=parts,
                limits={"RLIMIT_FSIZE": size},
                streams={"stdout": "/dev/null", "stderr": "/dev/null"},
                codes=codes,
            )
        for files in (16, 24, 40):
            yield Case(
                id=f"environment/{files} open files/{command}",
                words=words,
                parts=parts,
                limits={"RLIMIT_NOFILE": files},
                codes=FINE | UNWRITABLE | DAMAGED,
            )
    for size in (0, 1000, 30_000):
        yield Case(
            id=f"environment/files of {size} bytes/finetune",
            words=TRAIN,
            parts=("training",),
            limits={"RLIMIT_FSIZE": size},
            streams={"stdout": "/dev/null", "stderr": "/dev/null"},
            codes=UNWRITABLE,
        )


_PLACES: Mapping[str, tuple[str, Damage]] = {
    "a file": ("file/x", lambda room: (room / "file").write_text("mine")),
    "proc": ("/proc/llara", lambda room: None),
    "a device": ("/dev/null/x", lambda room: None),
    "a long name": ("out/" + "x" * 300, lambda room: None),
    "a long path": ("out/" + "x/" * 2500, lambda room: None),
    "a dangling link": ("link/x", lambda room: (room / "link").symlink_to("out/nowhere/at/all")),
    "a link to itself": ("link/x", lambda room: (room / "link").symlink_to("link")),
    "full": ("/dev/full", lambda room: None),
    "a FIFO": ("fifo", lambda room: os.mkfifo(room / "fifo")),
}


def _outputs() -> Iterator[Case]:
    mine = (
        "mine",
        "-m",
        "ckpt",
        "--data",
        "groups.jsonl",
        "--corpus",
        "self",
        "--offline",
        "-q",
        "--negatives",
        "1",
        "--output",
    )
    commands = {
        "evaluate --runs-dir": (
            (*MEASURE[:5], "--offline", "-q", "--runs-dir"),
            ("collection", "templated"),
            "",
        ),
        "leaderboard --output": (BOARD[:-1], ("evaluated",), ".md"),
        "score --per-query": ((*score(), "--per-query"), ("files",), ".tsv"),
        "export --output": (("export", "-m", "ckpt", "-q", "--output"), ("templated",), ""),
        "finetune --output": ((*TRAIN[:5], *TRAIN[7:], "--output"), ("training",), ""),
        "mine --output": (mine, ("collection", "templated"), ".jsonl"),
        "overlap --output": (
            ("overlap", "--train", "groups.jsonl", "-d", "collection", "--offline", "-q", "--output"),
            ("collection",),
            ".json",
        ),
    }
    for command, (words, parts, ending) in commands.items():
        for name, (place, damage) in _PLACES.items():
            direct = name in ("full", "a FIFO", "a long name")
            target = (
                place
                if direct and not ending
                else f"{place}{'' if direct and name != 'a long name' else '/'}"
            )
            target = f"{place.rstrip('/')}{ending}" if ending else place
            if direct and name != "a long name":
                target = place
            yield Case(
                id=f"environment/{command}/{name}",
                words=(*words, target),
                parts=parts,
                damage=damage,
                codes=UNWRITABLE | USAGE,
            )


def _homes() -> Iterator[Case]:
    """Yield cache folders and data folders that cannot be used."""
    for name, (place, damage) in _PLACES.items():
        for variable in ("LLARA_EVAL_HOME", "LLARA_EVAL_DATA", "LLARA_EVAL_STORE"):
            usable = variable == "LLARA_EVAL_DATA"
            yield Case(
                id=f"environment/{variable}/{name}",
                words=MEASURE,
                parts=("collection", "templated"),
                damage=damage,
                environment={variable: place if place.startswith("/") else "{room}/" + place},
                codes=UNWRITABLE | REFUSED | (FINE if usable else frozenset()),
            )
    yield Case(
        id="environment/a home that cannot be found/evaluate",
        words=MEASURE,
        parts=("collection", "templated"),
        environment={"LLARA_EVAL_HOME": "~nobody-at-all/x"},
        codes=UNWRITABLE | REFUSED | FINE,
        writes=("out", "home", "user", "tmp", "~nobody-at-all"),
    )


_USAGE: Mapping[str, tuple[str, ...]] = {
    "no command": ("nonsense",),
    "surrogate": ("\udcff",),
    "a surrogate model": ("check", "-m", "\udcff", "--offline"),
    "a surrogate option": ("check", "-m", "ckpt", "-o", "\udcff=1", "--offline"),
    "ESC in a model": ("check", "-m", "\x1b[31m", "--offline"),
    "a model of NULs": ("check", "-m", "a%00b", "--offline"),
    "a long model": ("check", "-m", "x" * 100_000, "--offline"),
    "a long hub name": ("check", "-m", "a/" + "x" * 300, "--offline"),
    "a model that climbs": ("check", "-m", "../../../../etc", "--offline"),
    "a model of a URL": ("check", "-m", "https://example.com/a/b", "--offline"),
    "a model of a file": ("check", "-m", "/etc/passwd", "--offline"),
    "a model of a device": ("check", "-m", "/dev/zero", "--offline"),
    "a model of nothing": ("check", "-m", "", "--offline"),
    "a depth of digits": (
        "evaluate",
        "-m",
        "ckpt",
        "-d",
        "collection",
        "--depth",
        "9" * 5000,
        "--offline",
    ),
    "a length of 2^70": ("check", "-m", "ckpt", "--max-length", str(2**70), "--offline"),
    "an option of NaN": ("check", "-m", "ckpt", "-o", "max_length=nan", "--offline"),
    "a dtype": ("check", "-m", "ckpt", "--dtype", "__class__", "--offline"),
    "a backend": ("check", "-m", "ckpt", "--backend", "os", "--offline"),
    "a pooling": ("check", "-m", "ckpt", "-o", "pooling=__init__", "--offline"),
    "a format": ("export", "-m", "ckpt", "--output", "out/x", "--format", "pickle"),
    "a revision": ("check", "-m", "ckpt", "--revision", "x", "--offline"),
    "a hub name with code": ("check", "-m", "nobody/nothing", "--trust-remote-code", "--offline"),
    "a prompt of format": ("check", "-m", "ckpt", "--query-prompt", "{0.__class__}", "--offline"),
    "learning rate of NaN": (*TRAIN, "--learning-rate", "nan"),
    "learning rate of infinity": (*TRAIN, "--learning-rate", "inf"),
    "minutes of NaN": (*TRAIN, "--save-minutes", "nan"),
    "a seed of 2^70": (*TRAIN, "-o", f"seed={2**70}"),
    "a split": (
        "evaluate",
        "-m",
        "ckpt",
        "-d",
        "collection",
        "--split",
        "../../x",
        "--offline",
        "--runs-dir",
        "out",
    ),
    "a name of dots": (
        "evaluate",
        "-m",
        "ckpt",
        "-d",
        "collection",
        "--name",
        "../../x",
        "--offline",
        "--runs-dir",
        "out",
    ),
    "a name of NUL bytes": (
        "evaluate",
        "-m",
        "ckpt",
        "-d",
        "collection",
        "--name",
        "a\x1f\x1eb",
        "--offline",
        "--runs-dir",
        "out",
    ),
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
