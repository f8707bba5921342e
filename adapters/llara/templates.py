"""The prompts of LLaRA and the templates made from them.

Two variants exist: that of the released code and checkpoints (FlagOpen/FlagEmbedding, research/LLARA), and
that of the paper (arXiv 2312.15503, section 3; its ACL 2024 version has slightly other prompts).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from llara_eval.core.decode import decode, read_record
from llara_eval.core.errors import UsageError
from llara_eval.encoding.templates import Template, Templates, fault_of_slots, special_tokens

_EOS = "{eos}"
_SLOT = re.compile(r"<s\d+>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The prompts around a text; ``{eos}`` stands for the tokenizer's end-of-sequence token.

    Attributes:
        prefix: The prompt before the text, after the tokens that the tokenizer itself puts first (BOS).
        self_suffix: The prompt of EBAE and of passages; it asks for the text itself.
        next_suffix: The prompt of EBAR and of queries; it asks for the text that follows.
        slots: The number of last tokens of a suffix that make the embedding.
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
        return decode(read_record(path, dict[str, Any]), cls, path, closed=True)

    def with_slots(self, slots: int) -> "Prompts":
        """Return the same prompts with fewer slot tokens at the end of each suffix, for ablation.

        Raises:
            UsageError: A suffix has fewer slot tokens than ``slots``, or ``slots`` is below 1.
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
        """The slot tokens (``<s1>`` …) of these prompts, in order, each once."""
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
"""The prompts of the ACL 2024 version of the paper."""

VARIANTS: Mapping[str, Prompts] = MappingProxyType(
    {"released": RELEASED, "paper": PAPER, "paper-acl": PAPER_ACL}
)
"""Prompts of ``llara-eval verify-joint`` by name."""


def templates(tokenizer: Any, prompts: Prompts = RELEASED) -> Templates:
    """Return the templates: a passage's prompt asks for the passage, a query's for the text that follows.

    Args:
        tokenizer: The checkpoint's own tokenizer; it decides whether a text starts with BOS.
        prompts: The prompts of both sides.

    Returns:
        The templates, of at most 512 tokens a side.

    Raises:
        UsageError: The tokenizer lacks a slot token or the end-of-sequence token of the prompts, a suffix has
            fewer tokens than slots, or one of several slots is not a token that was added to the tokenizer.
    """
    texts = (prompts.prefix, prompts.self_suffix, prompts.next_suffix)
    if any(_EOS in text for text in texts) and not tokenizer.eos_token:
        raise UsageError("these prompts end with {eos}, but the tokenizer has no end-of-sequence token")
    prefix, self_suffix, next_suffix = (text.replace(_EOS, tokenizer.eos_token or "") for text in texts)
    absent = _absent(tokenizer, prompts.slot_tokens)
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
        max_length=512,
    )
    query = replace(document, suffix=(next_suffix,))
    for template in (document, query):
        if len(template.suffix_ids(tokenizer)) < prompts.slots:
            raise UsageError(f"a suffix has fewer tokens than its {prompts.slots} slots")
        fault = fault_of_slots(tokenizer, template)
        if fault is not None:
            raise UsageError(f"{fault}, such as <s1>")
    return Templates(query=query, document=document)


def symmetric(tokenizer: Any) -> Templates:
    """Return the released templates with the passage's on both sides: SELF → SELF.

    Queries and documents of ArguAna, Quora and CQADupStack are texts of one kind. LLaRA is nevertheless used
    there as everywhere, NEXT → SELF; this is another system.
    """
    document = templates(tokenizer).document
    return Templates(document, document)


def recognise(tokenizer: Any, adapter: Mapping[str, Any] | None = None) -> Templates | None:
    """Return the released templates if the checkpoint's vocabulary has all sixteen slot tokens."""
    return None if _absent(tokenizer, RELEASED.slot_tokens) else templates(tokenizer)


def add_tokens(tokenizer: Any, tokens: Sequence[str]) -> list[int]:
    """Add the slot tokens that a tokenizer lacks, in place, and return their ids."""
    absent = _absent(tokenizer, tokens)
    tokenizer.add_special_tokens({"additional_special_tokens": absent}, replace_extra_special_tokens=False)
    return [int(token) for token in tokenizer.convert_tokens_to_ids(absent)]


def fit_embeddings(model: Any, new_tokens: Sequence[int]) -> None:
    """Make the embedding matrix hold the ids of new tokens, in place; new rows are drawn at random.

    A matrix that has spare rows for them stays as it is.
    """
    if new_tokens and max(new_tokens) >= model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(max(new_tokens) + 1, mean_resizing=False)


def _absent(tokenizer: Any, tokens: Sequence[str]) -> list[str]:
    vocabulary = tokenizer.get_vocab()
    return [token for token in tokens if token not in vocabulary]
