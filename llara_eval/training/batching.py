"""Grouping of sequences into micro-batches within a token budget, with little padding or none."""

from collections.abc import Sequence

PADDING = 0.02
"""Largest share of padding among the tokens of an optimizer step."""


def token_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group sequences of similar length, so that padding stays below ``PADDING`` over all batches.

    Args:
        lengths: Tokens of each of n sequences.
        budget: Most tokens of a batch, padding included; a longer sequence is a batch of its own.

    Returns:
        Numbers of the sequences of each batch, longest sequences first; every sequence is in one batch.
    """
    batches: list[list[int]] = []
    longest = tokens = 0  # of the sequences in the last batch
    earlier_padding = total = 0
    for number in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        total += lengths[number]
        padded = longest * (len(batches[-1]) + 1) if batches else 0
        padding = earlier_padding + padded - tokens - lengths[number]
        if not batches or padded > budget or padding > PADDING * (total + padding):
            earlier_padding += longest * len(batches[-1]) - tokens if batches else 0
            batches.append([])
            longest, tokens = lengths[number], 0
        batches[-1].append(number)
        tokens += lengths[number]
    return batches


def packed_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group sequences that need no padding, in their order, within a budget of tokens for each batch."""
    batches: list[list[int]] = []
    remaining = 0
    for number, length in enumerate(lengths):
        if not batches or length > remaining:
            batches.append([])
            remaining = budget
        batches[-1].append(number)
        remaining -= length
    return batches


def split_to(batches: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """Halve the largest batches until there are ``count``, which all processes of a sharded model share.

    Some batches are empty if there are fewer sequences than that.
    """
    halved = [list(batch) for batch in batches]
    while len(halved) < count:
        largest = max(halved, key=len)
        half = len(largest) // 2
        halved.append(largest[half:])
        del largest[half:]
    return halved
