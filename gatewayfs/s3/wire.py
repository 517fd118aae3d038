"""What an exchange with the store is: its reply, how long it may wait, and how another thread ends it.

Two errors come out of an exchange, whatever happened underneath:

    StoreUnreachable   the connection broke, fell silent, took too long, or ended inside a reply
    BadResponse        what came is not HTTP, or longer than the caller can have asked for
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gatewayfs.errors import StoreUnreachable
from gatewayfs.runtime.throttle import Passage

ERROR_BODY_BYTES_MAX = 64 * 1024
RECEIVE_BYTES = 256 * 1024
"""A body is read in pieces of this size: measured throughput is flat from here on."""

BUFFER_BYTES = 32 * 1024
"""What is read at a time while lines are looked for. Longer pieces of a body pass it by, straight to where they go."""

SEND_BYTES = 1 << 20
"""Bodies leave in slices of this size, so that the silence timeout restarts with each."""

Sink = Callable[[memoryview], None]
"""Takes the next bytes of a body; the view is only valid during the call."""


class Deadline:
    """When to give up: after ``idle_s`` of silence, and ``total_s`` from now altogether, by the clock ``monotonic``.

    ``held_up_s`` is added to the total: time that a bandwidth limit took, which is nobody's fault.
    """

    __slots__ = ("_at", "_idle_s", "_monotonic", "held_up_s")

    def __init__(self, total_s: float, idle_s: float, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._at = monotonic() + total_s
        self._idle_s = idle_s
        self.held_up_s = 0.0

    def next_wait_s(self) -> float:
        """Return how long the next wait may take; raises StoreUnreachable when none may."""
        left = self._at + self.held_up_s - self._monotonic()
        if left <= 0:
            raise StoreUnreachable("timed out: the store did not finish in time")
        return min(left, self._idle_s)


class NoReply(StoreUnreachable):
    """The connection ended before the first byte of a reply: typical of one that idled too long in the pool."""


@dataclass(slots=True)
class Reply:
    """Status line, headers (lower-case names, repeated ones joined with commas) and body of one answer.

    ``body`` is empty when a sink took it; ``body_bytes`` counts it either way.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    body_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Expect:
    """How to take a reply's body.

    ``body_bytes_max`` bounds a success's body in memory. With ``sink_for``, a reply's head is shown to it first, and
    the sink it returns, if any, gets the body instead.
    """

    body_bytes_max: int
    sink_for: Callable[[Reply], Sink | None] | None = None


class Interruptible(Protocol):
    """A connection that can be shut from another thread."""

    def shut(self, interruption: "Interruption") -> None:
        """End both directions, if what the connection serves is still the exchange of ``interruption``."""
        ...


class Interruption:
    """Ends an exchange from another thread. One per call; usable for the call's several exchanges."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._connection: Interruptible | None = None
        self._interrupted = False

    @property
    def interrupted(self) -> bool:
        return self._interrupted

    def interrupt(self) -> bool:
        """Shut the connection. True when there is none yet: then none will be used, nothing more will happen."""
        with self._mutex:
            self._interrupted = True
            if self._connection is None:
                return True
            self._connection.shut(self)
            return False

    def attach(self, connection: Interruptible) -> None:
        """Make ``connection`` the one that ``interrupt`` shuts; raises StoreUnreachable when it was called before."""
        with self._mutex:
            if self._interrupted:
                raise StoreUnreachable("interrupted")
            self._connection = connection

    def detach(self) -> None:
        """The exchange is over."""
        with self._mutex:
            self._connection = None


@dataclass(slots=True)
class Exchange:
    """One request and its reply, as far as the connection is concerned."""

    deadline: Deadline
    interruption: Interruption
    passage: Passage
    reused: bool = False
    """It got a connection that had served others before."""
    sent: bool = False
    received: bool = False

    def may_send(self, length_bytes: int) -> int:
        """Wait as the bandwidth limit asks; return how many of the next ``length_bytes`` to send."""
        length_bytes = self.passage.may_send(min(length_bytes, SEND_BYTES))
        self.deadline.held_up_s = self.passage.waited_s
        return length_bytes

    def may_receive(self, length_bytes: int) -> int:
        """Wait as the bandwidth limit asks; return how many bytes to ask for."""
        length_bytes = self.passage.may_receive(length_bytes)
        self.deadline.held_up_s = self.passage.waited_s
        return length_bytes


class _Serving(threading.local):
    """Which exchange this thread is working on: urllib3 hands nothing of ours down to its connections."""

    exchange: Exchange
    _room: memoryview | None = None

    def room(self) -> memoryview:
        """Where this thread receives the bodies of files, ``RECEIVE_BYTES`` of it."""
        if self._room is None:
            self._room = memoryview(bytearray(RECEIVE_BYTES))
        return self._room


serving = _Serving()
