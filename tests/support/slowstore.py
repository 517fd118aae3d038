"""SlowStore: a store behind a line with a round trip and a rate, on trio's clock, so that MockClock measures it.

Every request takes a round trip; bytes of bodies share one line, piece by piece in the order they are ready, as the
packets of several connections would.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import trio

from gatewayfs.runtime.fingerprints import PassingCells
from gatewayfs.s3.store import INLINE_BODY_BYTES_MAX, ObjectInfo, ObjectStore, Progress
from gatewayfs.s3.wrapping import StoreCall, StoreWrapper
from gatewayfs.types import ETag, ObjectKey

T = TypeVar("T")
PIECE_BYTES = 64 << 10


class SlowStore(StoreWrapper):
    """See the module.

    Attributes:
        begun: (trio's time, operation, key, start, length) of every request, in order.
        in_flight: requests under way; in_flight_max: the most there were.
        received_bytes: of bodies, so far.
    """

    def __init__(self, inner: ObjectStore, *, rtt_s: float = 0.02, rate_bytes_per_s: float = 125e6) -> None:
        super().__init__(inner)
        self.rtt_s = rtt_s
        self.rate_bytes_per_s = rate_bytes_per_s
        self.begun: list[tuple[float, str, str, int, int]] = []
        self.in_flight = self.in_flight_max = self.received_bytes = 0
        self._free_at = 0.0

    def count(self, operation: str) -> int:
        """Requests of one operation so far."""
        return sum(1 for _, name, *_ in self.begun if name == operation)

    async def around(self, call: StoreCall, perform: Callable[[], Awaitable[T]]) -> T:
        self._begin(call.operation, call.key, 0, call.bytes_down)
        try:
            await trio.sleep(self.rtt_s)
            result = await perform()
            await self._receive(call.bytes_down)
            return result
        finally:
            self.in_flight -= 1

    async def fetch(
        self,
        key: ObjectKey,
        start: int,
        length: int,
        path: str,
        offset: int,
        *,
        if_match: ETag | None = None,
        progress: Progress | None = None,
        passing: PassingCells | None = None,
    ) -> ObjectInfo:
        self._begin("fetch", key, start, length)
        try:
            await trio.sleep(self.rtt_s)
            # A store goes on sending the object it began with, whatever takes its place meanwhile.
            data = b""
            while len(data) < length:
                wanted = min(INLINE_BODY_BYTES_MAX, length - len(data))
                info, piece = await self.inner.get(key, start + len(data), wanted, if_match=if_match)
                data += piece
            if passing is not None:
                passing.begin()
            for begin in range(0, length, PIECE_BYTES):
                piece = data[begin : begin + PIECE_BYTES]
                await self._receive(len(piece))
                with Path(path).open("r+b") as file:
                    file.seek(offset + begin)
                    file.write(piece)
                if passing is not None:
                    passing.update(piece)
                if progress is not None:
                    progress(begin + len(piece))
            return info
        finally:
            self.in_flight -= 1

    def _begin(self, operation: str, key: str, start: int, length: int) -> None:
        self.begun.append((trio.current_time(), operation, key, start, length))
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)

    async def _receive(self, length: int) -> None:
        if not length:
            return
        self._free_at = max(self._free_at, trio.current_time()) + length / self.rate_bytes_per_s
        await trio.sleep_until(self._free_at)
        self.received_bytes += length
