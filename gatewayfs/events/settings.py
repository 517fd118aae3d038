"""What the events of a share are told when they are built, and what they say about themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gatewayfs.errors import GatewayError


class DeliveryFailed(GatewayError):
    """A target did not take an event. The message is shown and logged: it holds no secrets."""


class Randomness(Protocol):
    """The part of ``random.Random`` that identities and jitter need."""

    def uniform(self, a: float, b: float, /) -> float: ...

    def getrandbits(self, k: int, /) -> int: ...


class Taker(Protocol):
    """Somebody who takes events.

    Attributes:
        name: what it is called in records and ``status``.
        lines_max: events it takes at once.
        parallel: deliveries under way at a time.
    """

    @property
    def name(self) -> str: ...

    @property
    def lines_max(self) -> int: ...

    @property
    def parallel(self) -> int: ...

    async def deliver(self, lines: Sequence[bytes]) -> None:
        """Take these events, each one line without its end; when it returns they are safe with the taker.

        Raises DeliveryFailed; then none, some or all of them may have arrived.
        """
        ...


@dataclass(frozen=True, slots=True)
class EventSettings:
    """Numbers of one share's events.

    Attributes:
        settle_s: an upload is told this long after the last change of its file.
        outbox_bytes_max: what waits for targets; beyond, the oldest events are given up.
    """

    settle_s: float = 60.0
    outbox_bytes_max: int = 64 << 20


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """One target now."""

    waiting: int
    oldest_age_s: float
    delivered: int
    """Since the start."""
    dropped: int
    """Given up because too many waited, ever."""
    dropped_ns: int
    """When last; 0 never."""
    failing_since_ns: int
    """0: it takes what it is given."""
    last_error: str


@dataclass(frozen=True, slots=True)
class EventStatus:
    """All of it."""

    targets: Mapping[str, TargetStatus]
    settling: int
    """Uploads that will be told when their files' writers rest."""
    notifications: int
    """Open requests of notify-when-uploaded."""
    outbox_bytes: int
