"""The durable write-back of one share: ``notice`` what changed, and it gets to the bucket.

    vfs, refresh ── notice ──> Schedule ── take ──> worker: Reconciler.examine ──> records ── settled, later, parked

The records in ``meta`` are the truth: a dirty inode or a doomed key is work to do, whoever made it so, and ``run``
finds it again after any crash. ``notice`` only says "look at this one", costs microseconds, and may be said too often.

Failures of one entry cost that entry time, never another one (``working.py``).
"""

import logging
from collections.abc import Callable, Iterable

import trio
from trio import TASK_STATUS_IGNORED, TaskStatus

from gatewayfs.cache.content import ContentCache
from gatewayfs.errors import StoreError, StoreUnreachable
from gatewayfs.meta.env import MetaStore
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.randomness import Randomness
from gatewayfs.s3.gate import NO_STORE, Gate, probe
from gatewayfs.s3.store import COPY_BYTES_MAX, DELETIONS_MAX, Capabilities, ObjectStore
from gatewayfs.upload.context import ByteBudget, Context, KeyLocks
from gatewayfs.upload.deleting import batched
from gatewayfs.upload.deletions import Deletions
from gatewayfs.upload.drains import Drains
from gatewayfs.upload.entries import Lane, Target
from gatewayfs.upload.operator import Operator
from gatewayfs.upload.plan import content_differs
from gatewayfs.upload.reconcile import Reconciler
from gatewayfs.upload.reporting import progress_of, report, size_of
from gatewayfs.upload.schedule import Schedule
from gatewayfs.upload.settings import UploadHooks, UploadSettings
from gatewayfs.upload.status import Counters, DrainReport, Progress, UploadStatus
from gatewayfs.upload.staying import Excludes, Staying
from gatewayfs.upload.working import Worker

log = logging.getLogger(__name__)

LOAD_SLICE = 1000

DUE_MANY = 10_000
"""So many entries that are due are a long queue: uploads go on at full speed beside whatever programs do, so a program
that creates files without end does not make it longer without end. A burst of some thousand files is no such thing."""


class Uploader:
    """One share's write-back.

    Args:
        meta, store, cache, clock: the floors below.
        rng: jitter of back-offs.
        gate: whether the store can be reached; shared with whoever else uses it.
        capabilities: what the store honours.
    """

    def __init__(
        self,
        *,
        meta: MetaStore,
        store: ObjectStore,
        cache: ContentCache,
        clock: Clock,
        rng: Randomness,
        gate: Gate,
        settings: UploadSettings,
        hooks: UploadHooks,
        capabilities: Capabilities,
    ) -> None:
        self._meta, self._cache, self._clock, self._rng, self._settings = meta, cache, clock, rng, settings
        staying = Staying(meta, cache, Excludes(settings.exclude))
        self._schedule = Schedule(
            settle_s=settings.settle_s,
            settle_max_s=settings.settle_max_s,
            workers={
                Lane.SMALL: settings.workers,
                Lane.BIG: settings.big_workers,
                Lane.HUGE: settings.huge_workers,
                Lane.DELETED: DELETIONS_MAX,
            },
            lane_of=self._lane_of,
            is_open=lambda target: isinstance(target, int) and cache.writer_count(target) > 0,
            stays=staying.why,
            size_of=lambda target: size_of(meta, target),
            on_aside=lambda target, why: self.drains.aside(target, why),
        )
        self._gate = gate
        gate.opened = lambda: self._wake.set()
        self._probing = False
        self._counters = Counters()
        self.rate_bytes_per_s = lambda: self._counters.rate(clock.monotonic())
        self.working: Callable[[], bool] = lambda: self._schedule.taken_count > 0
        self._budget = ByteBudget(settings.inflight_bytes_max)
        self.drains = Drains(meta, self._schedule, gate, clock, lambda: self._wake.set(), read_only=settings.read_only)
        self._wake = trio.Event()
        self._sleeps_until_s = 0.0
        self._deletions = Deletions(lambda batch: self._context.call(store.delete_many(batch)))
        self._context = Context(
            meta=meta,
            store=store,
            cache=cache,
            clock=clock,
            settings=settings,
            hooks=hooks,
            capabilities=capabilities,
            keys=KeyLocks(self._freed),
            deletions=self._deletions,
            budget=self._budget,
            gate=self._gate,
            counters=self._counters,
            staying=staying,
            notice=self._ensure,
            moved=self._moved,
            unblock=self._unblock,
            doing=self._doing,
            lost=self.drains.lost,
        )
        reconciler = Reconciler(self._context, self._schedule.heard)
        self.operator = Operator(self._context, self._schedule, lambda: self._wake.set())
        self._worker = Worker(self._context, self._schedule, reconciler, rng, self.drains, lambda: self._wake.set())

    def __repr__(self) -> str:
        return f"<Uploader {self._schedule!r} {self._gate!r}>"

    # ------------------------------------------------------------------ news

    def notice(self, ino: int) -> None:
        """An inode changed, lost its name, or was closed: look at it when it has settled. Never blocks."""
        self._schedule.notice(ino, self._clock.monotonic())
        self._rouse()

    def notice_doomed(self, key: str) -> None:
        """An object was doomed: delete it when it has settled, unless somebody takes its key over."""
        self._schedule.notice(key, self._clock.monotonic())
        self._rouse()

    def press(self, inos: Iterable[int]) -> None:
        """The cache is filling up: these go up without settling."""
        now_s = self._clock.monotonic()
        for ino in inos:
            self._schedule.hurry(ino, now_s)
        self._wake.set()

    # ------------------------------------------------------------------ running

    async def run(self, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        """Work until cancelled. Reports started when everything left from the last run is in the queue."""
        await self._load()
        self.drains.loaded.set()
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deletions.run)
            while True:
                wait_s = self._dispatch(nursery)
                with trio.move_on_after(wait_s):
                    await self._wake.wait()
                self._wake = trio.Event()

    async def _load(self) -> None:
        """The queue as the records say it is."""
        now_s, now_ns = self._clock.monotonic(), self._clock.time_ns()
        for loaded, (since_ns, ino) in enumerate(self._meta.iter_dirty()):
            self._schedule.notice(ino, now_s, first_s=now_s - max(0.0, (now_ns - since_ns) / 1e9))
            if loaded % LOAD_SLICE == 0:
                await trio.lowlevel.checkpoint()
        for doomed in self._meta.iter_doomed():
            self._schedule.notice(doomed.key, now_s, first_s=now_s - max(0.0, (now_ns - doomed.since_ns) / 1e9))
        for ino in [*self._meta.iter_orphans(), *(ino for ino, _ in self._meta.iter_uploads())]:
            self._schedule.notice(ino, now_s, first_s=now_s - self._settings.settle_s)
        await trio.lowlevel.checkpoint()

    def _dispatch(self, nursery: trio.Nursery) -> float:
        """Start whatever may start now; returns how long nothing else will be due, in seconds."""
        now_s = self._clock.monotonic()
        self._schedule.advance(now_s)
        closed = self._gate.closed is not None
        if closed and now_s >= self._gate.probe_at_s and not self._probing:
            self._probing = True
            nursery.start_soon(self._probe)
        while not closed and not self._settings.read_only and (entry := self._schedule.take(now_s)) is not None:
            nursery.start_soon(self._worker.work, entry)
        self._sleeps_until_s = self._schedule.next_due_s()
        if closed and not self._probing:
            self._sleeps_until_s = min(self._sleeps_until_s, self._gate.probe_at_s)
        return max(0.0, self._sleeps_until_s - now_s)

    async def _probe(self) -> None:
        """Ask whether the store is back; any answer opens the gate."""
        try:
            await self._context.call(probe(self._context.store, self._meta.prefix))
        except NO_STORE as problem:
            self._gate.unanswered(self._clock.monotonic(), self._clock.time_ns(), problem)
        except StoreError as problem:
            log.debug("the store is back, if only to say: %s", problem)
        except Exception as problem:
            log.exception("unexpected error while asking whether the store is back")
            self._gate.unanswered(self._clock.monotonic(), self._clock.time_ns(), StoreUnreachable(repr(problem)))
        finally:
            self._probing = False
            self._wake.set()

    # ------------------------------------------------------------------ draining

    async def drain(self, *, patient: bool = False) -> DrainReport:
        """Wait until everything written before this call is in the bucket, without settle times.

        Waits as long as the store does not answer; cancel it to stop waiting. Entries that get parked, or are held, end
        up in the report. Needs ``run`` to be running.

        Args:
            patient: hurry nothing, and wait for what is parked or held.
        """
        return await self.drains.drain(patient=patient)

    def progress(self) -> Progress:
        """Entries and bytes that are not in the bucket yet, and shall get there."""
        return progress_of(self._meta, self._schedule)

    # ------------------------------------------------------------------ what is going on

    def status(self) -> UploadStatus:
        """The queue now."""
        return report(self._context, self._schedule)

    @property
    def backlog(self) -> float:
        """Entries that are due, as a share of ``DUE_MANY``; all of it while a program waits for one of them."""
        if self.drains.urgent:
            return 1.0
        return self._schedule.ready_count / DUE_MANY

    # ------------------------------------------------------------------ inside

    def _lane_of(self, target: Target) -> Lane:
        if isinstance(target, str):
            return Lane.DELETED if batched(self._context, target) else Lane.SMALL
        inode = self._meta.inode(target)
        if inode is None or not inode.is_regular:
            return Lane.SMALL
        if content_differs(inode):
            sizes = self._settings.part_bytes, self._settings.huge_bytes
            return Lane(sum(inode.size > size for size in sizes))
        # A copy of up to 5 GiB is one request.
        return Lane.BIG if inode.remote is not None and inode.remote.size > COPY_BYTES_MAX else Lane.SMALL

    def _ensure(self, target: Target) -> None:
        self._schedule.ensure(target, self._clock.monotonic())
        self.drains.ensured(target)
        self._rouse()

    def _moved(self, target: Target) -> None:
        self._schedule.wake(target)
        self._wake.set()

    def _unblock(self, target: Target) -> None:
        self._schedule.unblock(target)
        self._wake.set()

    def _freed(self, key: str) -> None:
        self._moved(key)

    def _doing(self, target: Target, what: str) -> None:
        entry = self._schedule.get(target)
        if entry is not None:
            entry.doing = what

    def _rouse(self) -> None:
        """Wake the dispatcher only if something is due before it would wake by itself."""
        if self._schedule.next_due_s() < self._sleeps_until_s:
            self._wake.set()
