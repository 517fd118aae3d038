"""One lane of the schedule: what is ready, and how many workers it may have.        [pure]

Urgent entries, which a program waits for in fsync, go first. While others are ready they may have three quarters of the
workers: programs that fsync without end must not keep the rest here for ever.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from gatewayfs.upload.entries import Entry, State


@dataclass(slots=True)
class LaneQueue:
    """One lane; ``busy`` of its ``workers`` have an entry, ``busy_urgent`` of those an urgent one."""

    workers: int
    busy: int = 0
    busy_urgent: int = 0
    ready: list[tuple[float, int, Entry]] = field(default_factory=list)
    urgent: list[tuple[float, int, Entry]] = field(default_factory=list)

    def heaps(self) -> Iterator[list[tuple[float, int, Entry]]]:
        """In the order in which the next entry is looked for."""
        first = self.busy_urgent < max(1, self.workers - self.workers // 4)
        yield from (self.urgent, self.ready) if first else (self.ready, self.urgent)

    def add(self, entry: Entry) -> None:
        """A ready entry, with its ticket."""
        heapq.heappush(self.urgent if entry.urgent else self.ready, (entry.age_s, entry.ready_ticket, entry))

    def pop(self) -> Entry | None:
        """The next entry that is still ready, if a worker is free."""
        for heap in self.heaps() if self.busy < self.workers else ():
            while heap:
                _, ticket, entry = heapq.heappop(heap)
                if entry.state is State.READY and entry.ready_ticket == ticket:
                    return entry
        return None

    def taken(self, entry: Entry, change: int) -> None:
        """One more (or, -1, less) in a worker's hands."""
        self.busy += change
        self.busy_urgent += change * entry.taken_urgent
