"""Texts of made-up words, drawn from a seed."""

import random

VOCABULARY = [first + second + third for first in "bdfgk" for second in "aeiou" for third in "lmnrst"]


def prose(seed: int, length: int) -> list[str]:
    return random.Random(seed).choices(VOCABULARY, k=length)


def text(seed: int, length: int) -> str:
    return " ".join(prose(seed, length))
