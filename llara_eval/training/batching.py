"""Which sequences make a micro-batch: by a token budget, with little padding or none."""

from collections.abc import Sequence

PADDING = 0.02
"""Largest share of padding among the tokens of an optimizer step."""


def token_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group sequences of similar length, so that padding stays below ``PADDING`` over all batches.

    Args:
        lengths: Tokens of each of n sequences.
        budget: The most tokens of a batch, padding included; a longer sequence is a batch of its own.

    Returns:
        Row numbers of each batch, longest sequences first; every row exactly once.
    """
    batches: list[list[int]] = []
    longest = tokens = closed = 0  # of the batch that is filled: both; padding of those before it
    seen = 0
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        seen += lengths[row]
        padded = longest * (len(batches[-1]) + 1) if batches else 0
        padding = closed + padded - tokens - lengths[row]
        if not batches or padded > budget or padding > PADDING * (seen + padding):
            closed += longest * len(batches[-1]) - tokens if batches else 0
            batches.append([])
            longest, tokens = lengths[row], 0
        batches[-1].append(row)
        tokens += lengths[row]
    return batches


def row_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group sequences that need no padding: as many as the budget takes, one after the other."""
    batches: list[list[int]] = []
    left = 0
    for row, length in enumerate(lengths):
        if not batches or length > left:
            batches.append([])
            left = budget
        batches[-1].append(row)
        left -= length
    return batches


def split_to(batches: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """Cut the largest batches in two until there are ``count``: processes that shard must agree on it.

    Some batches are empty if there are fewer rows than that.
    """
    out = [list(batch) for batch in batches]
    while len(out) < count:
        largest = max(out, key=len)
        half = len(largest) // 2
        out.append(largest[half:])
        del largest[half:]
    return out
