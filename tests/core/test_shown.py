"""No text from data commands a terminal or a reader of Markdown."""

import sys
import unicodedata

import pytest

from llara_eval.core.shown import shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a name, 日本 e\u0301 \U0001f468\u200d\U0001f469 می\u200cخواهم\tx\ny", None),
        ("\x1b[2Jcleared", r"\x1b[2Jcleared"),
        ("a\rb\x07\x9b\x7f", r"a\rb\x07\x9b\x7f"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("\ud800 \udcff", r"\ud800 \udcff"),
        ("a\u2028b\u200b\xad\ufeff", r"a\u2028b\u200b\xad\ufeff"),
        ("\U000e0041", r"\U000e0041"),
        (r"\x1b", None),
    ],
)
def test_a_character_that_commands_becomes_an_escape(text: str, expected: str | None) -> None:
    assert shown(text) == (text if expected is None else expected)


def test_nothing_that_is_shown_is_invisible_or_changes_directions() -> None:
    text = shown("".join(map(chr, range(sys.maxunicode + 1))))
    left = {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert left == set("\n\t\u200c\u200d")
    assert shown(text) == text
