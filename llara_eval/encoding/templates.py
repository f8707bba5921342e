"""Text → token ids, and the positions that are pooled into its embedding.

A template is an explicit object that travels with a checkpoint (``template.json``): training,
encoding and the check before encoding all use the same one, and nothing is guessed from a name.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from llara_eval.core.decode import decode
from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.files import read_json, write_json

Pooling = Literal["mean", "first", "last", "modules"]
Side = Literal["query", "document"]

SIDES: tuple[Side, Side] = ("query", "document")

TEMPLATE_FILE = "template.json"
_VERSION = 1

_CHARACTERS = 10
"""Characters that hold a token with certainty, in practice; English has 4 to 5 a token."""

_SPARE = 8
"""Ids beyond those wanted: what stands behind a cut may change the last ids before it, but not as many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """How a text becomes one token sequence and which positions make its embedding.

    The sequence is ``prefix + tokens(prompt + text)[:room] + suffix``: the text gives way to the
    length limit, prefix and suffix never do.

    Attributes:
        prefix: Pieces before the text, each tokenised on its own (special tokens are written as
            the tokenizer writes them, ``<s>`` or ``[CLS]``).
        prompt: Put before the text and tokenised together with it.
        suffix: Pieces after the text, each tokenised on its own.
        pooling: ``mean`` over all positions, the ``first`` position, the mean of the ``last``
            ``slots`` positions, or what the checkpoint's own ``modules`` make of them.
        slots: How many of the last positions are pooled, for ``last``.
        normalize: Whether the embedding is divided by its L2 norm.
        max_length: The most tokens of the whole sequence.
    """

    prefix: tuple[str, ...] = ()
    prompt: str = ""
    suffix: tuple[str, ...] = ()
    pooling: Pooling = "mean"
    slots: int = 1
    normalize: bool = True
    max_length: int = 512

    def __post_init__(self) -> None:
        """Refuse values that no sequence can satisfy.

        Raises:
            UsageError: The pooling is unknown, or ``slots`` or ``max_length`` is below one.
        """
        if self.pooling not in get_args(Pooling):
            raise UsageError(f"pooling {self.pooling!r} is not one of {', '.join(get_args(Pooling))}")
        if self.slots < 1 or self.max_length < 1:
            raise UsageError(
                f"slots and max_length must be at least 1, found {self.slots}, {self.max_length}"
            )

    def token_ids(self, tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
        """Turn texts into token ids, without padding.

        Args:
            tokenizer: A Hugging Face tokenizer.
            texts: n texts.

        Returns:
            n lists of at least one and at most ``max_length`` ids.

        Raises:
            UsageError: Prefix and suffix leave no room for text, or an empty text would give an
                empty sequence.
        """
        prefix, suffix = self.prefix_ids(tokenizer), self.suffix_ids(tokenizer)
        room = self.max_length - len(prefix) - len(suffix)
        if room < 1:
            raise UsageError(
                f"max_length {self.max_length} leaves no room for text beside the template's "
                f"{len(prefix) + len(suffix)} tokens; raise --max-length"
            )
        encoded = _first_ids(tokenizer, [self.prompt + text for text in texts], room)
        filler = [] if prefix or suffix else [_filler(tokenizer)]
        return [[*prefix, *(ids or filler), *suffix] for ids in encoded]

    def pooled_span(self, length: int) -> tuple[int, int]:
        """Return the positions pooled in a sequence of ``length`` tokens, as (start, end).

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

    def prefix_ids(self, tokenizer: Any) -> list[int]:
        """Return the token ids before the text."""
        return self._pieces(tokenizer, self.prefix)

    def suffix_ids(self, tokenizer: Any) -> list[int]:
        """Return the token ids after the text."""
        return self._pieces(tokenizer, self.suffix)

    def own_tokens(self, tokenizer: Any) -> int:
        """Return how many tokens of a sequence are the template's: prefix, prompt and suffix."""
        return len(self._pieces(tokenizer, (*self.prefix, self.prompt, *self.suffix)))

    @staticmethod
    def _pieces(tokenizer: Any, pieces: Sequence[str]) -> list[int]:
        return [
            token
            for piece in pieces
            for token in tokenizer(piece, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        ]


@dataclass(frozen=True, slots=True)
class Templates:
    """The two templates of a retriever.

    Attributes:
        query: For queries.
        document: For documents (passages).
    """

    query: Template
    document: Template

    def of(self, side: Side) -> Template:
        """Return the template of one side."""
        return self.query if side == "query" else self.document

    def with_changes(self, **changes: Any) -> "Templates":
        """Return templates with the same fields changed on both sides."""
        return Templates(replace(self.query, **changes), replace(self.document, **changes))

    def cut_to(self, query_length: int, passage_length: int) -> "Templates":
        """Return the same templates with other limits of length."""
        return Templates(
            replace(self.query, max_length=query_length), replace(self.document, max_length=passage_length)
        )

    def within(self, most: int) -> "Templates":
        """Return the same templates, of no more tokens than a model can read."""
        return self.cut_to(min(self.query.max_length, most), min(self.document.max_length, most))

    def as_json(self) -> dict[str, Any]:
        """Return what ``template.json`` holds."""
        return {"version": _VERSION, "query": asdict(self.query), "document": asdict(self.document)}

    def save(self, folder: Path) -> None:
        """Write ``template.json`` into a checkpoint folder."""
        write_json(folder / TEMPLATE_FILE, self.as_json())

    @classmethod
    def load(cls, folder: Path) -> "Templates | None":
        """Read a checkpoint folder's ``template.json``; None if it has none.

        Raises:
            DataError: The file is not JSON, or see :meth:`from_json`.
        """
        path = folder / TEMPLATE_FILE
        return cls.from_json(read_json(path), path) if path.is_file() else None

    @classmethod
    def from_json(cls, value: Any, source: Path) -> "Templates":
        """Read what :meth:`as_json` wrote.

        Args:
            value: Plain values, as JSON has them.
            source: The file they come from, for the message.

        Raises:
            DataError: The version is another one, or a field is missing, unknown, of another type, or holds
                what no sequence can satisfy.
        """
        version = value.get("version") if isinstance(value, dict) else None
        if version is not None and version != _VERSION:
            raise DataError(f"{source}: version {version!r}, this program reads {_VERSION}")
        file = decode(value, _File, source, closed=True)
        sides = []
        for side, fields in (("query", file.query), ("document", file.document)):
            try:
                sides.append(decode(fields, Template, f"{source}: {side}", closed=True))
            except UsageError as error:  # of a value that has its type and makes no sense
                raise DataError(f"{source}: {side}: {error}") from error
        return cls(*sides)


@dataclass(frozen=True, slots=True)
class _File:
    """What ``template.json`` holds; each side is a :class:`Template`."""

    version: int
    query: dict[str, Any]
    document: dict[str, Any]


def _first_ids(tokenizer: Any, texts: Sequence[str], room: int) -> list[list[int]]:
    """Return the first ``room`` ids of each text; of a very long one no more is tokenised than that takes.

    It is cut between two words, so far on that more ids than wanted come before. Should they be fewer, it is
    tokenised as a whole.
    """
    begins = [_beginning(text, _CHARACTERS * (room + _SPARE)) for text in texts]
    encoded = _ids(tokenizer, begins)
    for row, ids in enumerate(encoded):
        if len(ids) < room + _SPARE and len(begins[row]) < len(texts[row]):
            (encoded[row],) = _ids(tokenizer, [texts[row]])
    return [ids[:room] for ids in encoded]


def _ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of texts, without special tokens."""
    options = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}
    ids: list[list[int]] = tokenizer(list(texts), verbose=False, **options)["input_ids"]
    return ids


def _beginning(text: str, characters: int) -> str:
    """Return a text up to the last space behind a word within so many characters; all of it without one.

    No tokenizer in use joins a word to the space that follows; to a line break some do.
    """
    if len(text) <= characters:
        return text
    end = text.rfind(" ", 0, characters)
    while end > 0 and text[end - 1].isspace():
        end = text.rfind(" ", 0, end)
    return text[:end] if end > 0 else text


def _filler(tokenizer: Any) -> int:
    """Return the token that stands for an empty text where the template adds nothing."""
    for token in (tokenizer.eos_token_id, tokenizer.pad_token_id):
        if token is not None:
            return int(token)
    raise UsageError("an empty text needs a template with a prefix or suffix for this tokenizer")


def special_tokens(tokenizer: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the special tokens a tokenizer puts before and after a text of its own accord."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    start = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    tokens = tokenizer.convert_ids_to_tokens(full)
    return tuple(tokens[:start]), tuple(tokens[start + len(bare) :])


def fault_of_slots(tokenizer: Any, template: Template) -> str | None:
    """Return what is wrong with the slots if several positions are pooled and one is not a slot token."""
    if template.pooling != "last" or template.slots == 1:
        return None
    pooled = template.suffix_ids(tokenizer)[-template.slots :]
    tokens = tokenizer.convert_ids_to_tokens(pooled)
    if len(pooled) == template.slots and set(pooled) <= set(tokenizer.get_added_vocab().values()):
        return None
    return (
        f"the last {template.slots} tokens of the suffix {''.join(template.suffix)!r} are pooled, but the "
        f"tokenizer makes {' '.join(tokens) or 'none'} of its end, not {template.slots} added tokens"
    )
