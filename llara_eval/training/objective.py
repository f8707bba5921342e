"""What the training loop asks of an objective."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn


@dataclass(frozen=True, slots=True)
class Step:
    """What one update's computation gave.

    Attributes:
        terms: The loss and its terms over all processes, for the log; ``loss`` is among them.
        tokens: Real tokens this process computed.
        padded: Those with padding.
    """

    terms: dict[str, float]
    tokens: int
    padded: int


Numbered = Sequence[tuple[int, Mapping[str, Any]]]
"""Rows, each with its number in the data."""


class Objective(Protocol):
    """Computes the loss of an update and leaves its gradients in the model's parameters."""

    @property
    def model(self) -> nn.Module:
        """What is trained, maybe in shards."""

    def read(self, rows: Numbered, epoch: int) -> Any:
        """Return what :meth:`step` takes, made beside the update before, in another thread.

        Args:
            rows: This process's rows.
            epoch: Passes over the data made before.
        """

    def step(self, made: Any) -> Step:
        """Compute the gradients of one update.

        Args:
            made: What :meth:`read` returned.
        """
