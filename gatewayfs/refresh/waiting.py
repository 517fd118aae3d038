"""Waiting for the bucket, with an end.

Two sides wait. A *request* is sent again while it fails in a way that may pass (``StoreError.transient``), for as long
as somebody is interested in its answer. A *caller* waits for a shared piece of work and gives up after its own
deadline, which never cancels the work: others may wait for it too, and the next call finds it further on.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import trio

from gatewayfs.errors import (
    FsError,
    GatewayError,
    ObjectNotFound,
    PermissionDenied,
    StoreAccessDenied,
    StoreError,
    StoreUnreachable,
    Unavailable,
)

BACKOFF_S = 0.2
BACKOFF_S_MAX = 5.0

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def as_fs_error(error: GatewayError) -> FsError:
    """A fresh error for a POSIX caller, its cause set: one failure may have many waiters."""
    kind: type[FsError] = Unavailable
    if isinstance(error, FsError):
        kind = type(error)
    elif isinstance(error, StoreAccessDenied):
        kind = PermissionDenied
    made = kind(str(error))
    made.__cause__ = error
    return made


class Requests:
    """Sends requests; counts nothing, decides only when to try again."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.last_error = ""

    async def send(self, request: Callable[[*Ts], Awaitable[T]], *arguments: *Ts, until: Callable[[], float]) -> T:
        """Await ``request(*arguments)``, and again while it fails transiently and trio's clock is before ``until()``.

        ``until`` is asked after each failure, so new waiters prolong the trying. Raises the last StoreError.
        """
        delay_s = BACKOFF_S
        while True:
            try:
                with trio.fail_after(self._timeout_s):
                    return await request(*arguments)
            except ObjectNotFound:
                raise
            except StoreError as error:
                failure = error
            except trio.TooSlowError:
                failure = StoreUnreachable(f"no answer within {self._timeout_s:g} s")
            self.last_error = str(failure)
            if not failure.transient or trio.current_time() + delay_s > until():
                raise failure
            await trio.sleep(delay_s)
            delay_s = min(2 * delay_s, BACKOFF_S_MAX)


class Shared:
    """A piece of work under way in the background, which any number of callers wait for.

    ``wake`` lets them look again; ``finish`` ends it. ``wanted_until`` is the latest deadline of any caller so far.
    """

    def __init__(self) -> None:
        self.finished = False
        self.error: GatewayError | None = None
        self.ended = trio.Event()
        self.wanted_until = 0.0
        self._news = trio.Event()

    def wake(self) -> None:
        """Something changed that callers may be waiting for."""
        news, self._news = self._news, trio.Event()
        news.set()

    def finish(self, error: GatewayError | None = None) -> None:
        self.finished = True
        self.error = error
        self.ended.set()
        self.wake()

    def want(self, until: float) -> None:
        """Somebody will wait until then, on trio's clock."""
        self.wanted_until = max(self.wanted_until, until)

    def until(self) -> float:
        """How long a failed request is worth repeating, on trio's clock."""
        return self.wanted_until

    async def wait(self, enough: Callable[[], bool], until: float, what: str) -> None:
        """Return when ``enough()`` holds or the work ended well.

        Raises:
            Unavailable, PermissionDenied: it failed, or it is ``until`` on trio's clock.
        """
        self.want(until)
        with trio.move_on_at(until):
            while not self.finished and not enough():
                await self._news.wait()
        if self.error is not None and not enough():
            raise as_fs_error(self.error)
        if not self.finished and not enough():
            raise Unavailable(f"the bucket has not answered in time: {what}")
