"""FaultyStore: any store, failing when it is told to.

    store.fail("put", StoreBusy("slow down"))                     the next put fails before it has any effect
    store.fail("put", StoreUnreachable("lost"), after=True)       ... takes effect, and its answer is lost
    store.fail("get", error, skip=2, times=3)                     the third to fifth get fail
    store.fail(ANY, StoreUnreachable("no route"), times=FOREVER)  until ``heal()``
    store.truncate("fetch")                                       half of the bytes arrive, then the line breaks
    held = store.hold("put")                                      the next put hangs until ``held.release()``

Faults of one operation are served in the order they were set; each is used up ``times`` times.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import trio

from gatewayfs.errors import StoreError, StoreUnreachable
from gatewayfs.runtime.fingerprints import PassingCells
from gatewayfs.s3.store import Deletion, ObjectInfo, ObjectStore, Progress
from gatewayfs.s3.wrapping import StoreCall, StoreWrapper
from gatewayfs.types import ETag, ObjectKey

T = TypeVar("T")
ANY = "any"
FOREVER = 1 << 62


@dataclass(slots=True)
class Fault:
    """One programmed failure. ``seen`` counts the calls it has made fail."""

    operation: str
    error: StoreError | None = None
    after: bool = False
    skip: int = 0
    times: int = 1
    key: str | None = None
    truncates: bool = False
    seen: int = 0
    reached: trio.Event = field(default_factory=trio.Event)
    released: trio.Event = field(default_factory=trio.Event)
    holds: bool = False

    def release(self) -> None:
        """Let held calls go on."""
        self.released.set()

    def applies(self, call: StoreCall) -> bool:
        return self.operation in (ANY, call.operation) and self.key in (None, call.key) and self.times > 0


class FaultyStore(StoreWrapper):
    """A store whose calls fail as programmed."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self._faults: list[Fault] = []
        self.calls: list[StoreCall] = []

    def fail(
        self,
        operation: str,
        error: StoreError,
        *,
        after: bool = False,
        skip: int = 0,
        times: int = 1,
        key: str | None = None,
    ) -> Fault:
        """Make calls of ``operation`` (on ``key``) raise ``error``, before or after they took effect."""
        return self._add(Fault(operation, error, after, skip, times, key))

    def truncate(self, operation: str = "fetch", *, skip: int = 0, times: int = 1) -> Fault:
        """Make fetches write half of their bytes and fail; other operations take effect and fail."""
        error = StoreUnreachable("connection lost with half of the answer missing")
        return self._add(Fault(operation, error, after=True, skip=skip, times=times, truncates=True))

    def hold(self, operation: str, *, skip: int = 0, times: int = 1, key: str | None = None) -> Fault:
        """Make calls wait, before they have any effect, until ``release()``. ``reached`` tells that one waits."""
        return self._add(Fault(operation, None, skip=skip, times=times, key=key, holds=True))

    def unreachable(self) -> Fault:
        """From now on nothing gets through, until ``heal()``."""
        return self.fail(ANY, StoreUnreachable("no route to the store"), times=FOREVER)

    def heal(self) -> None:
        """Forget every fault; held calls go on."""
        for fault in self._faults:
            fault.release()
        self._faults.clear()

    async def around(self, call: StoreCall, perform: Callable[[], Awaitable[T]]) -> T:
        self.calls.append(call)
        fault = self._next(call)
        if fault is None:
            return await perform()
        fault.seen += 1
        fault.reached.set()
        if fault.holds:
            await fault.released.wait()
            return await perform()
        if fault.after and not (fault.truncates and call.operation == "fetch"):
            await perform()
        await trio.lowlevel.checkpoint()
        assert fault.error is not None
        raise fault.error

    async def delete_many(self, deletions: Sequence[Deletion]) -> dict[ObjectKey, StoreError]:
        """Refuses the keys a fault of "delete" names, as DeleteObjects answers for each key."""
        refused: dict[ObjectKey, StoreError] = {}
        for deletion in deletions:
            named = any(fault.operation == "delete" and fault.key == deletion.key for fault in self._faults)
            fault = self._next(StoreCall("delete", deletion.key)) if named else None
            if fault is not None and fault.error is not None:
                fault.seen += 1
                refused[deletion.key] = fault.error
        rest = [deletion for deletion in deletions if deletion.key not in refused]
        return refused | (await super().delete_many(rest) if rest else {})

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
        call = StoreCall("fetch", key, bytes_down=length)
        fault = next((fault for fault in self._faults if fault.applies(call)), None)
        if fault is not None and fault.truncates and not fault.skip:
            _, data = await self.inner.get(key, start, length // 2, if_match=if_match)
            with Path(path).open("r+b") as file:
                file.seek(offset)
                file.write(data)
            if progress is not None:
                progress(len(data))
        return await super().fetch(
            key, start, length, path, offset, if_match=if_match, progress=progress, passing=passing
        )

    def _add(self, fault: Fault) -> Fault:
        self._faults.append(fault)
        return fault

    def _next(self, call: StoreCall) -> Fault | None:
        for fault in self._faults:
            if not fault.applies(call):
                continue
            if fault.skip:
                fault.skip -= 1
                return None
            fault.times -= 1
            return fault
        return None
