"""Randomness as an argument: jitter, scratch names. Nothing here is secret; tests put a seeded generator in."""

import random
from typing import Protocol


class Randomness(Protocol):
    """The part of ``random.Random`` that jitter needs."""

    def uniform(self, a: float, b: float, /) -> float: ...


def generator() -> random.Random:
    """A generator seeded by the operating system."""
    return random.Random()
