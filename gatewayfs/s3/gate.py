"""One question instead of a storm: is the store back?

When the store cannot be reached, or refuses our credentials, every request would fail in turn. The first such failure
closes the gate, for everybody who uses this store: uploads, look-ups, listings and reads. From then on nothing is sent
but one small probe at a time, with pauses that grow while nobody asks, and any answer of the store opens the gate.

The probe is a request of its own, never somebody's: a request that fails by itself (a body that a proxy chokes on)
would keep the gate closed for all others.

    Gate         what is known of the store, and when to ask next        [pure]
    GatedStore   holds requests back while the gate is closed: they share one probe and go on when it is answered
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from gatewayfs.errors import BodyChanged, BucketNotFound, CredentialsRejected, StoreError, StoreUnreachable
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.randomness import Randomness
from gatewayfs.s3.store import ObjectStore
from gatewayfs.s3.wrapping import StoreCall, StoreWrapper

T = TypeVar("T")

FIRST_PAUSE_S = 1.0

NO_STORE = (StoreUnreachable, CredentialsRejected, BucketNotFound)
"""Failures that say nothing of the one request: the next would fail alike."""

ASKED_PAUSE_S = 1.0
"""Somebody who waits for an answer does not wait for the pause to end, but probes are never closer together than half
of this (and one and a half at most: there is jitter)."""


def backoff_s(attempts: int, longest_s: float, rng: Randomness) -> float:
    """Exponential back-off with full jitter: between 1 s and 2^attempts s, never more than ``longest_s``."""
    highest = min(longest_s, FIRST_PAUSE_S * 2.0 ** min(attempts, 30))
    return rng.uniform(min(FIRST_PAUSE_S, highest), highest)


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Since when, and why, nothing gets through."""

    since_ns: int
    reason: str


class Gate:
    """Open, or closed with a time for the next probe."""

    def __init__(self, longest_pause_s: float, rng: Randomness) -> None:
        self._longest_pause_s = longest_pause_s
        self._rng = rng
        self._attempts = 0
        self.closed: Unreachable | None = None
        self.problem: StoreError | None = None
        """What closed it."""
        self.probe_at_s = 0.0
        self.asked_at_s = 0.0
        """When a probe is allowed to those who wait for an answer."""
        self.answered_s = float("-inf")
        """When the store last said anything."""
        self.opened: Callable[[], None] = lambda: None
        """Called when it opens."""

    def __repr__(self) -> str:
        return f"<Gate closed: {self.closed.reason}>" if self.closed else "<Gate open>"

    def unanswered(self, now_s: float, now_ns: int, problem: StoreError) -> None:
        """A request found no store. Failures of requests that were already under way do not lengthen the pause."""
        self.problem = problem
        self.asked_at_s = now_s + ASKED_PAUSE_S * self._rng.uniform(0.5, 1.5)
        if self.closed is None:
            self.closed = Unreachable(now_ns, str(problem))
            self._attempts = 0
        elif now_s < self.probe_at_s:
            return
        self._attempts += 1
        self.closed = Unreachable(self.closed.since_ns, str(problem))
        self.probe_at_s = now_s + backoff_s(self._attempts, self._longest_pause_s, self._rng)

    def answered(self, now_s: float) -> None:
        """The store said something, whatever it was."""
        self.answered_s = now_s
        if self.closed is not None:
            self.closed = None
            self.opened()

    def probe_now(self, now_s: float) -> None:
        """Somebody believes that it is back: do not wait for the pause to end."""
        self.probe_at_s = min(self.probe_at_s, now_s)


async def watched(gate: Gate, clock: Clock, request: Awaitable[T]) -> T:
    """Await a request of the store, and tell the gate what its answer, or the lack of one, says of the store."""
    try:
        result = await request
    except NO_STORE as problem:
        gate.unanswered(clock.monotonic(), clock.time_ns(), problem)
        raise
    except BodyChanged:
        raise  # found out here, before the store could say anything
    except StoreError:
        gate.answered(clock.monotonic())
        raise
    gate.answered(clock.monotonic())
    return result


class GatedStore(StoreWrapper):
    """``inner``, asked only while the gate is open.

    Args:
        gate: shared with whoever else should know.
        prefix: where the probe may list one key.
    """

    def __init__(self, inner: ObjectStore, gate: Gate, clock: Clock, prefix: str) -> None:
        super().__init__(inner)
        self._gate = gate
        self._clock = clock
        self._prefix = prefix
        self._probe: trio.Event | None = None
        self._failures = 0

    async def around(self, call: StoreCall, perform: Callable[[], Awaitable[T]]) -> T:
        """See ``StoreWrapper``. Raises what the probe ended with, when it finds no store."""
        while self._gate.closed is not None:
            await self._probed()
        return await watched(self._gate, self._clock, perform())

    async def _probed(self) -> None:
        """Return when a probe was answered (or given up by whoever made it); raise when it found no store."""
        failures = self._failures
        if self._probe is not None:
            await self._probe.wait()
        else:
            await self._make_probe()
        problem = self._gate.problem
        if self._failures != failures and self._gate.closed is not None and problem is not None:
            raise type(problem)(str(problem), code=problem.code, status=problem.status) from problem

    async def _make_probe(self) -> None:
        self._probe = trio.Event()
        try:
            await trio.sleep(max(0.0, self._gate.asked_at_s - self._clock.monotonic()))
            if self._gate.closed is not None:
                await watched(self._gate, self._clock, probe(self.inner, self._prefix))
        except NO_STORE:
            self._failures += 1
        except StoreError:
            return  # an answer, too
        finally:
            self._probe.set()
            self._probe = None


async def probe(store: ObjectStore, prefix: str) -> None:
    """The smallest request that any store answers. Raises StoreError; what is not in ``NO_STORE`` is an answer."""
    await store.list_page(prefix, delimiter=False, max_keys=1)
