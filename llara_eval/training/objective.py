"""What the training loop asks of an objective."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn


@dataclass(frozen=True, slots=True)
class Step:
    """What computing the gradients of an optimizer step gave.

    Attributes:
        terms: The loss and its terms over all processes, for the log; ``loss`` is among them.
        tokens: Tokens that this process computed, without padding.
        padded: The same with padding.
    """

    terms: dict[str, float]
    tokens: int
    padded: int


Numbered = Sequence[tuple[int, Mapping[str, Any]]]
"""Rows, each with its number in the data."""


class Objective(Protocol):
    """Computes the loss of an optimizer step and leaves its gradients in the model's parameters."""

    @property
    def model(self) -> nn.Module:
        """What is trained, maybe in shards."""

    def read(self, rows: Numbered, epoch: int) -> Any:
        """Return what :meth:`step` takes; called beside the step before, in another thread.

        Args:
            rows: This process's rows.
            epoch: Passes over the data made before.
        """

    def step(self, inputs: Any) -> Step:
        """Compute the gradients of one optimizer step.

        Args:
            inputs: What :meth:`read` returned.
        """
