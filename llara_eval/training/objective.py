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


class Objective(Protocol):
    """Computes the loss of an update and leaves its gradients in the model's parameters."""

    @property
    def model(self) -> nn.Module:
        """What is trained, maybe in shards."""

    def step(self, rows: Sequence[tuple[int, Mapping[str, Any]]], epoch: int) -> Step:
        """Compute one update's gradients.

        Args:
            rows: This process's rows, each with its number in the data.
            epoch: Passes over the data made before.
        """
