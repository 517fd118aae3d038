"""One entry in a worker's hands: what comes of it, and what becomes of the entry then.

Failures of one entry cost that entry time, never another one: transient ones back off with jitter, permanent ones are
parked with their reason, an unreachable store closes the gate for all with a single probe (``s3/gate.py``); an entry
that gets no answer while others do has trouble of its own and backs off alone. An exception nobody foresaw is logged
with its traceback and backs off like the rest.
"""

import logging
from collections.abc import Callable

from gatewayfs.errors import (
    CacheDiskFailed,
    CorruptRecord,
    GatewayError,
    LocalError,
    NoSpace,
    ObjectArchived,
    RangeNotSatisfiable,
    StoreAccessDenied,
    StoreError,
    StoreRefused,
)
from gatewayfs.meta.schema import Parked
from gatewayfs.runtime.randomness import Randomness
from gatewayfs.s3.gate import NO_STORE, backoff_s
from gatewayfs.upload.context import Context
from gatewayfs.upload.drains import Drains
from gatewayfs.upload.entries import Entry, Target
from gatewayfs.upload.reconcile import Blocked, Done, Later, Outcome, Reconciler, Sent, Stays
from gatewayfs.upload.reporting import name_of
from gatewayfs.upload.schedule import Schedule
from gatewayfs.upload.status import ErrorNote, ParkedEntry

log = logging.getLogger(__name__)

PERMANENT = (
    StoreAccessDenied,
    ObjectArchived,
    StoreRefused,
    RangeNotSatisfiable,
    CorruptRecord,
    CacheDiskFailed,
)
"""Waiting does not help: park."""

PARKED_FIRST_RETRY_S = 300.0
"""A parked entry is tried again after this, then after twice as long, up to ``parked_retry_s``: rights get repaired."""


class Worker:
    """Examines entries and gives them back to the schedule.

    Args:
        rng: jitter of back-offs.
        drains: who waits for entries; looked at after each.
        wake: makes the dispatcher look again.
    """

    def __init__(
        self,
        ctx: Context,
        schedule: Schedule,
        reconciler: Reconciler,
        rng: Randomness,
        drains: Drains,
        wake: Callable[[], None],
    ) -> None:
        self._ctx, self._schedule, self._reconciler, self._rng = ctx, schedule, reconciler, rng
        self._drains, self._wake = drains, wake

    async def work(self, entry: Entry) -> None:
        """Bring the entry, which is taken, as far as it gets now. Raises nothing."""
        target = entry.target
        try:
            outcome = await self._reconciler.examine(target)
        except NO_STORE as problem:
            self._note_error(target, problem)
            self._unanswered(entry, problem)
        except PERMANENT as problem:
            self._park(entry, problem)
        except GatewayError as problem:
            self._note_error(target, problem)
            self._back_off(entry, problem)
        except Exception as problem:
            log.exception("unexpected error while uploading %s; will be tried again", name_of(self._ctx.meta, target))
            self._note_error(target, problem)
            self._back_off(entry, problem)
        else:
            self._came_back(entry, outcome)
        self._drains.looked_at(target)
        self._wake()

    def _came_back(self, entry: Entry, outcome: Outcome) -> None:
        now_s = self._ctx.clock.monotonic()
        match outcome:
            case Done():
                self._schedule.settled(entry, now_s)
            case Blocked(on):
                if on in self._schedule or (isinstance(on, str) and on in self._ctx.keys):
                    self._schedule.block(entry, on, now_s)
                else:
                    self._schedule.put_back(entry)
            case Stays(why):
                self._schedule.set_aside(entry, why)
            case Later(delay_s, settle):
                self._schedule.later(entry, now_s, delay_s, settle=settle)
            case Sent():
                entry.forced = entry.urgent = False
                self._schedule.later(entry, now_s, 0.0, settle=True)

    def _unanswered(self, entry: Entry, problem: StoreError) -> None:
        now_s = self._ctx.clock.monotonic()
        if 0 < entry.unanswered_s < self._ctx.gate.answered_s:
            # Since it failed like this before, the store has answered others.
            self._back_off(entry, problem)
        else:
            self._ctx.gate.unanswered(now_s, self._ctx.clock.time_ns(), problem)
            self._schedule.put_back(entry)
        entry.unanswered_s = now_s

    def _back_off(self, entry: Entry, problem: BaseException) -> None:
        delay_s = backoff_s(entry.attempts + 1, self._ctx.settings.retry_s_max, self._rng)
        self._schedule.failed(entry, self._ctx.clock.monotonic(), delay_s, str(problem))

    def _park(self, entry: Entry, problem: GatewayError) -> None:
        target = entry.target
        self._note_error(target, problem)
        if isinstance(problem, ObjectArchived) and isinstance(target, int):
            self._ctx.hooks.archived(target)
        delay_s = min(self._ctx.settings.parked_retry_s, PARKED_FIRST_RETRY_S * 2.0 ** min(entry.attempts, 30))
        code = problem.code if isinstance(problem, StoreError) else ""
        parked = Parked(self._ctx.clock.time_ns(), str(problem), code or type(problem).__name__)
        if isinstance(target, int) and self._ctx.meta.inode(target) is not None:
            try:
                with self._ctx.meta.transaction() as tx:
                    tx.put_parked(target, parked)
            except (LocalError, NoSpace) as unrecorded:
                # The disk that lacks the bytes does not take the reason, either.
                log.warning("that an upload waits cannot be recorded: %s", unrecorded)
                self._back_off(entry, problem)
                return
        self._schedule.parked(entry, self._ctx.clock.monotonic(), delay_s, str(problem))
        if entry.parked:
            log.warning("upload of %s is parked: %s", name_of(self._ctx.meta, target), problem)
            self._drains.gave_up(ParkedEntry(target, name_of(self._ctx.meta, target), parked))

    def _note_error(self, target: Target, problem: BaseException) -> None:
        message = f"{type(problem).__name__}: {problem}"
        self._ctx.counters.errors.append(ErrorNote(self._ctx.clock.time_ns(), name_of(self._ctx.meta, target), message))
