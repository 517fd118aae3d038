"""Bandwidth limits: what goes out and what comes in, each through a ``Valve`` of its own.

Every byte of every request is counted, heads and bodies. Who waits:

    no body (HEAD, LIST, COPY, DELETE, answers to uploads)   never; later bodies wait for what it took
    a body up to ``Valve.grain_bytes``                       on the event loop, until all of it is paid for; then it
                                                             goes at full speed
    a longer body                                            the same for its beginning, then in its worker thread,
                                                             between small pieces, so that a new limit counts at once

Longer bodies hold a thread while they wait, so only some of them may go at a time (slots): the other threads stay free
for what never waits. Uploads and downloads share nothing, so neither can starve the other.

Downloads are slowed by reading slowly: the kernel's receive window fills up and holds the sender back. What lies in the
kernel (64 KiB for a connection that was never fast) has used the line already; that is why small bodies are paid for
before they are asked for, and why few long ones go at a time when the limit is low.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

import trio

from gatewayfs.runtime.bucket import BURST_S, Booking, TokenBucket
from gatewayfs.runtime.offload import thread_clock

GRAIN_BYTES_MAX = 1 << 20
"""Bodies up to here may go unpaced: on a line slower than the limit each is done within seconds all the same."""

HEAD_BYTES = 1024
"""Booked with each body for its head. What is not used is given back."""

PIECE_S = 0.05
"""A paced body moves in pieces of this much time: a dozen of them side by side still move twice a second."""

PIECE_BYTES_MIN = 256
PIECE_BYTES_MAX = 256 * 1024

LINE_MAX = 8
"""Bodies waiting in line at a time, the rest queue behind: so a paced body's next piece never waits for a crowd."""

LOOK_S = 0.25
"""Who waits looks this often whether the limit changed or the request was given up."""

WINDOW_S = 10
"""The current rate is the mean over this many seconds."""

DEFAULT_CONNECTIONS = 32

GivenUp = Callable[[], bool]
"""Whether nobody wants a request's result any more."""


class Valve:
    """One direction. Bytes may pass from several threads; limits change and requests begin on the event loop.

    Args:
        connections: requests at a time; three eighths of them at most are longer bodies.
        monotonic: the clock, in seconds; any thread may ask it.
        sleep: how a thread waits.
    """

    def __init__(
        self,
        connections: int = DEFAULT_CONNECTIONS,
        monotonic: Callable[[], float] = thread_clock,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._mutex = threading.Lock()
        self._monotonic = monotonic
        self._sleep = sleep
        self._bucket = TokenBucket(monotonic())
        self._limit: int | None = None
        self._long_max, self._medium_max = max(1, connections // 4), max(1, connections // 8)
        self._long = trio.CapacityLimiter(self._long_max)
        # A lane of its own for bodies up to GRAIN_BYTES_MAX: parts of large files keep no small file waiting.
        self._medium = trio.CapacityLimiter(self._medium_max)
        self._line = trio.CapacityLimiter(LINE_MAX)
        self._passed: deque[list[int]] = deque()  # [second, bytes] of the last WINDOW_S seconds
        self.total_bytes = 0
        """Passed since the start."""

    def __repr__(self) -> str:
        return f"<Valve {self._limit} bytes/s, {self.total_bytes} passed>"

    @property
    def limit(self) -> int | None:
        """Bytes per second; None for no limit."""
        return self._limit

    def set_limit(self, limit: int | None) -> None:
        """Change the limit; everything under way heeds it within ``LOOK_S``."""
        with self._mutex:
            self._limit = limit
            self._bucket.set_rate(limit, self._monotonic())
        # As many as the limit feeds in a second with a MiB each, but two, so that one may wait for its answer.
        fed = self._long_max if limit is None else max(2, limit >> 20)
        self._long.total_tokens = min(self._long_max, fed)
        self._medium.total_tokens = min(self._medium_max, fed)

    @property
    def grain_bytes(self) -> int:
        """Bodies up to this size are paid for before they begin; longer ones are paced."""
        limit = self._limit
        return GRAIN_BYTES_MAX if limit is None else min(GRAIN_BYTES_MAX, int(limit * BURST_S))

    @property
    def piece_bytes(self) -> int | None:
        """How much a paced body moves at a time; None without a limit."""
        limit = self._limit
        return None if limit is None else max(PIECE_BYTES_MIN, min(PIECE_BYTES_MAX, int(limit * PIECE_S)))

    def rate_bytes_per_s(self) -> float:
        """The mean over the last ten full seconds."""
        with self._mutex:
            second = int(self._monotonic())
            self._forget(second)
            return sum(count for at, count in self._passed if at != second) / WINDOW_S

    def note(self, length_bytes: int, unpaid_bytes: int) -> None:
        """Count bytes that pass now; for ``unpaid_bytes`` of them later bodies wait."""
        with self._mutex:
            now_s = self._monotonic()
            self.total_bytes += length_bytes
            second = int(now_s)
            if self._passed and self._passed[-1][0] == second:
                self._passed[-1][1] += length_bytes
            else:
                self._forget(second)
                self._passed.append([second, length_bytes])
            if unpaid_bytes:
                self._bucket.take(unpaid_bytes, now_s)

    def wait(self, length_bytes: int, given_up: GivenUp) -> Booking:
        """Wait in this thread until ``length_bytes`` are paid for or the request is ``given_up``."""
        booking, wait_s = self._look(self._book(length_bytes))
        while wait_s and not given_up():
            self._sleep(min(wait_s, LOOK_S))
            booking, wait_s = self._look(booking)
        return booking

    async def wait_in_line(self, length_bytes: int) -> Booking:
        """Wait on the event loop until ``length_bytes`` are paid for. When cancelled nothing is booked."""
        async with self._line:
            booking, wait_s = self._look(self._book(length_bytes))
            try:
                while wait_s:
                    await trio.sleep(min(wait_s, LOOK_S))
                    booking, wait_s = self._look(booking)
            except trio.Cancelled:
                self.give_back(booking.line, length_bytes)
                raise
            return booking

    def give_back(self, line: int, unused_bytes: int) -> None:
        """Undo (some of) a booking."""
        with self._mutex:
            self._bucket.give_back(line, unused_bytes, self._monotonic())

    def lane(self, length_bytes: int) -> trio.CapacityLimiter:
        """Whose slot a body longer than ``grain_bytes`` takes."""
        return self._medium if length_bytes <= GRAIN_BYTES_MAX else self._long

    def _book(self, length_bytes: int) -> Booking:
        with self._mutex:
            return self._bucket.book(length_bytes, self._monotonic())

    def _look(self, booking: Booking) -> tuple[Booking, float]:
        """How long that booking has to wait; after a change of the limit the same bytes are booked again."""
        with self._mutex:
            now_s = self._monotonic()
            wait_s = self._bucket.wait_s(booking, now_s)
            if wait_s is None:
                booking = self._bucket.book(booking.length_bytes, now_s)
                wait_s = self._bucket.wait_s(booking, now_s)
            assert wait_s is not None
            return booking, wait_s

    def _forget(self, second: int) -> None:
        while self._passed and self._passed[0][0] < second - WINDOW_S:
            self._passed.popleft()


class Passage:
    """One request's way through both valves: begun and ended on the event loop, asked by its connection in between.

    Args:
        sends_bytes, receives_bytes: length of the body that is uploaded or downloaded; None where there is none.
    """

    def __init__(
        self, throttle: "Throttle", given_up: GivenUp, *, sends_bytes: int | None, receives_bytes: int | None
    ) -> None:
        self._throttle = throttle
        self._given_up = given_up
        self._body: Valve | None = None
        if sends_bytes is not None:
            self._body = throttle.upload
        elif receives_bytes is not None:
            self._body = throttle.download
        self._length_bytes = sends_bytes or receives_bytes or 0
        self._paced = self._length_bytes > GRAIN_BYTES_MAX
        self._credit_bytes = 0  # paid for, not passed yet
        self._credit_line = 0
        self._slot: trio.CapacityLimiter | None = None
        self.waited_s = 0.0
        """How long the request was held up after it began."""

    async def begin(self) -> None:
        """Wait until the request may begin. Without a body or a limit neither waits nor checkpoints."""
        valve = self._body
        if valve is None or valve.limit is None:
            return
        grain_bytes = valve.grain_bytes
        self._paced = self._length_bytes > grain_bytes
        if self._paced:
            lane = valve.lane(self._length_bytes)
            await lane.acquire_on_behalf_of(self)
            self._slot = lane
        paid_bytes = min(self._length_bytes, grain_bytes) + HEAD_BYTES
        self._credit(await valve.wait_in_line(paid_bytes))

    def end(self) -> None:
        """The request is over, or was never begun."""
        if self._slot is not None:
            self._slot.release_on_behalf_of(self)
            self._slot = None
        if self._credit_bytes and self._body is not None:
            self._body.give_back(self._credit_line, self._credit_bytes)
            self._credit_bytes = 0

    def may_send(self, length_bytes: int) -> int:
        """Wait as the limit asks; returns how many of the next ``length_bytes`` to send now, at least 1."""
        length_bytes = self._allowed(self._throttle.upload, length_bytes)
        self._note(self._throttle.upload, length_bytes)
        return length_bytes

    def may_receive(self, length_bytes: int) -> int:
        """Wait as the limit asks; returns how many bytes to ask for now, at least 1, at most ``length_bytes``."""
        return self._allowed(self._throttle.download, length_bytes)

    def received(self, length_bytes: int) -> None:
        """Count what came."""
        self._note(self._throttle.download, length_bytes)

    def _allowed(self, valve: Valve, length_bytes: int) -> int:
        if valve is not self._body or not self._paced:
            return length_bytes
        if not self._credit_bytes and (piece_bytes := valve.piece_bytes) is not None:
            began_s = thread_clock()
            self._credit(valve.wait(piece_bytes, self._given_up))
            self.waited_s += thread_clock() - began_s
        return min(length_bytes, self._credit_bytes or length_bytes)

    def _note(self, valve: Valve, length_bytes: int) -> None:
        paid_bytes = min(self._credit_bytes, length_bytes) if valve is self._body else 0
        self._credit_bytes -= paid_bytes
        valve.note(length_bytes, length_bytes - paid_bytes)

    def _credit(self, booking: Booking) -> None:
        self._credit_bytes, self._credit_line = booking.length_bytes, booking.line


class Throttle:
    """Both directions of one share.

    Args:
        connections, monotonic, sleep: as for ``Valve``.
    """

    def __init__(
        self,
        connections: int = DEFAULT_CONNECTIONS,
        monotonic: Callable[[], float] = thread_clock,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.upload = Valve(connections, monotonic, sleep)
        self.download = Valve(connections, monotonic, sleep)

    def __repr__(self) -> str:
        return f"<Throttle up {self.upload!r} down {self.download!r}>"

    def passage(
        self, given_up: GivenUp = lambda: False, *, sends_bytes: int | None = None, receives_bytes: int | None = None
    ) -> Passage:
        """One request's way through; see ``Passage``."""
        return Passage(self, given_up, sends_bytes=sends_bytes, receives_bytes=receives_bytes)


UNTHROTTLED = Throttle().passage()
"""For connections outside of any share's requests."""
