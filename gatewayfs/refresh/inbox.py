"""Notices that wait for their look, one per key however often it is named; when all of a message are done, so is it.

    message ──> Ticket ──> a Work for each of its keys ──> looked at ──> the last one done: the message may be deleted

Everything on the loop's thread. What is in hand is bounded by whoever puts in (``Following`` stops receiving).
"""

import heapq
import itertools
from collections import OrderedDict
from dataclasses import dataclass, field

import trio

from gatewayfs.refresh.notices import Notice, merged


@dataclass(slots=True, eq=False)
class Ticket:
    """One received message.

    Attributes:
        left: of its keys, how many are not done.
        failed: one of them was refused by the store for good.
    """

    receipt: str
    sent_ns: int
    left: int
    failed: bool = False


@dataclass(slots=True, eq=False)
class Work:
    """One key to look at.

    Attributes:
        since_s: when it was first asked for, on trio's clock.
        tries: looks that came to nothing so far.
    """

    notice: Notice
    tickets: list[Ticket]
    since_s: float
    tries: int = 0


@dataclass(slots=True)
class Inbox:
    """Works in the order they came, and works to be tried later.

    A key is with one taker at a time; what comes for it meanwhile waits until that one is ``done`` or put back.
    """

    _ready: OrderedDict[str, Work] = field(default_factory=OrderedDict)
    _later: dict[str, Work] = field(default_factory=dict)
    _taken: dict[str, Work | None] = field(default_factory=dict)
    """Keys that somebody has, and what came for them since."""
    _heap: list[tuple[float, int, str]] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _news: trio.Event = field(default_factory=trio.Event)

    def __len__(self) -> int:
        return len(self._ready) + len(self._later) + len(self._taken)

    def put(self, notice: Notice, ticket: Ticket) -> None:
        """A message names a key."""
        self._add(Work(notice, [ticket], trio.current_time()), 0.0)

    def put_back(self, work: Work, delay_s: float) -> None:
        """A look came to nothing: once more after ``delay_s``."""
        work.tries += 1
        newer = self._taken.pop(work.notice.key)
        self._add(work, delay_s)
        if newer is not None:
            self._add(newer, delay_s)

    def done(self, work: Work) -> None:
        """This one was looked at."""
        newer = self._taken.pop(work.notice.key)
        if newer is not None:
            self._add(newer, 0.0)

    def _add(self, work: Work, delay_s: float) -> None:
        key = work.notice.key
        other = self._ready.get(key) or self._later.get(key) or self._taken.get(key)
        if other is not None:
            other.notice = merged(other.notice, work.notice)
            other.tickets += work.tickets
            other.since_s = min(other.since_s, work.since_s)
        elif key in self._taken:
            self._taken[key] = work
        elif delay_s > 0:
            self._later[key] = work
            heapq.heappush(self._heap, (trio.current_time() + delay_s, next(self._numbers), key))
        else:
            self._ready[key] = work
        news, self._news = self._news, trio.Event()
        news.set()

    async def next(self) -> Work:
        """The oldest work that is due; waits for one."""
        while True:
            due_s = self._promote()
            if self._ready:
                key, work = self._ready.popitem(last=False)
                self._taken[key] = None
                return work
            with trio.move_on_at(due_s):
                await self._news.wait()

    def _promote(self) -> float:
        """Make ready what is due. Returns when the next one will be, on trio's clock; infinity: never."""
        now_s = trio.current_time()
        while self._heap and self._heap[0][0] <= now_s:
            key = heapq.heappop(self._heap)[2]
            self._ready[key] = self._later.pop(key)
        return self._heap[0][0] if self._heap else float("inf")
