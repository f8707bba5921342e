"""Texts of stored results that a terminal or a reader of Markdown would obey."""

import re
from collections.abc import Iterator
from pathlib import Path

from case import DOUBTFUL, HARMLESS_OR_PARTIAL, USAGE, Case, Outcome
from damage import value

from attacks.results import BOARD, COMPARE, RESULT


def cases() -> Iterator[Case]:
    """Yield the cases."""
    yield from _shown()


_TEXTS = {
    "ESC": "a\x1b[2Jb",
    "BEL": "a\x07b",
    "C1": "a\x9b2Jb",
    "bidi": "a\u202eb\u2066c",
    "script": "<script>alert(1)</script>",
    "image": "![x](http://example.com/x.png)",
    "link": "[x](javascript:alert(1))",
    "bare URL": "http://example.com/track",
    "bare www": "www.example.com",
    "table": "a | b | c",
    "line feeds": "a\n\n# Heading\n",
    "backticks": "`a` ``b``",
    "backslash": "a\\| b",
    "markup of rich": "[bold red]x[/] [link=http://example.com]y[/link]",
    "a million letters": "x" * 1_000_000,
}
"""Texts that a reader of Markdown or a terminal must see as they are, or not at all."""


def _shown() -> Iterator[Case]:
    keys = (
        *("system", "dataset", "split", "provenance.date", "provenance.git", "settings.dtype"),
        *(
            "settings.prompts",
            "settings.templates.query.prompt",
            "settings.toolkit",
            "settings.training_files",
        ),
    )
    for key in keys:
        for name, text in _TEXTS.items():
            new: object = text
            if key == "provenance.git":
                new = {"commit": text, "dirty": False}
            elif key == "settings.training_files":
                new = {"0" * 64: text}
            yield Case(
                id=f"results/shown {key}={name}",
                words=BOARD,
                parts=("evaluated",),
                damage=value(RESULT, key, new),
                codes=HARMLESS_OR_PARTIAL,
                check=_escaped,
            )
    for name, text in _TEXTS.items():
        yield Case(
            id=f"results/shown in compare/{name}",
            words=tuple(word for word in COMPARE if word != "--json"),
            parts=("evaluated",),
            damage=value(RESULT, "system", text),
            codes=DOUBTFUL | USAGE,
        )


def _escaped(room: Path, outcome: Outcome) -> Iterator[str]:
    """Check that no text of a result is Markdown with an effect."""
    text = (room / "out/board.md").read_text(errors="replace")
    if re.search(r"<script|javascript:alert", text.replace("\\", "")) and "<script" in text:
        yield "HTML of a result stands in the leaderboard"
    if re.search(r"(?<!\\)!\[x\]|(?<!\\)\[x\]\(", text):
        yield "a link or an image of a result stands in the leaderboard"
    if re.search(r"(?<![\\`\w])(http://example|www\.example)", text):
        yield "a bare URL of a result becomes a link in the leaderboard"
    if re.search(r"^# Heading", text, re.MULTILINE):
        yield "a heading of a result stands in the leaderboard"
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in block.splitlines()}
        if len(widths) > 1:
            yield "a row of the leaderboard has more cells than its table"
