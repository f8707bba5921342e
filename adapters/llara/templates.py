"""The prompts of LLaRA and the templates made from them.

Two variants exist: the one of the released code and checkpoints (FlagOpen/FlagEmbedding,
research/LLARA), and the one the paper describes (arXiv 2312.15503, section 3; ACL 2024 words the
prompts a little differently).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from llara_eval.core.decode import decode, read_record
from llara_eval.core.errors import DataError, UsageError
from llara_eval.encoding.templates import Template, Templates, fault_of_slots, special_tokens

_EOS = "{eos}"
_SLOT = re.compile(r"<s\d+>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """What stands around a text; ``{eos}`` is the tokenizer's end-of-sequence token.

    Attributes:
        prefix: Before the text, after the tokens the tokenizer itself puts first (BOS).
        self_suffix: Asks for the text itself (EBAE; passages).
        next_suffix: Asks for the text that follows (EBAR; queries).
        slots: How many of the last tokens of a suffix make the embedding.
    """

    prefix: str
    self_suffix: str
    next_suffix: str
    slots: int

    @classmethod
    def from_file(cls, path: Path) -> "Prompts":
        """Read prompts from a JSON object with these four fields.

        Raises:
            DataError: The file cannot be read, or a field is missing, unknown or of another type.
        """
        value = read_record(path, dict[str, Any])
        names = [item.name for item in fields(cls)]
        if set(value) != set(names):
            found = ", ".join(value) or "nothing"
            raise DataError(f"{path}: expected a JSON object with {', '.join(names)}, found {found}")
        return decode(value, cls, path, closed=True)

    def with_slots(self, slots: int) -> "Prompts":
        """Return the same words with fewer slot tokens at the end of each suffix, for ablation.

        Raises:
            UsageError: A suffix does not have that many.
        """
        suffixes = []
        for suffix in (self.self_suffix, self.next_suffix):
            tokens = _SLOT.findall(suffix)
            if not 1 <= slots <= len(tokens):
                raise UsageError(f"slots {slots}: the suffix {suffix!r} has {len(tokens)} slot tokens")
            suffixes.append(suffix.removesuffix("".join(tokens)) + "".join(tokens[:slots]))
        return replace(self, self_suffix=suffixes[0], next_suffix=suffixes[1], slots=slots)

    @property
    def slot_tokens(self) -> tuple[str, ...]:
        """The slot tokens (``<s1>`` …) these prompts use, in order, each once."""
        return tuple(dict.fromkeys(_SLOT.findall(self.self_suffix + self.next_suffix)))


RELEASED = Prompts(
    prefix='"',
    self_suffix='", summarize the above passage within eight words: <s1><s2><s3><s4><s5><s6><s7><s8>',
    next_suffix='", predict the following passage within eight words: '
    "<s9><s10><s11><s12><s13><s14><s15><s16>",
    slots=8,
)
"""The released code's prompts: eight slots each."""

PAPER = Prompts(
    prefix="",
    self_suffix="The original sentence: {eos}",
    next_suffix="The next sentence: {eos}",
    slots=1,
)
"""The paper's prompts (arXiv 2312.15503v1): the end-of-sequence token is the slot."""

PAPER_ACL = Prompts(
    prefix="",
    self_suffix="The input sentence is: {eos}",
    next_suffix="The next sentence is: {eos}",
    slots=1,
)
"""The prompts as the ACL 2024 version words them."""

VARIANTS: Mapping[str, Prompts] = MappingProxyType(
    {"released": RELEASED, "paper": PAPER, "paper-acl": PAPER_ACL}
)
"""Prompts by name; the released ones are the usual ones."""


def templates(
    tokenizer: Any, prompts: Prompts = RELEASED, *, query_length: int = 512, passage_length: int = 512
) -> Templates:
    """Return the templates: a query is asked for what follows it, a passage for itself.

    Args:
        tokenizer: The checkpoint's own tokenizer; it decides whether a text starts with BOS.
        prompts: The prompts of both sides.
        query_length: Most tokens of a query, template included.
        passage_length: Most tokens of a passage, template included.

    Raises:
        UsageError: The tokenizer has no end-of-sequence token but the prompts ask for one, a suffix has
            fewer tokens than slots, or several slots are not tokens that were added to it.
    """
    words = (prompts.prefix, prompts.self_suffix, prompts.next_suffix)
    if any(_EOS in word for word in words) and not tokenizer.eos_token:
        raise UsageError("these prompts end with {eos}, but the tokenizer has no end-of-sequence token")
    prefix, self_suffix, next_suffix = (word.replace(_EOS, tokenizer.eos_token or "") for word in words)
    known = tokenizer.get_vocab()
    absent = [token for token in prompts.slot_tokens if token not in known]
    if absent:
        raise UsageError(
            f"the tokenizer lacks the slot tokens {' '.join(absent)}: this checkpoint was not adapted with "
            "these prompts (llara-eval adapt adds them)"
        )
    document = Template(
        prefix=(*special_tokens(tokenizer)[0], *([prefix] if prefix else [])),
        suffix=(self_suffix,),
        pooling="last",
        slots=prompts.slots,
        max_length=passage_length,
    )
    query = replace(document, suffix=(next_suffix,), max_length=query_length)
    for template in (document, query):
        if len(template.suffix_ids(tokenizer)) < prompts.slots:
            raise UsageError(f"a suffix has fewer tokens than its {prompts.slots} slots")
        fault = fault_of_slots(tokenizer, template)
        if fault is not None:
            raise UsageError(f"{fault}, such as <s1>")
    return Templates(query=query, document=document)


def recognise(tokenizer: Any, adapter: Mapping[str, Any] | None = None) -> Templates | None:
    """Return the released templates if a checkpoint's own vocabulary has all sixteen slot tokens."""
    known = tokenizer.get_vocab()
    return templates(tokenizer) if all(token in known for token in RELEASED.slot_tokens) else None


def add_tokens(tokenizer: Any, tokens: Sequence[str]) -> list[int]:
    """Add the slot tokens a tokenizer lacks, in place, and return the ids of those that were new."""
    known = tokenizer.get_vocab()
    absent = [token for token in tokens if token not in known]
    tokenizer.add_special_tokens({"additional_special_tokens": absent}, replace_extra_special_tokens=False)
    return [int(token) for token in tokenizer.convert_tokens_to_ids(absent)]


def fit_embeddings(model: Any, new: Sequence[int]) -> None:
    """Give a model rows for tokens that were added, drawn from torch's generator, in place.

    Some models have spare rows already, and an embedding matrix never becomes smaller.
    """
    if new and max(new) >= model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(max(new) + 1, mean_resizing=False)
