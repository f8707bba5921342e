"""The prompts before queries and documents: which of a checkpoint's stored prompts, or a user's, is used.

A sentence-transformers folder stores prompts by name. The library's ``encode_query`` knows the name ``query``
alone, and its ``encode_document`` knows ``document``, ``passage`` and ``corpus``. Many folders use other
names, such as ``search_query`` or ``web_search_query``. They are read by the habit of the field: the last
word of a name says the side, and the words before it the task. Where that is unclear, nothing is guessed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from llara_eval.core.errors import CheckFailedError, UsageError
from llara_eval.encoding.templates import Side

_EXACT: Mapping[Side, tuple[str, ...]] = {"query": ("query",), "document": ("document", "passage", "corpus")}
"""The names that sentence-transformers 6 knows, in its order."""

_SIDE_OF_WORD: Mapping[str, Side] = {
    **dict.fromkeys(("query", "queries"), "query"),
    **dict.fromkeys(("document", "documents", "doc", "docs", "passage", "passages", "corpus"), "document"),
}
"""The last word of a name → the side that it means."""

_RETRIEVAL = frozenset({"search", "web", "websearch", "retrieval", "s2p", "ir"})
"""Words of a name that say that the prompt is for retrieval."""

_FORMATS = (
    re.compile(
        r"(\s*<?(?:instruct|instruction|task)(?:>:?|:)\s*)\S.*?(\s*[\n|]\s*<?query(?:>:?|:)\s*)", re.I | re.S
    ),
    re.compile(r"(<\|user\|>\n).+?(\n<\|embed\|>\n)", re.S),
)
"""Prompts with an instruction: those of the E5, Qwen3, Gemma and KaLM families, and GritLM's."""

PLACE = "{instruction}"
"""The place of the instruction in a format."""

_WAY_OUT = "choose with --prompt-name NAME, --query-prompt TEXT and --document-prompt TEXT, or --no-prompts"


@dataclass(frozen=True, slots=True)
class Prompt:
    """The text before all queries or before all documents.

    Attributes:
        text: The text; empty for no prompt.
        source: Its source, for people (``search_query of config_sentence_transformers.json``).
    """

    text: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The sources of templates, for people and for the record.

    Attributes:
        template: The source of pooling, prefix, suffix and lengths.
        query: The source of the prompt of queries.
        document: The source of the prompt of documents.
        stored: The prompts that the checkpoint stores by name.
        warnings: Sentences about what the checkpoint does not say.
        pending: Whether each data set has prompts of its own, and none has been named yet.
    """

    template: str = "given"
    query: str = "given"
    document: str = "given"
    stored: "StoredPrompts | None" = None
    warnings: tuple[str, ...] = ()
    pending: bool = False


GIVEN = Origin()
"""The origin of templates that a program made."""


@dataclass(frozen=True, slots=True)
class StoredPrompts:
    """The prompts that a checkpoint stores by name.

    Attributes:
        texts: Name → text. sentence-transformers adds empty texts when it saves a folder, so that an empty
            text says nothing.
        default: The name of the prompt that sentence-transformers' ``encode`` uses; None for none.
        file: The name of their file.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None
    file: str = ""

    def choose(self, side: Side) -> Prompt:
        """Return the prompt of a side that the names and the default point to.

        Raises:
            CheckFailedError: Several prompts may be meant, or all seem to be for other tasks.
        """
        texts = self._nonempty()
        for name in (*_EXACT[side], self.default or ""):
            if name in texts and _side_of(name) == side:
                return self._named(name)
        candidates = [name for name in texts if _side_of(name) == side]
        for_retrieval = [
            name for name in candidates if not (task := _words(name)[:-1]) or _RETRIEVAL & {*task}
        ]
        if len({texts[name] for name in for_retrieval}) == 1:
            return self._named(for_retrieval[0])
        if candidates:
            problem = "several may be meant" if for_retrieval else "none of them names retrieval"
            raise CheckFailedError(
                f"{self.file} stores prompts of a {side} under the names "
                f"{', '.join(for_retrieval or candidates)}: {problem}; {_WAY_OUT}"
            )
        if self.default in texts and _side_of(self.default) is None:
            return self._named(self.default)  # sentence-transformers' encode puts it on all texts
        if texts and not any(map(_side_of, texts)):
            raise CheckFailedError(
                f"{self.file} stores the prompts {', '.join(texts)}, and no name says which is for queries "
                f"or documents; {_WAY_OUT}"
            )
        return Prompt("", f"none in {self.file}" if self.file else "none")

    def choose_named(self, name: str) -> dict[Side, Prompt]:
        """Return the prompts of both sides, given the name of one, or the words that two names begin with.

        A name that means no side is one of queries. The other side has the prompt whose name begins with the
        same words, or else the one that :meth:`choose` returns.

        Raises:
            UsageError: No prompt has this name.
            CheckFailedError: It is unclear which prompt the other side has.
        """
        texts, side_of_name = self._nonempty(), _side_of(name)
        stem = _words(name)[:-1] if side_of_name else _words(name)
        chosen = {
            side: self._named(other)
            for other in texts
            if (side := _side_of(other)) and _words(other)[:-1] == stem
        }
        if name in self.texts:
            chosen[side_of_name or "query"] = self._named(name)
        if not chosen:
            raise UsageError(
                f"--prompt-name {name}: the checkpoint stores no such prompt; it stores "
                f"{', '.join(texts) or 'none'}"
            )
        for side in _EXACT:
            if side not in chosen:
                names_sides = any(map(_side_of, texts))
                chosen[side] = self.choose(side) if names_sides else Prompt("", f"none in {self.file}")
        return chosen

    def find_format(self) -> str | None:
        """Return the format of instructions, if all prompts that show one agree, or else that of queries."""
        formats = {text_format for text in self.texts.values() if (text_format := format_of(text))}
        if len(formats) > 1:
            return format_of(self.choose("query").text)
        return formats.pop() if formats else None

    def _nonempty(self) -> dict[str, str]:
        return {name: text for name, text in self.texts.items() if text}

    def _named(self, name: str) -> Prompt:
        return Prompt(self.texts[name], f"{name} of {self.file}")


def format_of(prompt: str) -> str | None:
    """Return a prompt with :data:`PLACE` in place of its instruction, or None if it has no known format."""
    for pattern in _FORMATS:
        if (match := pattern.fullmatch(prompt)) is not None:
            return f"{match[1]}{PLACE}{match[2]}"
    return None


def is_instruction(text: str) -> bool:
    """Return whether a text is an instruction, which needs a format, and not a whole prompt.

    A prompt is put right before a text, so that it ends with a space, a line break, or a sign that separates
    (``Query:``, ``<query>``); a sentence does not.
    """
    return bool(text) and not text[-1].isspace() and text[-1] not in ":>|]"


def as_prompt(text: str, text_format: str | None) -> str | None:
    """Return a prompt as it is, and an instruction in a format; None if it is one and there is no format."""
    if not is_instruction(text):
        return text
    return text_format and text_format.replace(PLACE, text)


def side_of_key(key: str) -> tuple[str, Side] | None:
    """Return the task and the side of a key such as ``SciFact-query``, or None for other keys."""
    task, hyphen, word = key.rpartition("-")
    side = _SIDE_OF_WORD.get(word.lower())
    return (task, side) if hyphen and task and side else None


def _side_of(name: str) -> Side | None:
    """Return the side that a name means, or None."""
    words = _words(name)
    return _SIDE_OF_WORD.get(words[-1]) if words else None


def _words(name: str) -> list[str]:
    """Return the words of a name in lower case: ``retrieval.query`` and ``retrievalQuery`` have two."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+(?![a-z])", name)]
