"""Which entry is looked at next, and when.        [pure]

An entry is an inode number (something may differ from the bucket) or an object key (a doomed object). The records in
``meta`` are the durable queue; this is the order in memory, rebuilt from them at start.

Nobody waits for ever while later ones go:

    lanes      small, big and huge entries have workers of their own, so none of them can take all
    age        in a lane the oldest goes first, and an entry keeps its age whatever happens to it until it has arrived:
               put back, blocked, failed, or changed while it was being sent. So whoever comes later comes after it
    deadline   a file that never rests is due ``settle_max_s`` after its first change; what is blocked looks again by
               itself; back-offs and parking have longest times

News about an entry somebody is working on is remembered and makes it ready again afterwards.

Moving a due time later costs nothing: the heap keeps the earlier time and the entry is weighed again when it pops.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping

from gatewayfs.upload.entries import Aside, Entry, Lane, State, Target
from gatewayfs.upload.lanequeue import LaneQueue

BLOCKED_CHECK_S = 300.0
"""A blocked entry looks again after this even if nobody called it: an oversight may cost minutes, never an upload."""

ADVANCE_MAX = 1000
"""Entries made ready at a time, some milliseconds: after a restart a million may be due at once."""


class Schedule:
    """Entries in due order.

    Args:
        settle_s, settle_max_s: see ``UploadSettings``.
        workers: entries of each lane that may be taken at a time.
        lane_of: which lane an entry belongs to; asked when it becomes due.
        is_open: whether a file is open for writing; asked when it becomes due.
        stays: why an entry that is due stays here, None when it does not; asked when it becomes due and once more when
            it is its turn.
        size_of: bytes of an entry that stays here.
        on_aside: told of each entry that is set aside.
    """

    def __init__(
        self,
        *,
        settle_s: float,
        settle_max_s: float,
        workers: Mapping[Lane, int],
        lane_of: Callable[[Target], Lane],
        is_open: Callable[[Target], bool],
        stays: Callable[[Target], Aside | None] = lambda target: None,
        size_of: Callable[[Target], int] = lambda target: 0,
        on_aside: Callable[[Target, Aside], None] = lambda target, why: None,
    ) -> None:
        self._settle_s, self._settle_max_s = settle_s, settle_max_s
        self._lane_of, self._is_open = lane_of, is_open
        self._stays, self._size_of, self._on_aside = stays, size_of, on_aside
        self.aside_count = dict.fromkeys(Aside, 0)
        self.aside_bytes = dict.fromkeys(Aside, 0)
        self._entries: dict[Target, Entry] = {}
        self._due: list[tuple[float, int, Entry]] = []
        self._lanes = {lane: LaneQueue(workers[lane]) for lane in Lane}
        self._blocked: dict[Target, set[Target]] = {}
        self._tickets = itertools.count(1)
        self.overlooked = 0
        """How often a blocked entry had to help itself: each one is a missed ``wake``. Tests want 0."""

    def __repr__(self) -> str:
        return f"<Schedule {len(self._entries)} entries, {self.taken_count} in flight>"

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, target: Target) -> bool:
        return target in self._entries

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def get(self, target: Target) -> Entry | None:
        """The entry of ``target``, if there is one."""
        return self._entries.get(target)

    @property
    def taken_count(self) -> int:
        """Entries in workers' hands."""
        return sum(queue.busy for queue in self._lanes.values())

    @property
    def ready_count(self) -> int:
        """Entries that wait for nothing but a worker; a few that left their place since may be among them."""
        return sum(len(queue.ready) + len(queue.urgent) for queue in self._lanes.values())

    # ------------------------------------------------------------------ news

    def notice(self, target: Target, now_s: float, *, first_s: float | None = None) -> Entry:
        """Something about ``target`` changed: look at it when it has settled. O(log n)."""
        entry = self._entries.get(target)
        if entry is None:
            first = now_s if first_s is None else first_s
            entry = self._entries[target] = Entry(target, first, first, first)
            self._push(entry, self.due_s(entry))
            return entry
        entry.last_s, entry.pause_s = max(entry.last_s, now_s), 0.0
        if entry.state is State.TAKEN:
            entry.again = True
        elif entry.parked:
            entry.parked, entry.not_before_s = False, 0.0
            self._push(entry, self.due_s(entry))
        elif entry.state is State.ASIDE:
            self._rejoin(entry, now_s)
        elif entry.state is State.WAITING:
            self._push(entry, self.due_s(entry))
        return entry

    def ensure(self, target: Target, now_s: float) -> None:
        """``target`` must be looked at, by our own doing: at once unless it is open or already has its time."""
        entry = self._entries.get(target)
        if entry is None:
            self.notice(target, now_s, first_s=now_s - self._settle_s)
        elif entry.state is State.TAKEN or entry.parked:
            self.notice(target, now_s)
        else:
            self.reconsider(entry)

    def reconsider(self, entry: Entry) -> None:
        """The rules of what stays here changed, or a name did: does this one?"""
        if entry.state is State.ASIDE or (entry.state is not State.TAKEN and not entry.parked):
            why = self._stays(entry.target)
            if entry.state is State.ASIDE and why is not entry.aside:
                self._rejoin(entry, entry.last_s)
            elif entry.state is not State.ASIDE and why is Aside.HELD:
                self._put_aside(entry, why)

    def unblock(self, target: Target) -> None:
        """Make a blocked entry look again now."""
        entry = self._entries.get(target)
        if entry is not None and entry.state is State.BLOCKED:
            entry.blocked_on = None
            self._make_ready(entry)

    def heard(self, target: Target, forget: bool) -> bool:
        """Whether there was news about an entry in a worker's hands since it was taken; ``forget`` them."""
        entry = self._entries.get(target)
        if entry is None:
            return False
        heard, entry.again = entry.again, entry.again and not forget
        return heard

    def hurry(self, target: Target, now_s: float, *, urgent: bool = False) -> None:
        """Look at ``target`` without settling, ``urgent``: before others; back-off and parking stay."""
        entry = self._entries.get(target)
        if entry is None:
            entry = self.notice(target, now_s)
        if entry.state is State.ASIDE:
            return
        entry.forced, entry.urgent = True, entry.urgent or urgent
        if entry.state is State.WAITING:
            self._push(entry, max(now_s, self.due_s(entry)))
        elif entry.state is State.READY and urgent:
            self._make_ready(entry)

    def retry(self, target: Target, now_s: float, *, urgent: bool = False) -> None:
        """Forget back-off and parking of ``target``; look at it now."""
        entry = self._entries.get(target)
        if entry is not None:
            entry.not_before_s, entry.pause_s, entry.parked, entry.attempts = 0.0, 0.0, False, 0
            self.hurry(target, now_s, urgent=urgent)

    # ------------------------------------------------------------------ time

    def next_due_s(self) -> float:
        """When the next waiting entry may be due; infinity when none waits."""
        while self._due and not self._valid(self._due[0]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else float("inf")

    def advance(self, now_s: float) -> None:
        """Make ready what is due, the first ``ADVANCE_MAX`` of it: ``next_due_s`` tells whether there is more."""
        for _ in range(ADVANCE_MAX):
            if self.next_due_s() > now_s:
                return
            entry = heapq.heappop(self._due)[2]
            entry.heap_s = float("inf")
            if entry.state is State.BLOCKED:
                self.overlooked += 1
                self.unblock(entry.target)
                continue
            wanted = self.due_s(entry)
            if wanted > now_s:
                self._push(entry, wanted)
            else:
                self._make_ready(entry)

    def take(self, now_s: float) -> Entry | None:
        """The oldest ready entry of a lane with a free worker, now taken; None when there is none."""
        for queue in self._lanes.values():
            while (entry := queue.pop()) is not None:
                if (why := self._stays(entry.target)) is not None:
                    self._put_aside(entry, why)
                    continue
                entry.state, entry.again, entry.taken_s = State.TAKEN, False, now_s
                entry.taken_urgent = entry.urgent
                queue.taken(entry, +1)
                return entry
        return None

    # ------------------------------------------------------------------ what became of it

    def settled(self, entry: Entry, now_s: float) -> None:
        """Nothing is left to do, unless there was news meanwhile."""
        self._give_back(entry)
        entry.attempts, entry.error, entry.parked, entry.unanswered_s = 0, "", False, 0.0
        if entry.again:
            # What arrived was another change: this one begins now, and nobody has asked to hurry it.
            entry.age_s = entry.first_s = now_s
            entry.forced = entry.urgent = False
            self._wait(entry, 0.0)
        else:
            del self._entries[entry.target]
        self.wake(entry.target)

    def later(self, entry: Entry, now_s: float, delay_s: float, *, settle: bool = False) -> None:
        """Look again after ``delay_s``, or at news; with ``settle`` when it has settled once more."""
        self._give_back(entry)
        if settle:
            entry.first_s = entry.last_s = now_s
        entry.pause_s = 0.0 if entry.again else now_s + delay_s
        self._wait(entry, 0.0)
        self.wake(entry.target)

    def failed(self, entry: Entry, now_s: float, delay_s: float, error: str) -> None:
        """It went wrong; try again after ``delay_s``. News does not shorten that."""
        self._give_back(entry)
        entry.attempts += 1
        entry.error = error
        self._wait(entry, now_s + delay_s)

    def parked(self, entry: Entry, now_s: float, delay_s: float, error: str) -> None:
        """Waiting will not help: put it aside. Fresh news brings it back."""
        self._give_back(entry)
        entry.attempts += 1
        entry.error, entry.forced, entry.urgent = error, False, False
        entry.parked = not entry.again
        self._wait(entry, now_s + (delay_s if entry.parked else 0.0))
        self.wake(entry.target)

    def set_aside(self, entry: Entry, why: Aside) -> None:
        """It stays here (``stays``), until that changes or there is news."""
        self._give_back(entry)
        entry.attempts, entry.error, entry.parked, entry.unanswered_s = 0, "", False, 0.0
        if entry.again:
            self._wait(entry, 0.0)
        else:
            self._put_aside(entry, why)

    def put_back(self, entry: Entry) -> None:
        """It could not even be tried: ready again, in its old place."""
        self._give_back(entry)
        self._make_ready(entry)

    def block(self, entry: Entry, on: Target, now_s: float) -> None:
        """Wait until ``wake(on)``: a key that another worker uses, or an inode that must move first."""
        self._give_back(entry)
        if entry.again:
            self._make_ready(entry)
            return
        entry.state, entry.blocked_on = State.BLOCKED, on
        self._blocked.setdefault(on, set()).add(entry.target)
        entry.heap_s = float("inf")
        self._push(entry, now_s + BLOCKED_CHECK_S)

    def wake(self, on: Target) -> None:
        """Whoever was blocked on ``on`` is ready again."""
        for target in self._blocked.pop(on, ()):
            entry = self._entries.get(target)
            if entry is not None and entry.state is State.BLOCKED and entry.blocked_on == on:
                entry.blocked_on = None
                self._make_ready(entry)

    # ------------------------------------------------------------------ inside

    def due_s(self, entry: Entry) -> float:
        """When a waiting entry will be due."""
        if entry.forced:
            return max(entry.not_before_s, entry.pause_s)
        latest = entry.first_s + self._settle_max_s
        settled = latest if self._is_open(entry.target) else min(entry.last_s + self._settle_s, latest)
        return max(settled, entry.not_before_s, entry.pause_s)

    def _push(self, entry: Entry, due_s: float) -> None:
        if due_s < entry.heap_s:
            entry.heap_s, entry.ticket = due_s, next(self._tickets)
            heapq.heappush(self._due, (due_s, entry.ticket, entry))

    def _valid(self, item: tuple[float, int, Entry]) -> bool:
        entry = item[2]
        waits = entry.state is State.WAITING or entry.state is State.BLOCKED
        return waits and entry.ticket == item[1] and entry.heap_s == item[0]

    def _put_aside(self, entry: Entry, why: Aside) -> None:
        entry.state, entry.aside, entry.aside_bytes = State.ASIDE, why, self._size_of(entry.target)
        entry.blocked_on, entry.heap_s, entry.parked = None, float("inf"), False
        entry.forced = entry.urgent = False
        self.aside_count[why] += 1
        self.aside_bytes[why] += entry.aside_bytes
        # Who waits for it must look again; not at once, because it may be a long chain of those that stay.
        for target in self._blocked.pop(entry.target, ()):
            waiting = self._entries.get(target)
            if waiting is not None and waiting.state is State.BLOCKED and waiting.blocked_on == entry.target:
                waiting.blocked_on = None
                self._wait(waiting, 0.0)
        self._on_aside(entry.target, why)

    def _rejoin(self, entry: Entry, now_s: float) -> None:
        """Back among those that wait, settled or not."""
        assert entry.aside is not None
        self.aside_count[entry.aside] -= 1
        self.aside_bytes[entry.aside] -= entry.aside_bytes
        entry.aside, entry.aside_bytes = None, 0
        # The longest settle time is about changes that go on, not about the time spent here.
        entry.first_s = max(entry.first_s, now_s)
        self._wait(entry, 0.0)

    def _make_ready(self, entry: Entry) -> None:
        if (why := self._stays(entry.target)) is not None:
            self._put_aside(entry, why)
            return
        entry.state, entry.lane, entry.heap_s = State.READY, self._lane_of(entry.target), float("inf")
        entry.ready_ticket = next(self._tickets)
        self._lanes[entry.lane].add(entry)

    def _give_back(self, entry: Entry) -> None:
        assert entry.state is State.TAKEN, f"{entry} is in nobody's hands"
        self._lanes[entry.lane].taken(entry, -1)
        entry.state, entry.doing = State.WAITING, ""

    def _wait(self, entry: Entry, not_before_s: float) -> None:
        entry.state, entry.not_before_s = State.WAITING, not_before_s
        entry.heap_s = float("inf")
        self._push(entry, self.due_s(entry))
