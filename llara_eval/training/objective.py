"""The interface between the training loop and an objective."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class Step:
    """The values of one optimizer step, for the log.

    Attributes:
        terms: The loss over all processes, called ``loss``, and its terms.
        tokens: Tokens that this process computed, without padding.
        padded: Tokens that this process computed, with padding.
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
        """The model that is trained; its parameters may be sharded."""

    @property
    def precision(self) -> torch.dtype:
        """The dtype of matrix products, float32 or bfloat16; weights stay float32."""

    def read(self, rows: Numbered, epoch: int) -> Any:
        """Return the inputs of :meth:`step`; called in another thread during the step before.

        Args:
            rows: This process's rows.
            epoch: Passes over the data made before.
        """

    def step(self, inputs: Any) -> Step:
        """Compute the gradients of one optimizer step from what :meth:`read` returned."""
