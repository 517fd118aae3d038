"""One target is given what waits for it, again and again until it takes it.

An event is in the records before it is offered and goes only after it was taken, so a crash in between makes it be
offered again: at least once. A target that does not take what it is given is left alone for a while that grows; that
concerns nobody else.
"""

import logging
from collections.abc import Sequence

import trio

from gatewayfs.errors import FsError, LocalError
from gatewayfs.events.outbox import Lane, Outbox
from gatewayfs.events.settings import DeliveryFailed, Randomness, Taker, TargetStatus
from gatewayfs.meta.schema import Event
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.failpoints import failpoint, register

log = logging.getLogger(__name__)

_DELIVER_BEFORE = register("events.deliver.before", "events that wait; their target was given nothing of them")
_DELIVER_AFTER = register("events.deliver.after", "the target has the events; the record says they wait")

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0
"""Five minutes: a web service that was down for a night gets its events soon after it is back."""


class Delivery:
    """What one target is given."""

    def __init__(self, outbox: Outbox, lane: Lane, taker: Taker, clock: Clock, rng: Randomness) -> None:
        self._outbox, self._lane, self._taker, self._clock, self._rng = outbox, lane, taker, clock, rng
        self._attempts = 0
        self._delivered = 0
        self._failing_since_ns = 0
        self._last_error = ""

    def __repr__(self) -> str:
        return f"<Delivery to {self._lane.name}, {self._lane.waiting} waiting, {self._attempts} failures>"

    async def run(self) -> None:
        """Deliver until cancelled; what is under way then is delivered again at the next start."""
        while True:
            problem = await self._round()
            if problem is None:
                self._took_it()
            else:
                await trio.sleep(self._refused(problem))

    async def _round(self) -> str | None:
        """Wait for something to deliver, and do. Returns what went wrong, or None."""
        outbox, lane, taker = self._outbox, self._lane, self._taker
        try:
            outbox.advance(lane)
            batch = outbox.batch(lane, taker.lines_max * taker.parallel)
            if not batch:
                await lane.news.wait()
                return None
            problems: list[str] = []
            async with trio.open_nursery() as nursery:
                for start in range(0, len(batch), taker.lines_max):
                    nursery.start_soon(self._offer, batch[start : start + taker.lines_max], problems)
            outbox.advance(lane)
        except (LocalError, FsError) as problem:
            return f"the records of events cannot be changed: {problem}"
        return problems[0] if problems else None

    async def _offer(self, events: Sequence[tuple[int, Event]], problems: list[str]) -> None:
        try:
            failpoint(_DELIVER_BEFORE)
            await self._taker.deliver([event.line for _, event in events])
            failpoint(_DELIVER_AFTER)
        except DeliveryFailed as problem:
            problems.append(str(problem))
        except Exception as problem:
            log.exception("unexpected error while delivering events to %s; will be tried again", self._lane.name)
            problems.append(f"{type(problem).__name__}: {problem}")
        else:
            self._delivered += len(events)
            self._outbox.taken(self._lane, {number for number, _ in events})

    def _took_it(self) -> None:
        if self._failing_since_ns:
            log.info("events are delivered to the %s again", self._lane.name)
        self._attempts = self._failing_since_ns = 0

    def _refused(self, problem: str) -> float:
        """Returns the pause before the next try, in seconds."""
        if not self._failing_since_ns:
            self._failing_since_ns = self._clock.time_ns()
            log.warning("events are not delivered to the %s, will be tried again: %s", self._lane.name, problem)
        self._last_error = problem
        self._attempts += 1
        highest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._attempts, 30))
        return self._rng.uniform(FIRST_PAUSE_S, highest)

    def status(self) -> TargetStatus:
        """How the target is doing."""
        lane = self._lane
        oldest_ns = self._outbox.oldest_ns(lane)
        return TargetStatus(
            waiting=lane.waiting,
            oldest_age_s=max(0.0, (self._clock.time_ns() - oldest_ns) / 1e9) if oldest_ns else 0.0,
            delivered=self._delivered,
            dropped=lane.record.dropped,
            dropped_ns=lane.record.dropped_ns,
            failing_since_ns=self._failing_since_ns,
            last_error=self._last_error,
        )
