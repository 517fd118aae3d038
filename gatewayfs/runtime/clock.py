"""Time as an argument.

Records carry wall-clock nanoseconds; deadlines and back-off use trio's clock, which tests replace by MockClock.
Nothing outside ``runtime/`` asks the operating system for the time.
"""

import time
from typing import Protocol

import trio


class Clock(Protocol):
    """Where the rest of the program gets its time from."""

    def time_ns(self) -> int:
        """Wall clock, nanoseconds since 1970 UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds of trio's clock; only differences mean anything."""
        ...


class SystemClock:
    """The machine's clock."""

    def time_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return trio.current_time()


class ManualClock:
    """A wall clock that moves one microsecond per look, and further when told; trio's clock for the rest."""

    def __init__(self, start_ns: int = 1_700_000_000_000_000_000) -> None:
        self.now_ns = start_ns

    def time_ns(self) -> int:
        self.now_ns += 1_000
        return self.now_ns

    def monotonic(self) -> float:
        return trio.current_time()

    def advance(self, seconds: float) -> None:
        """Move the wall clock by ``seconds``."""
        self.now_ns += int(seconds * 1e9)
