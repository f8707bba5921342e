"""The task of adaptation: one frozen dataclass, which the recipes fill."""

from dataclasses import dataclass
from math import isfinite

from adapters.llara.templates import RELEASED, Prompts
from llara_eval.core.errors import UsageError

USUAL_LENGTH = 1024
"""Most tokens of a joint sequence in the released code; a model with fewer positions reads fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """The task that a model learns in adaptation; the defaults are those of the released code.

    Attributes:
        prompts: The prompts of both sides.
        ebae: Whether the SELF embedding learns to predict the text's own tokens.
        ebar: Whether the NEXT embedding learns to predict the next text's.
        language_model: Whether the loss has a language-model term over the text's tokens (released code;
            the paper has no such term).
        distinct: Whether a token of a target counts once (released code) or as often as it occurs (paper).
        scale: Factor of both bag-of-words terms: 0.1 in the released code, 1 in the paper.
        averaged: Whether the two terms are averaged (released code) or added (paper).
        remove_stop_words: Whether targets lose punctuation and English stop words (released recipe).
        whole_targets: Whether the target of a text that was cut is the whole text; otherwise the target is
            cut too.
        max_length: Most tokens of a joint sequence; None takes 1,024, or the model's positions if they are
            fewer.
    """

    prompts: Prompts = RELEASED
    ebae: bool = True
    ebar: bool = True
    language_model: bool = True
    distinct: bool = True
    scale: float = 0.1
    averaged: bool = True
    remove_stop_words: bool = True
    whole_targets: bool = False
    max_length: int | None = None

    def __post_init__(self) -> None:
        """Refuse a task without a loss.

        Raises:
            UsageError: Both EBAE and EBAR are off, or the scale is not a number above 0.
        """
        if not (self.ebae or self.ebar):
            raise UsageError("adaptation needs EBAE or EBAR or both")
        if not (self.scale > 0 and isfinite(self.scale)):
            raise UsageError(f"scale must be a number above 0, found {self.scale}")
