"""What a user says of prompts: two texts, a stored name, none, or a set with a prompt for each data set."""

import hashlib
import json
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.files import read_json, sha256_of
from llara_eval.core.paths import user_path
from llara_eval.encoding.prompts import PLACE, Prompt, StoredPrompts, as_prompt, format_of, side_of_key
from llara_eval.encoding.templates import SIDES, Side, Templates

MTEB = "mteb"
"""The set whose instructions are those of the tasks of the package ``mteb``."""

_DEFAULT = "default"
"""The key of a set for data sets without a key of their own."""

_TOGETHER = (["--document-prompt", "--query-prompt"], ["--prompts", "--query-prompt"])
"""Options of which both may be given."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a set holds for a data set: prompts, or instructions that a format makes prompts of.

    Attributes:
        source: The key and the file, for people.
        query: The text for queries; None leaves it to the checkpoint.
        document: The text for documents; None leaves it to the checkpoint.
    """

    source: str
    query: str | None = None
    document: str | None = None


@dataclass(frozen=True, slots=True)
class PromptSet:
    """Prompts or instructions of several data sets, from a file.

    Attributes:
        file: The file.
        entries: Key in lower case → entry; ``default`` is for data sets without a key.
    """

    file: Path
    entries: Mapping[str, Entry]

    @classmethod
    def from_file(cls, path: Path, datasets: Collection[str] = ()) -> "PromptSet":
        """Read a set from a JSON or TOML file.

        Each key is a data set, a task of mteb, or ``default``; its value is the text for queries, or a table
        of ``query`` and ``document``. ``<task>-query`` and ``<task>-document`` have the text of one side. At
        the top, ``query`` and ``document`` are for all data sets.

        Args:
            path: The file.
            datasets: Names of data sets in lower case. One that ends like the text of a side, such as
                ``msmarco-passage``, is a data set unless the file also has ``msmarco-query``.

        Raises:
            DataError: The file is missing, is neither JSON nor TOML, or a value is no text, is unknown, or is
                given twice; the message names the key.
        """
        content = _read(path)
        texts: dict[str, dict[Side, str]] = {}
        spelled: dict[str, str] = {}
        for key, side, text in _items(content, path, datasets):
            name = key.lower()
            if side in texts.setdefault(name, {}):
                raise DataError(f"{path}: the {side} prompt of {key!r} is given twice")
            texts[name][side] = text
            spelled.setdefault(name, key)
        if not texts:
            raise DataError(f"{path}: expected prompts, found none")
        return cls(
            path,
            {name: Entry(f"{spelled[name]} of {path.name}", **sides) for name, sides in texts.items()},
        )

    @property
    def default(self) -> Entry | None:
        """The entry of data sets without a key; None if there is none."""
        return self.entries.get(_DEFAULT)

    def of(self, names: Sequence[str]) -> Entry:
        """Return the entry of a data set, by the first of its names that is a key, or the default.

        Raises:
            DataError: The set has no entry for the data set and no default.
        """
        for name in names:
            if (entry := self.entries.get(name.lower())) is not None:
                return entry
        if self.default is not None:
            return self.default
        keys = ", ".join(self.entries)
        raise DataError(
            f"{self.file} has no prompt for {names[0]}; it has {keys}. Add it, or a prompt named {_DEFAULT!r}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptOptions:
    """The options of a system that choose its prompts; by default the checkpoint's own are used.

    Attributes:
        query: The prompt of queries; with ``set_name`` a format, in which :data:`PLACE` is replaced.
        document: The prompt of documents.
        name: The name of a stored prompt.
        none: Whether no prompt is used.
        set_name: ``mteb``, or the path of a file with a prompt for each data set.
    """

    query: str | None = None
    document: str | None = None
    name: str | None = None
    none: bool = False
    set_name: str | None = None

    def __post_init__(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            UsageError: Two options give the same prompt, or a format has no place for the instruction, or
                there are no instructions to put into it.
        """
        given = {
            "--no-prompts": self.none,
            "--prompt-name": self.name is not None,
            "--prompts": self.set_name is not None,
            "--document-prompt": self.document is not None,
            "--query-prompt": self.query is not None,
        }
        chosen = [option for option, is_given in given.items() if is_given]
        if len(chosen) > 1 and chosen not in _TOGETHER:
            raise UsageError(f"{chosen[0]} and {chosen[1]} contradict each other: give one of them")
        is_format = PLACE in (self.query or "")
        if self.set_name is not None and self.query is not None and not is_format:
            raise UsageError(
                f"--query-prompt {self.query!r} has no {PLACE}: with --prompts it is the format that the "
                "instruction of each data set is put into"
            )
        if self.set_name is None and is_format:
            raise UsageError(
                f"--query-prompt {self.query!r}: {PLACE} needs --prompts, which has instructions"
            )

    @property
    def label(self) -> str:
        """What follows the name of the system (``+mteb``); empty for the checkpoint's own prompts.

        Texts and files are named by a part of their hash, so that two sets never share a name.
        """
        if self.none:
            return "+no-prompts"
        if self.name is not None:
            return f"+{self.name}"
        label = ""
        if self.set_name == MTEB:
            label = f"+{MTEB}"
        elif self.set_name is not None:
            path = user_path(self.set_name)
            _require_file(path)
            label = f"+{path.name}@{sha256_of(path)[:8]}"
        if self.query is not None or self.document is not None:
            texts = json.dumps([self.query, self.document], ensure_ascii=False)
            label += f"+prompt@{hashlib.sha256(texts.encode()).hexdigest()[:8]}"
        return label

    def settle(
        self, templates: Templates, source: str, stored: StoredPrompts | None, entry: Entry | None = None
    ) -> dict[Side, Prompt]:
        """Return the prompt of each side.

        Args:
            templates: The checkpoint's templates; their prompts are its own if it stores none by name.
            source: The source of the templates.
            stored: The prompts that the checkpoint stores by name; None if its templates have the prompts.
            entry: The entry of the set for the data set, if there is a set; None until a data set is named.

        Raises:
            UsageError: The checkpoint has no prompt of the name, or none at all to leave out, or an
                instruction has no known format.
            CheckFailedError: It is unclear which of the stored prompts is meant.
        """
        if self.none:
            texts = stored.texts.values() if stored else [templates.of(side).prompt for side in SIDES]
            if not any(texts):
                raise UsageError("--no-prompts: there is none to leave out; prefix and suffix always stay")
            return {side: Prompt("", "--no-prompts") for side in SIDES}
        if self.set_name is not None and entry is None:
            return {side: Prompt("", f"{self.set_name}: one for each data set") for side in SIDES}
        if self.name is not None:
            return (stored or StoredPrompts()).choose_named(self.name)
        prompts: dict[Side, Prompt] = {}
        for side in SIDES:
            text: str | None = getattr(entry or self, side)
            if text is None and stored is not None:
                prompts[side] = stored.choose(side)
            elif text is None:
                text = templates.of(side).prompt
                prompts[side] = Prompt(text, source if text else "none")
            elif entry is None:
                prompts[side] = Prompt(text, f"--{side}-prompt")
            else:
                prompts[side] = Prompt(self._formatted(text, entry, templates, stored), entry.source)
        return prompts

    def _formatted(self, text: str, entry: Entry, templates: Templates, stored: StoredPrompts | None) -> str:
        """Return a prompt as it is, and an instruction in the format of the option or the checkpoint."""
        text_format = self.query or (stored.find_format() if stored else format_of(templates.query.prompt))
        prompt = as_prompt(text, text_format)
        if prompt is None:
            raise UsageError(
                f"{entry.source} is an instruction, {text!r}, and the checkpoint stores no prompt that shows "
                f"the format of its instructions; give it, e.g. --query-prompt 'Instruct: {PLACE}\\nQuery: '"
            )
        return prompt


OWN_PROMPTS = PromptOptions()
"""The checkpoint's own prompts."""


def _require_file(path: Path) -> None:
    """Raise a DataError if there is no such file of prompts."""
    if not path.is_file():
        raise DataError(f"--prompts {path}: there is no such file; give one, or {MTEB}")


def _read(path: Path) -> Any:
    """Return the content of a JSON or TOML file."""
    _require_file(path)
    if path.suffix != ".toml":
        return read_json(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as TOML: {error}") from error


def _items(content: Any, path: Path, datasets: Collection[str]) -> list[tuple[str, Side, str]]:
    """Return (key, side, text) of each prompt of a file."""
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object with a key for each data set")
    keys = {key.lower() for key in content}
    items: list[tuple[str, Side, str]] = []
    for key, value in content.items():
        name, side = _name_and_side(key, keys, datasets)
        if side is None and isinstance(value, dict):
            texts = [(_side_of_word(word), text) for word, text in value.items()]
        else:
            texts = [(side or "query", value)]
        for text_side, text in texts:
            if text_side is None or not isinstance(text, str):
                raise DataError(
                    f"{path}: {key!r}: expected a text, or a table of texts named query and document, found "
                    f"{value!r}"
                )
            items.append((name, text_side, text))
    return items


def _name_and_side(key: str, keys: Collection[str], datasets: Collection[str]) -> tuple[str, Side | None]:
    """Return the data set and the side that a key names; the side is None if it names a data set alone."""
    if (word_side := _side_of_word(key)) is not None:
        return _DEFAULT, word_side
    split = side_of_key(key)
    if split is None or (key.lower() in datasets and f"{split[0].lower()}-query" not in keys):
        return key, None
    return split


def _side_of_word(word: str) -> Side | None:
    """Return the side that a word such as ``passage`` means, or None for other words."""
    split = side_of_key(f"{_DEFAULT}-{word}") if "-" not in word else None
    return split and split[1]
