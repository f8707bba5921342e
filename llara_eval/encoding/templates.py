"""Templates: text → token ids, and the positions that are pooled into an embedding.

A template is saved with a checkpoint (``template.json``). Training, encoding and the check before encoding
use the same template, and nothing is guessed from a name.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from llara_eval.core.decode import decode
from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.files import read_json, write_json
from llara_eval.core.reading import is_present

Pooling = Literal["mean", "first", "last", "modules"]
Cut = Literal["end", "start"]
Side = Literal["query", "document"]

SIDES: tuple[Side, Side] = ("query", "document")

TEMPLATE_FILE = "template.json"
_VERSION = 1

_CHARACTERS = 10
"""Characters of a text that hold at least one token in practice; English has 4 to 5 per token."""

_ANY_TEXT = ("a", "1", "の", ".")
"""Texts of which each tokenizer knows one."""

_SPARE = 8
"""Token ids in excess of the needed ones: the text after a cut can change the last few ids before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """The rule by which a text becomes a token sequence and the sequence an embedding.

    The sequence is ``prefix + tokens(prompt + text)[:room] + suffix``. The limit of length cuts the text,
    never the prefix or the suffix; where it cuts the start, the prompt is lost first, as in
    sentence-transformers.

    Attributes:
        prefix: Strings before the text, each tokenised on its own; special tokens are written as in the
            tokenizer (``<s>`` or ``[CLS]``).
        prompt: A string before the text that is tokenised together with it.
        suffix: Strings after the text, each tokenised on its own.
        pooling: ``mean`` (of all positions), ``first`` (position), ``last`` (mean of the last ``slots``
            positions), or ``modules`` (the checkpoint's own modules pool).
        slots: The number of positions that ``last`` pools.
        normalize: Whether the embedding is divided by its L2 norm.
        max_length: The most tokens of the whole sequence.
        cut: The part of a text that is too long which is cut off, its ``end`` or its ``start``.
    """

    prefix: tuple[str, ...] = ()
    prompt: str = ""
    suffix: tuple[str, ...] = ()
    pooling: Pooling = "mean"
    slots: int = 1
    normalize: bool = True
    max_length: int = 512
    cut: Cut = "end"

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UsageError: The pooling is unknown, ``slots`` or ``max_length`` is below one, or a text holds half
                a character (a lone surrogate), which no tokenizer can read.
        """
        if self.pooling not in get_args(Pooling):
            raise UsageError(f"pooling {self.pooling!r} is not one of {', '.join(get_args(Pooling))}")
        if self.slots < 1 or self.max_length < 1:
            raise UsageError(
                f"slots and max_length must be at least 1, found {self.slots}, {self.max_length}"
            )
        for text in (self.prompt, *self.prefix, *self.suffix):
            if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
                raise UsageError(f"{text!r} holds half a character, which no tokenizer can read")

    def token_ids(self, tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
        """Turn texts into token ids, without padding.

        Args:
            tokenizer: A Hugging Face tokenizer.
            texts: n texts.

        Returns:
            n lists of at least one and at most ``max_length`` token ids.

        Raises:
            UsageError: Prefix and suffix leave no room for text, or the sequence of an empty text would be
                empty.
        """
        prefix, suffix = self.prefix_ids(tokenizer), self.suffix_ids(tokenizer)
        room = self.max_length - len(prefix) - len(suffix)
        if room < 1:
            raise UsageError(
                f"max_length {self.max_length} leaves no room for text beside the template's "
                f"{len(prefix) + len(suffix)} tokens; raise --max-length"
            )
        contents = [self.prompt + text for text in texts]
        if self.cut == "start":
            encoded = [ids[-room:] for ids in _ids(tokenizer, contents)]
        else:
            encoded = _first_ids(tokenizer, contents, room)
        empty = [] if prefix or suffix else [_token_of_empty_text(tokenizer)]
        return [[*prefix, *(ids or empty), *suffix] for ids in encoded]

    def pooled_span(self, length: int) -> tuple[int, int]:
        """Return the pooled positions of a sequence of ``length`` tokens, as (start, end).

        Raises:
            UsageError: The checkpoint's own modules do the pooling.
        """
        if self.pooling == "modules":
            raise UsageError(
                "pooling 'modules' is done by the checkpoint itself: --backend sentence-transformers"
            )
        if self.pooling == "first":
            return 0, 1
        return (max(0, length - self.slots) if self.pooling == "last" else 0), length

    @property
    def pools_slots(self) -> bool:
        """Whether the mean of several last positions is the embedding."""
        return self.pooling == "last" and self.slots > 1

    def prefix_ids(self, tokenizer: Any) -> list[int]:
        """Return the token ids of the prefix."""
        return _ids_of_each(tokenizer, self.prefix)

    def suffix_ids(self, tokenizer: Any) -> list[int]:
        """Return the token ids of the suffix."""
        return _ids_of_each(tokenizer, self.suffix)

    def own_tokens(self, tokenizer: Any) -> int:
        """Return the number of tokens of prefix, prompt and suffix."""
        return len(_ids_of_each(tokenizer, (*self.prefix, self.prompt, *self.suffix)))


@dataclass(frozen=True, slots=True)
class Templates:
    """The template of queries and the template of documents."""

    query: Template
    document: Template

    def of(self, side: Side) -> Template:
        """Return the template of one side."""
        return self.query if side == "query" else self.document

    def with_changes(self, **changes: Any) -> "Templates":
        """Return templates with the same fields changed on both sides."""
        return Templates(replace(self.query, **changes), replace(self.document, **changes))

    def cut_to(self, query_length: int, passage_length: int) -> "Templates":
        """Return templates with these limits of length."""
        return Templates(
            replace(self.query, max_length=query_length), replace(self.document, max_length=passage_length)
        )

    def beside_text(self, tokenizer: Any) -> "Templates":
        """Return templates whose limits of length are those of the text alone, apart from what they add."""
        return self.cut_to(
            *(self.of(side).max_length + self.of(side).own_tokens(tokenizer) for side in SIDES)
        )

    def within(self, limit: int) -> "Templates":
        """Return templates with limits of length of at most ``limit`` tokens."""
        return self.cut_to(min(self.query.max_length, limit), min(self.document.max_length, limit))

    def as_json(self) -> dict[str, Any]:
        """Return the content of ``template.json``."""
        return {"version": _VERSION, **{side: _as_json(self.of(side)) for side in SIDES}}

    def save(self, folder: Path) -> None:
        """Write ``template.json`` into a checkpoint folder."""
        write_json(folder / TEMPLATE_FILE, self.as_json())

    @classmethod
    def load(cls, folder: Path) -> "Templates | None":
        """Read the ``template.json`` of a checkpoint folder; return None if the folder has none.

        Raises:
            DataError: The file is not JSON, its version is unsupported, a key is missing or unknown, or a
                value has another type or is impossible.
        """
        path = folder / TEMPLATE_FILE
        if not is_present(path):
            return None
        value = read_json(path)
        version = value.get("version", _VERSION) if isinstance(value, dict) else _VERSION
        if version != _VERSION:
            raise DataError(f"{path}: version {version!r}, this program reads {_VERSION}")
        try:
            file = decode(value, _File, path, closed=True)
        except UsageError as error:  # a value of the right type is impossible
            raise DataError(f"{path}: {error}") from error
        return cls(file.query, file.document)


@dataclass(frozen=True, slots=True)
class _File:
    """The content of ``template.json``."""

    version: int
    query: Template
    document: Template


def _as_json(template: Template) -> dict[str, Any]:
    """Return the fields of a template, without the usual cut, so that keys of stored vectors stay valid."""
    fields = asdict(template)
    if template.cut == "end":
        del fields["cut"]
    return fields


def _first_ids(tokenizer: Any, texts: Sequence[str], room: int) -> list[list[int]]:
    """Return the first ``room`` token ids of each text, without tokenising all of a very long text.

    A long text is cut between two words, where more ids than needed are expected before the cut. If there are
    fewer, the whole text is tokenised.
    """
    beginnings = [_beginning(text, _CHARACTERS * (room + _SPARE)) for text in texts]
    encoded = _ids(tokenizer, beginnings)
    for number, (ids, beginning, text) in enumerate(zip(encoded, beginnings, texts, strict=True)):
        if len(ids) < room + _SPARE and len(beginning) < len(text):
            (encoded[number],) = _ids(tokenizer, [text])
    return [ids[:room] for ids in encoded]


def _ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of texts, without special tokens."""
    options = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}
    ids: list[list[int]] = tokenizer(list(texts), verbose=False, **options)["input_ids"]
    return ids


def _ids_of_each(tokenizer: Any, strings: Sequence[str]) -> list[int]:
    """Return the token ids of strings that are tokenised one by one."""
    return [token for string in strings for token in _ids(tokenizer, [string])[0]]


def _beginning(text: str, characters: int) -> str:
    """Return a text up to the last space after a word among its first characters; all of it if there is none.

    Tokenizers do not join a word and the space after it; some join a word and the line break after it.
    """
    if len(text) <= characters:
        return text
    end = text.rfind(" ", 0, characters)
    while end > 0 and text[end - 1].isspace():
        end = text.rfind(" ", 0, end)
    return text[:end] if end > 0 else text


def _token_of_empty_text(tokenizer: Any) -> int:
    """Return the token id that represents an empty text where the template adds nothing."""
    for token in (tokenizer.eos_token_id, tokenizer.pad_token_id):
        if token is not None:
            return int(token)
    raise UsageError("an empty text needs a template with a prefix or suffix for this tokenizer")


def special_tokens(tokenizer: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the special tokens that a tokenizer by itself puts before and after a text.

    Raises:
        UsageError: The tokenizer changes the ids of a text when it adds special tokens, or one of these is
            not a token of its own.
    """
    text, bare = next(((text, ids) for text in _ANY_TEXT for ids in _ids(tokenizer, [text]) if ids), ("", []))
    full = tokenizer(text)["input_ids"]
    start = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), None)
    if start is None:
        raise UsageError(f"{type(tokenizer).__name__} adds special tokens within a text; it cannot be used")
    tokens = tokenizer.convert_ids_to_tokens(full)
    before, after = tuple(tokens[:start]), tuple(tokens[start + len(bare) :])
    if None in tokens or [*_ids_of_each(tokenizer, before), *bare, *_ids_of_each(tokenizer, after)] != full:
        raise UsageError(
            f"{type(tokenizer).__name__} puts {' '.join(map(str, (*before, *after)))} around a text, and "
            "makes other tokens of them where a text holds them"
        )
    return before, after


def fault_of_slots(tokenizer: Any, template: Template) -> str | None:
    """Return an error message if several positions are pooled and one of them is no slot token, else None."""
    if not template.pools_slots:
        return None
    pooled = template.suffix_ids(tokenizer)[-template.slots :]
    tokens = tokenizer.convert_ids_to_tokens(pooled)
    if len(pooled) == template.slots and set(pooled) <= set(tokenizer.get_added_vocab().values()):
        return None
    return (
        f"the last {template.slots} tokens of the suffix {''.join(template.suffix)!r} are pooled, but the "
        f"tokenizer makes {' '.join(tokens) or 'none'} of its end, not {template.slots} added tokens"
    )
