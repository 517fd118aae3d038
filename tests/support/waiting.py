"""Waiting for what is going to be true."""

import time
from collections.abc import Callable

POLL_S = 0.005


def until(condition: Callable[[], bool], what: str, late_s: float) -> float:
    """Wait for it, at most ``late_s``; returns how long that took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < late_s, f"waited {late_s:g} s for {what}"
        time.sleep(POLL_S)
    return time.monotonic() - begun
