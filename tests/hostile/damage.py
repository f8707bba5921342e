"""Tables of damage: to any file, to a file of lines, to a gzipped file, and to the values of a JSON file."""

import gzip
import json
import os
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from case import DAMAGED, FINE, Damage

Change = Callable[[bytes], bytes]
"""What becomes of the bytes of a file."""


class Raw(str):
    """A value that stands in JSON as it is."""


VALUES: Mapping[str, Any] = {
    "null": None,
    "true": True,
    "minus": -1,
    "zero": 0,
    "big": 10**30,
    "float": 0.5,
    "large": 1e308,
    "text": "x",
    "empty": "",
    "list": [],
    "object": {},
    "objects": [{}],
    "nulls": [None],
    "deep": Raw("[" * 3000 + "]" * 3000),
    "surrogate": "\ud800",
    "nan": Raw("NaN"),
    "infinity": Raw("1e999"),
    "digits": Raw("9" * 5000),
    "climb": "../../../../etc/passwd",
    "absolute": "/etc/passwd",
    "escape": "\x1b[31m\x07\u202e\u0085",
}
"""Name → a value that may take the place of another one in JSON."""


def usual_and_two_more(usual: Sequence[str], number: int) -> tuple[str, ...]:
    """Return names of :data:`VALUES`: the usual ones, and two of the others, which a number chooses."""
    others = [name for name in VALUES if name not in usual]
    return (*usual, *(others[(number + shift) % len(others)] for shift in (0, 5)))


def cut(share: float) -> Change:
    """Return a change that keeps a share of the bytes."""
    return lambda old: old[: int(share * len(old))]


def flip(seed: int | str, bits: int = 1) -> Change:
    """Return a change that flips bits, drawn by a seed."""

    def change(old: bytes) -> bytes:
        new = bytearray(old)
        drawn = random.Random(seed)
        for _ in range(bits):
            position = drawn.randrange(8 * len(new))
            new[position // 8] ^= 1 << position % 8
        return bytes(new)

    return change


def third(change: Change) -> Change:
    """Return a change of the third line alone."""

    def whole(old: bytes) -> bytes:
        lines = old.split(b"\n")
        lines[2] = change(lines[2])
        return b"\n".join(lines)

    return whole


BYTES: Mapping[str, Change] = {
    "cut": cut(0.5),
    "NULs": lambda old: b"\0" * len(old),
    "garbage": lambda old: old[::-1],
}
"""Name → what becomes of the bytes of a file of any format."""

JSON_FILES: Mapping[str, Change] = {
    "no bytes": lambda old: b"",
    "blank": lambda old: b"\n \n",
    "null": lambda old: b"null",
    "a list": lambda old: b"[]",
    "a number": lambda old: b"7",
    "a text": lambda old: b'"x"',
    "half": BYTES["cut"],
    "deep list": lambda old: b"[" * 200_000,
    "deep object": lambda old: b'{"a":' * 100_000,
    "not UTF-8": lambda old: old[: len(old) // 2] + b"\xff\xfe" + old[len(old) // 2 :],
    "NUL": BYTES["NULs"],
    "UTF-16": lambda old: old.decode(errors="replace").encode("utf-16"),
    "twice": lambda old: old + old,
}
"""Name → what becomes of the bytes of a JSON file, none of which is what is needed."""


class Variant(NamedTuple):
    """A variant of a file.

    Attributes:
        change: What becomes of the bytes.
        kept: Whether the file means the same as before; otherwise it is damaged.
    """

    change: Change
    kept: bool

    @property
    def codes(self) -> frozenset[int]:
        """The exit codes of a command that reads the file."""
        return FINE if self.kept else DAMAGED


QUICK_LINES: Mapping[str, Variant] = {
    "no bytes": Variant(JSON_FILES["no bytes"], kept=False),
    "blank": Variant(lambda old: b"\n\n \n", kept=False),
    "BOM": Variant(lambda old: b"\xef\xbb\xbf" + old, kept=True),
    "two BOMs": Variant(lambda old: b"\xef\xbb\xbf" * 2 + old, kept=False),
    "CRLF": Variant(lambda old: old.replace(b"\n", b"\r\n"), kept=True),
    "no last line feed": Variant(lambda old: old.rstrip(b"\n"), kept=True),
    "a blank line at the end": Variant(lambda old: old + b"\n\n", kept=True),
    "CR only": Variant(lambda old: old.replace(b"\n", b"\r"), kept=False),
    "UTF-16": Variant(JSON_FILES["UTF-16"], kept=False),
    "Latin-1": Variant(third(lambda line: line[:3] + b"\xe9" + line[3:]), kept=False),
    "CESU surrogate": Variant(third(lambda line: line[:3] + b"\xed\xa0\x80" + line[3:]), kept=False),
    "NULs": Variant(BYTES["NULs"], kept=False),
    "half a line": Variant(lambda old: old[: old.rindex(b"\n", 0, -1) + 5], kept=False),
    "garbage": Variant(lambda old: random.Random(7).randbytes(len(old)), kept=False),
}
"""Name → a variant of a file of lines, whatever a line holds."""

LINES: Mapping[str, Variant] = {
    **QUICK_LINES,
    "a line of 70 MB": Variant(third(lambda line: line + b"x" * 70_000_000), kept=False),
}
"""The same, and one that takes seconds to read, so that few files get it."""

to_gzip = partial(gzip.compress, mtime=0)

GZIPPED: Mapping[str, Variant] = {
    "whole": Variant(to_gzip, kept=True),
    "two members": Variant(lambda old: to_gzip(old[:60]) + to_gzip(old[60:]), kept=True),
    "trailing NULs": Variant(lambda old: to_gzip(old) + b"\0" * 512, kept=True),
    "trailing bytes": Variant(lambda old: to_gzip(old) + b"trailing", kept=False),
    "cut": Variant(lambda old: to_gzip(old)[:-12], kept=False),
    "not gzip": Variant(lambda old: old, kept=False),
    "a wrong checksum": Variant(lambda old: to_gzip(old)[:-8] + b"\0" * 8, kept=False),
    "a bomb in one line": Variant(lambda old: to_gzip(old + b"q" * (1 << 28)), kept=False),
}
"""Name → the gzipped variant of a file of lines."""


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


STAND_INS: Mapping[str, Callable[[Path], None]] = {
    "a folder": _folder,
    "a FIFO": _fifo,
    "a dangling link": lambda path: _link(path, "nowhere/at/all"),
    "a link to itself": lambda path: _link(path, path.name),
    "a link to zeros": lambda path: _link(path, "/dev/zero"),
    "a link to a device": lambda path: _link(path, "/dev/null"),
    "missing": Path.unlink,
}
"""Name → what stands in the place of a file."""


def _last(room: Path, file: str) -> Path:
    """Return the last file that matches a pattern, or the path of a file that is still to be written."""
    return max(room.glob(file), default=room / file)


def spoiled(file: str, name: str) -> Damage:
    """Return a damage of a file of any format, by its name in :data:`BYTES` or :data:`STAND_INS`."""
    if name in BYTES:
        return changed(file, BYTES[name])
    return lambda room: STAND_INS[name](_last(room, file))


def removed(*files: str) -> Damage:
    """Return a damage that deletes files."""
    return together(*(spoiled(file, "missing") for file in files))


def changed(file: str, change: Change) -> Damage:
    """Return a damage that changes the bytes of a file; of a gzipped one, those of its content."""

    def damage(room: Path) -> None:
        path = _last(room, file)
        if path.suffix == ".gz":
            path.write_bytes(to_gzip(change(gzip.decompress(path.read_bytes()))))
        else:
            path.write_bytes(change(path.read_bytes()))

    return damage


def packed(file: str, change: Change = to_gzip) -> Damage:
    """Return a damage that puts a gzipped file in the place of a file."""

    def damage(room: Path) -> None:
        (room / f"{file}.gz").write_bytes(change((room / file).read_bytes()))
        (room / file).unlink()

    return damage


def dump(value: Any) -> bytes:
    """Return JSON with values of :data:`VALUES` in it; half a surrogate pair is an escape, as JSON allows."""
    raws: list[str] = []

    def replaced(inner: Any) -> Any:
        if isinstance(inner, Raw):
            raws.append(inner)
            return f"@raw{len(raws) - 1}@"
        if isinstance(inner, dict):
            return {key: replaced(one) for key, one in inner.items()}
        return [replaced(one) for one in inner] if isinstance(inner, list) else inner

    text = json.dumps(replaced(value))
    for number, raw in enumerate(raws):
        text = text.replace(f'"@raw{number}@"', raw)
    return text.encode()


def value(file: str, path: str, new: Any) -> Damage:
    """Return a damage that sets a value in a JSON file.

    Args:
        file: The file, or a pattern of its path.
        path: Keys and positions of the value, with dots between them; what is missing is made.
        new: The value; ``Ellipsis`` removes it.
    """

    def damage(room: Path) -> None:
        target = _last(room, file)
        whole = json.loads(target.read_text()) if target.exists() else {}
        inner = whole
        *keys, last = [int(key) if key.isdecimal() else key for key in path.split(".")]
        for key in keys:
            inner = inner[key] if isinstance(key, int) else inner.setdefault(key, {})
        if new is ...:
            del inner[last]
        else:
            inner[last] = new
        target.write_bytes(dump(whole))

    return damage


def write(file: str, text: str | bytes) -> Damage:
    """Return a damage that writes a file."""

    def damage(room: Path) -> None:
        (room / file).parent.mkdir(parents=True, exist_ok=True)
        (room / file).write_bytes(text if isinstance(text, bytes) else text.encode())

    return damage


def parquet(file: str, columns: Mapping[str, Sequence[Any]]) -> Damage:
    """Return a damage that writes a Parquet file."""

    def damage(room: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table(dict(columns)), room / file)

    return damage


def together(*damages: Damage) -> Damage:
    """Return several damages as one."""

    def damage(room: Path) -> None:
        for one in damages:
            one(room)

    return damage
