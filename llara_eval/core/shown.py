"""Text from data, made safe to show: no character of it commands a terminal or a reader of Markdown."""

import unicodedata

_COMMANDS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of Unicode: controls (C0, C1), formats (bidi, invisible), surrogates, separators of lines."""

_KEPT = frozenset("\n\t\u200c\u200d")
"""Line feeds and tabs, and the joiners of Persian, of the scripts of India, and of emoji."""


def shown(text: str) -> str:
    r"""Return a text as it is shown: a character that could change how others appear becomes an escape.

    Escapes are those of Python: ``\x1b``, ``\u202e``, ``\udcff``. All names, identifiers, prompts and
    messages that come from data, checkpoints or libraries pass through this function before they are printed
    or written into Markdown.

    Source: Boucher and Anderson, "Trojan Source: Invisible Vulnerabilities", USENIX Security 2023.
    """
    if text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode("ascii")
        if unicodedata.category(char) in _COMMANDS and char not in _KEPT
        else char
        for char in text
    )
