"""Events that are not with everybody yet: kept in the records, bounded, each target at its own pace.

Events are numbered upward. A target is a number: everything up to it is delivered. An event goes when the slowest
target has it, or when too much waits; then the oldest are given up, and counted, for whoever still wanted them.

Whoever has news tells it within the transaction that records what happened: either both are remembered or neither.
Without a target nothing is kept at all.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import trio

from gatewayfs.events import envelope
from gatewayfs.events.envelope import News, Origin
from gatewayfs.events.settings import Randomness
from gatewayfs.meta.env import MetaStore, Transaction
from gatewayfs.meta.schema import Event, Target
from gatewayfs.runtime.clock import Clock

SLICE = 256
"""Records handled without letting anybody else run: about a millisecond."""

OVERHEAD_BYTES = 64
"""What an event costs in the records beside its text."""


@dataclass(slots=True, eq=False)
class Lane:
    """One target's way through the outbox.

    Attributes:
        ahead: delivered, though something before them is not.
        waiting: neither delivered nor given up.
        news: set when there is something new to deliver.
    """

    name: str
    record: Target
    ahead: set[int] = field(default_factory=set)
    waiting: int = 0
    news: trio.Event = field(default_factory=trio.Event)


class Outbox:
    """One share's events.

    Args:
        bytes_max: what waits for targets; beyond, the oldest events are given up.
        targets: their names; none: nothing is kept, and what an earlier run kept is dropped at the start.
        wake: called when there is work for ``turn``.
    """

    def __init__(
        self,
        meta: MetaStore,
        clock: Clock,
        rng: Randomness,
        origin: Origin,
        *,
        bytes_max: int,
        targets: tuple[str, ...],
        wake: Callable[[], None],
    ) -> None:
        self._meta, self._clock, self._rng, self._wake = meta, clock, rng, wake
        self._bytes_max = bytes_max
        self.origin = origin
        self.lanes = {name: Lane(name, Target(0)) for name in targets}
        self.bytes = 0
        self._last = 0
        """The highest number given out."""
        self._seen = 0
        """Counted up to here."""
        self._gone = 0
        """Removed up to here."""
        self._cleared = False

    def __repr__(self) -> str:
        waiting = {lane.name: lane.waiting for lane in self.lanes.values()}
        return f"<Outbox {self.bytes} bytes, waiting {waiting}>"

    def tell(self, tx: Transaction, news: News) -> None:
        """Make an event of ``news``, within the caller's transaction, if there is anybody to take it."""
        if not self.lanes:
            return
        now_ns = self._clock.time_ns()
        self._last += 1
        tx.put_event(self._last, Event(now_ns, envelope.written(self.origin, news, self.new_id(), now_ns)))
        self._wake()

    def new_id(self) -> str:
        """A fresh UUID."""
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    async def open(self) -> None:
        """Find what an earlier run left; before anybody tells anything."""
        meta, known = self._meta, self._meta.targets()
        first = last = 0
        while found := meta.events_after(last, SLICE):
            first, last = first or found[0][0], found[-1][0]
            await trio.lowlevel.checkpoint()
        self._last = max([last, *(record.delivered for record in known.values())])
        self._gone = self._seen = first - 1 if first else self._last
        # A target that is new hears of what happens from now on.
        for lane in self.lanes.values():
            lane.record = known.get(lane.name, Target(self._last))
        while self._count():
            await trio.lowlevel.checkpoint()

    def turn(self) -> bool:
        """Count what is new, give up what is too much; the first time clear up what changed targets leave behind.

        Returns whether more is to be done. Raises LocalError, NoSpace.
        """
        more = self._count()
        if not self._cleared:
            self._register()
            more = self._remove(self._lowest())
            self._cleared = not more
        return self._give_up() or more

    def _register(self) -> None:
        known = self._meta.targets().keys()
        if known != self.lanes.keys():
            with self._meta.transaction() as tx:
                for name in known - self.lanes.keys():
                    tx.put_target(name, None)
                for lane in self.lanes.values():
                    tx.put_target(lane.name, lane.record)

    # ----------------------------------------------------------------- what waits

    def batch(self, lane: Lane, limit: int) -> list[tuple[int, Event]]:
        """Up to ``limit`` events for a target, the oldest first; ``lane.news`` is set when there may be others."""
        while self._count():
            pass
        lane.news = trio.Event()
        found = self._meta.events_after(lane.record.delivered, limit)
        return [(number, event) for number, event in found if number not in lane.ahead]

    def taken(self, lane: Lane, numbers: set[int]) -> None:
        """A target has these. Nothing is recorded before ``advance``."""
        new = {number for number in numbers - lane.ahead if number > lane.record.delivered}
        lane.ahead |= new
        lane.waiting -= len(new)

    def advance(self, lane: Lane) -> None:
        """Record how far a target is, and drop what everybody has. Raises LocalError, NoSpace; then try again."""
        delivered = lane.record.delivered
        for number, _ in self._meta.events_after(delivered, len(lane.ahead)):
            if number not in lane.ahead:
                break
            delivered = number
        if delivered == lane.record.delivered:
            return
        record = msgspec.structs.replace(lane.record, delivered=delivered)
        with self._meta.transaction() as tx:
            tx.put_target(lane.name, record)
        lane.record = record
        lane.ahead = {number for number in lane.ahead if number > delivered}
        while self._remove(self._lowest()):
            pass

    def oldest_ns(self, lane: Lane) -> int:
        """When the oldest event that a target has not taken was made; 0: it has all."""
        found = self._meta.events_after(lane.record.delivered, 1 + len(lane.ahead))
        return next((event.created_ns for number, event in found if number not in lane.ahead), 0)

    def _lowest(self) -> int:
        """What the slowest target has."""
        return min((lane.record.delivered for lane in self.lanes.values()), default=self._last)

    def _count(self) -> bool:
        """Take notice of new events. Returns whether some may be left."""
        found = self._meta.events_after(self._seen, SLICE)
        for number, event in found:
            self.bytes += _cost(event)
            self._seen = number
            for lane in self.lanes.values():
                if number > lane.record.delivered:
                    lane.waiting += 1
                    lane.news.set()
        return len(found) == SLICE

    def _remove(self, up_to: int) -> bool:
        """Drop events that everybody has. Returns whether some may be left."""
        found = [(number, event) for number, event in self._meta.events_after(self._gone, SLICE) if number <= up_to]
        if not found:
            return False
        # Counted before they go, or the count would not know them.
        while self._seen < found[-1][0]:
            self._count()
        with self._meta.transaction() as tx:
            for number, _ in found:
                tx.put_event(number, None)
        self._gone = found[-1][0]
        self.bytes -= sum(_cost(event) for _, event in found)
        return len(found) == SLICE

    def _give_up(self) -> bool:
        """Drop the oldest events while too much waits. Returns whether it is still too much."""
        excess = self.bytes - self._bytes_max
        if excess <= 0:
            return False
        victims: list[int] = []
        for number, event in self._meta.events_after(self._gone, SLICE):
            if excess <= 0:
                break
            victims.append(number)
            excess -= _cost(event)
        now_ns = self._clock.time_ns()
        records = {}
        for lane in self.lanes.values():
            lost = sum(number > lane.record.delivered and number not in lane.ahead for number in victims)
            if lost:
                records[lane.name] = Target(victims[-1], lane.record.dropped + lost, now_ns)
            elif lane.record.delivered < victims[-1]:
                records[lane.name] = msgspec.structs.replace(lane.record, delivered=victims[-1])
        with self._meta.transaction() as tx:
            for name, record in records.items():
                tx.put_target(name, record)
        for name, record in records.items():
            lane = self.lanes[name]
            lane.waiting -= record.dropped - lane.record.dropped
            lane.record = record
            lane.ahead = {number for number in lane.ahead if number > record.delivered}
        self._remove(victims[-1])
        return self.bytes > self._bytes_max


def _cost(event: Event) -> int:
    return len(event.line) + OVERHEAD_BYTES
