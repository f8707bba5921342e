"""The task of adaptation: one frozen dataclass, which the recipes fill."""

from dataclasses import dataclass
from math import isfinite
from typing import Literal

from adapters.llara.stop_words import StopWords
from adapters.llara.templates import RELEASED, Prompts
from llara_eval.core.errors import UsageError

USUAL_LENGTH = 1024
"""Most tokens of a joint sequence in the released code; a model with fewer positions reads fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """The task that a model learns in adaptation; by default the released objective, over whole batches.

    Attributes:
        prompts: The prompts of both sides.
        ebae: Whether the SELF embedding learns to predict the text's own tokens.
        ebar: Whether the NEXT embedding learns to predict the next text's.
        language_model: Whether the loss has a language-model term over the text's tokens (released code;
            the paper has no such term).
        distinct: Whether a token of a target counts once (released code) or as often as it occurs (paper).
        scale: Factor of both bag-of-words terms: 0.1 in the released code, 1 in the paper.
        averaged: Whether the two terms are averaged (released code) or added (paper).
        token_mean: Whether the loss of a target is the mean over its tokens (released code), or their sum
            (paper, section 3).
        stop_words: What targets lose beside punctuation: our list of English stop words (``own``), NLTK's
            (``nltk``, as in the released code), or nothing, and no punctuation either (``none``).
        whole_targets: Whether the target of a text that was cut is the whole text; otherwise the target is
            cut too.
        lm_mean: Whether the language-model term is the mean over the tokens of the batch (``token``), or the
            mean over devices of a mean on each (``device``, as in the released code). There, the other terms
            are averaged on each device too, over its texts with a target.
        device_batch: Rows of a device at a time, for ``lm_mean=device``.
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
    token_mean: bool = True
    stop_words: StopWords = "own"
    whole_targets: bool = False
    lm_mean: Literal["token", "device"] = "token"
    device_batch: int = 1
    max_length: int | None = None

    def __post_init__(self) -> None:
        """Refuse a task without a loss.

        Raises:
            UsageError: Both EBAE and EBAR are off, or a number is out of range.
        """
        if not (self.ebae or self.ebar):
            raise UsageError("adaptation needs EBAE or EBAR or both")
        if not (self.scale > 0 and isfinite(self.scale)):
            raise UsageError(f"scale must be a number above 0, found {self.scale}")
        if self.device_batch < 1:
            raise UsageError(f"device_batch must be at least 1, found {self.device_batch}")

    def block(self, batch_size: int) -> int:
        """Return the number of consecutive rows of a batch whose terms are averaged first.

        Raises:
            UsageError: The batch is not a multiple of that.
        """
        size = batch_size if self.lm_mean == "token" else self.device_batch
        if batch_size % size:
            raise UsageError(f"a batch of {batch_size} rows is no multiple of device_batch={size}")
        return size
