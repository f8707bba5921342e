"""A hostile case: files that are damaged, one command on them, and what its rule allows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

FINE = frozenset({0})
"""The input is unusual and correct."""

DAMAGED = frozenset({3})
"""A file is missing, damaged, or not of the kind that is needed."""

DOUBTFUL = frozenset({0, 3})
"""The damage is harmless, or it is named: random bytes, a value that nothing depends on."""

USAGE = frozenset({2})
"""The request itself is wrong."""

REFUSED = frozenset({2, 3})
"""A checkpoint that cannot be reproduced: the request is refused, or the file."""

CHECKED = frozenset({0, 2, 3, 4})
"""Any value in a checkpoint: harmless, refused, damaged, or vectors that fail the check."""

PARTIAL = frozenset({6})
"""One of several results is damaged: it is named and left out."""

HARMLESS_OR_PARTIAL = frozenset({0, 6})
"""A value of one of several results that nothing may depend on."""

UNWRITABLE = frozenset({1})
"""The place of the output cannot be written: the base class of errors, with advice."""

INTERRUPTED, TERMINATED = frozenset({130}), frozenset({143})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did: its exit code (negative: the signal that ended it), and its output."""

    code: int
    stdout: bytes
    stderr: bytes


Damage = Callable[[Path], object]
Check = Callable[[Path, Outcome], Iterable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case.

    Attributes:
        id: Class, subject and damage, with slashes between them.
        words: The command; paths are relative to the room, which is the working directory.
        parts: Names of prepared parts that are copied into the room, see :mod:`parts`.
        damage: Changes the room before the command; it gets the path of the room.
        codes: The exit codes that the rule allows.
        before: Commands that run first and must succeed, each followed by a damage.
        check: Further conditions; it gets the room and the outcome, and yields problems.
        environment: Variables of the environment.
        limits: Limits by name, as in :mod:`resource`, in bytes.
        streams: Unusual streams: ``stdout=closed``, ``stderr=/dev/full``, ``stdout=pipe`` (broken), …
        signal: Number of a signal, and the seconds after which it is sent.
        code_may_run: Whether the user has allowed the code of a checkpoint.
        writes: Parts of the room that may change.
    """

    id: str
    words: tuple[str, ...]
    parts: tuple[str, ...] = ()
    damage: Damage = lambda room: None
    codes: frozenset[int] = FINE
    before: tuple[tuple[tuple[str, ...], Damage], ...] = ()
    check: Check = lambda room, outcome: ()
    environment: Mapping[str, str | None] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    streams: Mapping[str, str] = field(default_factory=dict)
    signal: tuple[int, float] | None = None
    code_may_run: bool = False
    writes: tuple[str, ...] = ("out", "home", "user", "tmp")

    @property
    def group(self) -> str:
        """The class of the case."""
        return self.id.partition("/")[0]


def all_cases() -> dict[str, Case]:
    """Return all cases by id."""
    from attacks import (
        caches,
        checkpoints,
        code,
        collection,
        environment,
        outputs,
        results,
        runs,
        shown,
        training,
        weights,
    )

    rooms: Sequence[Any] = (
        *(runs, checkpoints, weights, code, collection, training, caches, outputs, results, shown),
        environment,
    )
    cases = [case for room in rooms for case in room.cases()]
    by_id = {case.id: case for case in cases}
    assert len(by_id) == len(cases), "two cases have one id"
    return by_id


def tiers(cases: Iterable[Case], sample: int, larger: int) -> dict[str, str]:
    """Return the tier of each case, by id: "" for every change, ``slow``, or ``nightly``.

    Each class gives the same share of its cases to ``sample`` and to ``larger``; the hash of an id decides
    which, so that a new case moves no other.
    """
    groups: dict[str, list[str]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case.id)
    total = sum(map(len, groups.values()))
    tier = {}
    for ids in groups.values():
        ordered = sorted(ids, key=lambda one: sha256(one.encode(errors="replace")).digest())
        first, second = (max(1, round(size * len(ids) / total)) for size in (sample, larger))
        for number, one in enumerate(ordered):
            tier[one] = "" if number < first else "slow" if number < first + second else "nightly"
    return tier
