"""Randomness as an argument: jitter, scratch names. Nothing here is secret; tests put a seeded generator in."""

import random


def generator() -> random.Random:
    """A generator seeded by the operating system."""
    return random.Random()
