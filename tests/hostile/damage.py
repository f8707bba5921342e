"""Tables of damage: to any file, to lines of text, and to the values of a JSON file."""

import gzip
import json
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from case import Damage

Change = Callable[[bytes], bytes]


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

FILES: Mapping[str, Change] = {
    "no bytes": lambda old: b"",
    "blank": lambda old: b"\n \n",
    "null": lambda old: b"null",
    "a list": lambda old: b"[]",
    "a number": lambda old: b"7",
    "a text": lambda old: b'"x"',
    "half": lambda old: old[: len(old) // 2],
    "deep list": lambda old: b"[" * 200_000,
    "deep object": lambda old: b'{"a":' * 100_000,
    "not UTF-8": lambda old: old[: len(old) // 2] + b"\xff\xfe" + old[len(old) // 2 :],
    "NUL": lambda old: b"\0" * len(old),
    "UTF-16": lambda old: old.decode(errors="replace").encode("utf-16"),
    "twice": lambda old: old + old,
}
"""Name → what becomes of the bytes of a JSON file, none of which is what is needed."""


def _unreadable(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _to(target: str) -> Callable[[Path], None]:
    def link(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return link


KINDS: Mapping[str, Callable[[Path], None]] = {
    "a folder": _unreadable,
    "a FIFO": _fifo,
    "a dangling link": _to("nowhere/at/all"),
    "a link to itself": lambda path: _to(path.name)(path),
    "a link to zeros": _to("/dev/zero"),
    "a link to a device": _to("/dev/null"),
    "missing": Path.unlink,
}
"""Name → what stands in the place of a file."""


def kind(file: str, name: str) -> Damage:
    """Return a damage that puts something else in the place of a file."""
    return lambda room: KINDS[name](room / file)


def content(file: str, change: Change) -> Damage:
    """Return a damage that changes the bytes of a file, which may be gzipped."""

    def damage(room: Path) -> None:
        path = room / file
        packed = path.suffix == ".gz"
        old = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
        path.write_bytes(gzip.compress(change(old), mtime=0) if packed else change(old))

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
        file: The file.
        path: Keys and positions of the value, with dots between them; what is missing is made.
        new: The value; ``Ellipsis`` removes it.
    """

    def damage(room: Path) -> None:
        whole = json.loads((room / file).read_text()) if (room / file).exists() else {}
        inner = whole
        *keys, last = [int(key) if key.isdecimal() else key for key in path.split(".")]
        for key in keys:
            inner = inner[key] if isinstance(key, int) else inner.setdefault(key, {})
        if new is ...:
            del inner[last]
        else:
            inner[last] = new
        (room / file).write_bytes(dump(whole))

    return damage


def flip(file: str, seed: int, bits: int = 1) -> Damage:
    """Return a damage that flips bits of a file, drawn by a seed."""

    def change(old: bytes) -> bytes:
        new = bytearray(old)
        drawn = random.Random(seed)
        for _ in range(bits):
            position = drawn.randrange(8 * len(new))
            new[position // 8] ^= 1 << position % 8
        return bytes(new)

    def damage(room: Path) -> None:
        path = next(iter(sorted(room.glob(file))))
        path.write_bytes(change(path.read_bytes()))

    return damage


def cut(file: str, share: float) -> Damage:
    """Return a damage that truncates a file to a share of its bytes."""

    def damage(room: Path) -> None:
        path = next(iter(sorted(room.glob(file))))
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    return damage


def write(file: str, text: str | bytes) -> Damage:
    """Return a damage that writes a file."""

    def damage(room: Path) -> None:
        (room / file).parent.mkdir(parents=True, exist_ok=True)
        (room / file).write_bytes(text if isinstance(text, bytes) else text.encode())

    return damage


def both(*damages: Damage) -> Damage:
    """Return several damages as one."""

    def damage(room: Path) -> None:
        for one in damages:
            one(room)

    return damage


class Line(NamedTuple):
    """A change of the lines of a text file.

    Attributes:
        change: What becomes of the lines.
        kept: Whether the file means the same as before; otherwise the file is damaged.
    """

    change: Change
    kept: bool


def third(change: Change) -> Change:
    """Return a change of the third line alone."""

    def whole(old: bytes) -> bytes:
        lines = old.split(b"\n")
        lines[2] = change(lines[2])
        return b"\n".join(lines)

    return whole


LINES: Mapping[str, Line] = {
    "no bytes": Line(lambda old: b"", kept=False),
    "blank": Line(lambda old: b"\n\n \n", kept=False),
    "BOM": Line(lambda old: b"\xef\xbb\xbf" + old, kept=True),
    "two BOMs": Line(lambda old: b"\xef\xbb\xbf" * 2 + old, kept=False),
    "CRLF": Line(lambda old: old.replace(b"\n", b"\r\n"), kept=True),
    "no last line feed": Line(lambda old: old.rstrip(b"\n"), kept=True),
    "a blank line at the end": Line(lambda old: old + b"\n\n", kept=True),
    "CR only": Line(lambda old: old.replace(b"\n", b"\r"), kept=False),
    "UTF-16": Line(lambda old: old.decode().encode("utf-16"), kept=False),
    "Latin-1": Line(third(lambda line: line[:3] + b"\xe9" + line[3:]), kept=False),
    "CESU surrogate": Line(third(lambda line: line[:3] + b"\xed\xa0\x80" + line[3:]), kept=False),
    "NULs": Line(lambda old: b"\0" * len(old), kept=False),
    "half a line": Line(lambda old: old[: old.rindex(b"\n", 0, -1) + 5], kept=False),
    "garbage": Line(lambda old: random.Random(7).randbytes(len(old)), kept=False),
    "a line of 70 MB": Line(third(lambda line: line + b"x" * 70_000_000), kept=False),
}
"""Name → a change of a file of lines, whatever a line holds."""

SLOW = ("a line of 70 MB",)
"""Damage that takes seconds to read, so that few files get it."""
