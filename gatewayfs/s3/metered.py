"""MeteredStore: counts what goes to the store and how it answers, for ``status`` and the metrics.

Placed directly around the client, so that every try counts. A snapshot is one frozen value; nothing here waits.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

from gatewayfs.errors import BadResponse, StoreError, StoreUnreachable
from gatewayfs.runtime.clock import Clock
from gatewayfs.s3.store import ObjectStore
from gatewayfs.s3.wrapping import StoreCall, StoreWrapper

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OperationStatistics:
    """Calls of one operation that have ended; ``errors`` counts those that raised StoreError."""

    requests: int = 0
    errors: int = 0
    seconds: float = 0.0
    seconds_max: float = 0.0


@dataclass(frozen=True, slots=True)
class LastError:
    """The latest error that says something about the store, not about one object."""

    message: str
    operation: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """What a MeteredStore has seen since it was made.

    ``errors`` counts by class name. Bytes count bodies of calls that succeeded. ``unreachable_since_ns`` is the wall
    clock at the first of the failures since the store last answered, or None while it answers.
    """

    operations: Mapping[str, OperationStatistics]
    errors: Mapping[str, int]
    bytes_up: int
    bytes_down: int
    in_flight: int
    last_error: LastError | None
    unreachable_since_ns: int | None

    @property
    def requests(self) -> int:
        return sum(operation.requests for operation in self.operations.values())


class MeteredStore(StoreWrapper):
    """Counts calls, bytes, errors and durations."""

    def __init__(self, inner: ObjectStore, clock: Clock) -> None:
        super().__init__(inner)
        self._clock = clock
        self._operations: dict[str, OperationStatistics] = {}
        self._errors: Counter[str] = Counter()
        self._bytes_up = 0
        self._bytes_down = 0
        self._in_flight = 0
        self._last_error: LastError | None = None
        self._unreachable_since_ns: int | None = None

    def statistics(self) -> StoreStatistics:
        """Return a snapshot."""
        return StoreStatistics(
            operations=MappingProxyType(dict(self._operations)),
            errors=MappingProxyType(dict(self._errors)),
            bytes_up=self._bytes_up,
            bytes_down=self._bytes_down,
            in_flight=self._in_flight,
            last_error=self._last_error,
            unreachable_since_ns=self._unreachable_since_ns,
        )

    async def around(self, call: StoreCall, perform: Callable[[], Awaitable[T]]) -> T:
        started = self._clock.monotonic()
        self._in_flight += 1
        try:
            result = await perform()
        except StoreError as error:
            self._ended(call, started, error)
            raise
        else:
            self._ended(call, started, None)
            self._bytes_up += call.bytes_up
            self._bytes_down += call.bytes_down
            return result
        finally:
            self._in_flight -= 1

    def _ended(self, call: StoreCall, started: float, error: StoreError | None) -> None:
        seconds = self._clock.monotonic() - started
        before = self._operations.get(call.operation, OperationStatistics())
        self._operations[call.operation] = replace(
            before,
            requests=before.requests + 1,
            errors=before.errors + (error is not None),
            seconds=before.seconds + seconds,
            seconds_max=max(before.seconds_max, seconds),
        )
        if isinstance(error, StoreUnreachable | BadResponse):
            if self._unreachable_since_ns is None:
                self._unreachable_since_ns = self._clock.time_ns()
        else:
            self._unreachable_since_ns = None
        if error is not None:
            self._errors[type(error).__name__] += 1
            if is_about_the_store(error):
                self._last_error = LastError(str(error), call.operation, self._clock.time_ns())


def is_about_the_store(error: StoreError) -> bool:
    """Tell errors that an administrator wants to see from answers like "not found" that are everyday life."""
    return error.transient or error.status not in (404, 412, 416)
