"""Blocking work, kept off the event loop.

``Offload`` runs a function in a thread and waits for it, at most ``threads_max`` at a time. Unlike
``trio.to_thread.run_sync`` it can *interrupt*: when the waiting task is cancelled it calls the caller's
``interrupt``, which makes the thread end soon (by shutting its socket down, say), and only then lets the
cancellation through. So no thread writes into a file after the task that owned the write has gone, and
nobody waits a minute for a dead server either.

Where somebody wants to know, the CPU a thread takes is put on the ``Account`` of the task that waits for it.

``InlineOffload`` runs the function at once in the event loop's own thread, for deterministic tests: with
``trio.testing.MockClock`` a waiting thread would look like an idle program and make the clock jump.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, TypeVarTuple

import outcome
import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Interrupt = Callable[[], bool]
"""Called on the loop's thread when the waiting task is cancelled. True: the work touches nothing any more and may be
left to end by itself; False: wait for it, it ends soon."""


def thread_clock() -> float:
    """Monotonic seconds for code in threads, where trio's clock is out of reach."""
    return time.monotonic()


@dataclass(slots=True)
class Account:
    """CPU seconds, user and system, that threads took for the tasks of one ``paid_by`` block."""

    cpu_s: float = 0.0


_payer: ContextVar[Account | None] = ContextVar("_payer", default=None)


@contextlib.contextmanager
def paid_by(account: Account) -> Iterator[None]:
    """Threads that this task, and tasks it starts, wait for in the block are paid by ``account``."""
    before = _payer.set(account)
    try:
        yield
    finally:
        _payer.reset(before)


class Offloader(Protocol):
    """Runs blocking functions for async callers."""

    async def run(
        self,
        fn: Callable[[*Ts], T],
        *args: *Ts,
        abandon_on_cancel: bool = False,
        interrupt: Interrupt | None = None,
    ) -> T:
        """Run ``fn(*args)`` and return its result or raise its exception. A checkpoint.

        Args:
            abandon_on_cancel: when cancelled, leave the thread to itself at once. Only for functions whose late
                effects nobody can notice.
            interrupt: see ``Interrupt``. Without it (and without ``abandon_on_cancel``) cancellation waits for ``fn``.
        """
        ...


class Offload:
    """Threads, at most ``threads_max`` of them busy at a time; further callers wait their turn."""

    def __init__(self, threads_max: int) -> None:
        self._limiter = trio.CapacityLimiter(threads_max)
        self._started_s: dict[object, float] = {}

    def __repr__(self) -> str:
        return f"<Offload {self.busy} of {self._limiter.total_tokens} threads busy>"

    @property
    def busy(self) -> int:
        """Threads at work now, interrupted ones that have not ended yet included."""
        return self._limiter.borrowed_tokens

    def waiting_s(self) -> float:
        """How long the oldest call has been in its thread; 0.0 when none is."""
        for started_s in self._started_s.values():
            return thread_clock() - started_s
        return 0.0

    async def run(
        self,
        fn: Callable[[*Ts], T],
        *args: *Ts,
        abandon_on_cancel: bool = False,
        interrupt: Interrupt | None = None,
    ) -> T:
        job: _Job[T] = _Job(self._limiter, self._started_s)
        await self._limiter.acquire_on_behalf_of(job)
        return await job.run(lambda: fn(*args), (lambda: True) if abandon_on_cancel else interrupt)


class InlineOffload:
    """Runs the function in the loop's own thread, after one checkpoint."""

    async def run(
        self,
        fn: Callable[[*Ts], T],
        *args: *Ts,
        abandon_on_cancel: bool = False,
        interrupt: Interrupt | None = None,
    ) -> T:
        await trio.lowlevel.checkpoint()
        return fn(*args)


class _Job(Generic[T]):
    """One call. It, not the waiting task, holds the limiter's token: an abandoned thread keeps its place to its end."""

    def __init__(self, limiter: trio.CapacityLimiter, started_s: dict[object, float]) -> None:
        self._limiter, self._started_s = limiter, started_s
        self._token = trio.lowlevel.current_trio_token()
        self._waiter: trio.lowlevel.Task | None = None
        self._raise_cancel: trio.lowlevel.RaiseCancelT | None = None
        self._account = _payer.get()

    async def run(self, call: Callable[[], T], interrupt: Interrupt | None) -> T:
        self._waiter = trio.lowlevel.current_task()
        self._started_s[self] = thread_clock()
        try:
            trio.lowlevel.start_thread_soon(call if self._account is None else self._metered(call), self._deliver)
        except RuntimeError:
            self._ended()
            raise

        def abort(raise_cancel: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            if interrupt is None:
                return trio.lowlevel.Abort.FAILED
            if interrupt():
                self._waiter = None
                return trio.lowlevel.Abort.SUCCEEDED
            self._raise_cancel = raise_cancel
            return trio.lowlevel.Abort.FAILED

        result: T = await trio.lowlevel.wait_task_rescheduled(abort)
        return result

    def _metered(self, call: Callable[[], T]) -> Callable[[], T]:
        account = self._account
        assert account is not None

        def metered() -> T:
            begun = time.thread_time()
            try:
                return call()
            finally:
                # Nobody else adds to it: its task waits for this thread.
                account.cpu_s += time.thread_time() - begun

        return metered

    def _deliver(self, result: outcome.Outcome[T]) -> None:
        """In the thread, at its end."""
        # An abandoned thread may outlive the loop: then nobody is left to be told.
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._finish, result)

    def _finish(self, result: outcome.Outcome[T]) -> None:
        """In the loop."""
        self._ended()
        if self._waiter is None:
            return
        if self._raise_cancel is not None and isinstance(result, outcome.Error):
            # The error is most likely our own interruption's; the waiter learns that it was cancelled.
            result = outcome.capture(self._raise_cancel)
        trio.lowlevel.reschedule(self._waiter, result)

    def _ended(self) -> None:
        del self._started_s[self]
        self._limiter.release_on_behalf_of(self)
