"""Programs on the mount first: background work takes what they leave of the interpreter.

One Python process has one interpreter lock. A call of the file system needs it for 0.1 ms, a small upload for more
than 1 ms, and sixteen uploads at a time are always faster at the lock than the one loop that answers calls: a program
that creates files beside a draining queue was measured at 8 % of its idle rate. So uploads ask for their ``turn``.
While calls come in they get turns for a ``share`` of the time of one CPU; while none do, all they want. The share grows
with what waits for upload, smoothly: a burst is done first and uploaded afterwards, but a program that goes on writing
meets uploads that keep pace with it, and where a fuller cache would slow the program down they hold back no more.

What a request costs is measured: the CPU of the threads that work for it (``offload.paid_by``), and an allowance for
what the loop does around it. A turn is charged with what such requests cost lately, and corrected when it is over.
"""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.offload import Account, paid_by

SHARE = 0.2
"""Of one CPU, for background work while calls come in and little waits: a drain goes on at a fifth of its own rate
(figures: bench/README.md, ``foreground``)."""

QUIET_S = 0.01
"""Without a call for so long, nobody is in a hurry. A busy program calls every 0.1 to 1 ms."""

LOOP_S = 0.0008
"""What the loop spends on a request besides its threads: plan, records, tasks."""

HELD_S_MAX = 0.006
"""Of a request's CPU counts at most this: hashing and sending the megabytes of a large body lets go of the lock. Large
files go on at some 250 MB/s beside a busy program."""

COST_S_FIRST = 0.002
"""Assumed of a kind of request that was never seen."""

SMOOTHING = 0.2


def share(backlog: float) -> float:
    """Of one CPU, for background work while calls come in; infinite: it waits for nobody.        [pure]

    Args:
        backlog: what waits to be done, from 0 (nothing) to 1 (as much as shall ever wait).
    """
    pressure = min(1.0, max(0.0, backlog))
    return SHARE / (1.0 - pressure * pressure) if pressure < 1.0 else math.inf


class Precedence:
    """Who may use the interpreter now. Everything happens on the loop's thread.

    Attributes:
        backlog: how much background work waits (see ``share``).
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._called_s = float("-inf")
        self._free_s = float("-inf")
        self._costs_s: dict[str, float] = {}
        self._queue = trio.StrictFIFOLock()
        self.backlog: Callable[[], float] = float

    def __repr__(self) -> str:
        return f"<Precedence {'calls come in' if self._busy else 'quiet'}>"

    def called(self) -> None:
        """A program calls."""
        self._called_s = self._clock.monotonic()

    @property
    def _busy(self) -> bool:
        return self._clock.monotonic() - self._called_s < QUIET_S

    @asynccontextmanager
    async def turn(self, kind: str) -> AsyncIterator[Account]:
        """Wait until one piece of background work may begin; it runs in the block.

        Args:
            kind: of work; pieces of one kind cost about the same.

        Yields the account that the work's threads are charged to.
        """
        if self._busy:
            async with self._queue:
                await self._wait()
        expected_s = self._costs_s.get(kind, COST_S_FIRST)
        self._charge(expected_s)
        account = Account()
        with paid_by(account):
            try:
                yield account
            finally:
                cost_s = LOOP_S + min(account.cpu_s, HELD_S_MAX)
                self._charge(cost_s - expected_s)
                self._costs_s[kind] = expected_s + SMOOTHING * (cost_s - expected_s)

    async def _wait(self) -> None:
        """Until what was charged is worked off, or nobody calls any more."""
        while (pause_s := self._free_s - self._clock.monotonic()) > 0 and self._busy:  # noqa: ASYNC110 - time is what it waits for
            await trio.sleep(min(pause_s, QUIET_S))

    def _charge(self, cost_s: float) -> None:
        """Debts of quiet times are not kept; a credit (it cost less than expected) is."""
        now_s = self._clock.monotonic()
        if not self._busy:
            self._free_s = now_s
            return
        if cost_s > 0:
            self._free_s = max(self._free_s, now_s)
        self._free_s += cost_s / share(self.backlog())
