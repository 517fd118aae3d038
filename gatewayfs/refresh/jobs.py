"""Refreshes that somebody asked for: asynchronous, numbered, at most two at a time, and going on after a restart.

As AWS Storage Gateway's RefreshCache: whoever asks gets an id at once, and the event of its end carries it. A job is a
small record; which directories it has done stands in their own records (``renewal.py``), so it stays small however
many there are. While the bucket does not answer, a job waits and tries again.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import trio

from gatewayfs.errors import CorruptRecord, FsError, LocalError, NoSpace, Unavailable, UserError
from gatewayfs.meta.env import MetaStore, Transaction
from gatewayfs.refresh.renewal import Renewal, disjoint
from gatewayfs.refresh.settings import RefreshProgress
from gatewayfs.runtime.clock import Clock

log = logging.getLogger(__name__)

RUNNING_MAX = 2
"""File Gateway's limit of refreshes at a time for one share."""

FOLDERS_MAX = 50
"""File Gateway's limit of folders for one refresh."""

RECENT_MAX = 20
"""Ended jobs that are remembered: some 500 bytes each."""

SAVE_S = 2.0
"""How often a job's counters are kept: what a crash may take from a report."""

RETRY_S, RETRY_S_MAX = 1.0, 60.0
"""Pauses while the bucket does not answer."""

FORGET_S_MAX = 10.0
"""The kernel takes microseconds, unless a program keeps it busy in that very directory."""

DISK_RETRY_S = 5.0
"""Pause after the records could not be changed."""

RUNNING_SETTING = "refresh.running"
RECENT_SETTING = "refresh.recent"
"""Settings: lists of ``Record`` as JSON, the oldest first."""

RUNNING, DONE, FAILED, CANCELLED = "running", "done", "failed", "cancelled"


class Record(msgspec.Struct):
    """What is kept of one job.

    Attributes:
        identity: a UUID.
        folders: paths from the share's root, like ``/photos/2024``.
        cause: who asked: ``command`` or ``schedule``.
        reason: why it failed; of a running one, what it waits for.
    """

    identity: str
    folders: tuple[str, ...]
    recursive: bool
    cause: str
    progress: RefreshProgress
    state: str = RUNNING
    completed_ns: int = 0
    reason: str = ""


class Job:
    """A job of this life of the daemon. ``ended`` is set when its end, and the event of it, are recorded."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.ended = trio.Event()
        self.scope = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<Job {self.record.identity} {self.record.state}>"


class Jobs:
    """All jobs of one share.

    Args:
        new_id: makes a UUID.
        begin: makes a refresh that counts in the progress it is given.
        completed: tells that a job has ended well, within the transaction that says so.
        forgotten: returns when the kernel has forgotten what it was told to, so that programs see what was found.
    """

    def __init__(
        self,
        meta: MetaStore,
        clock: Clock,
        new_id: Callable[[], str],
        begin: Callable[[RefreshProgress], Renewal],
        completed: Callable[[Transaction, str, int, Sequence[str]], None],
        forgotten: Callable[[], Awaitable[None]],
    ) -> None:
        self._meta, self._clock, self._new_id = meta, clock, new_id
        self._begin, self._completed, self._forgotten = begin, completed, forgotten
        self._nursery: trio.Nursery | None = None
        self._running: dict[str, Job] = {}

    def __repr__(self) -> str:
        return f"<Jobs {list(self._running.values())}>"

    @property
    def running(self) -> list[Record]:
        """Those under way, the oldest first."""
        return [job.record for job in self._running.values()]

    def recent(self) -> list[Record]:
        """Those that ended, the newest first."""
        return self._read(RECENT_SETTING)[::-1]

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Go on with what an earlier run left, and take orders, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for record in self._read(RUNNING_SETTING):
                log.info("refresh %s of %s goes on", record.identity, ", ".join(record.folders))
                self._start(record)
            task_status.started()
            await self._save_now_and_then()

    async def start(self, folders: Sequence[str], *, recursive: bool, cause: str = "command") -> Job:
        """Begin a refresh; it is recorded when this returns.

        Raises:
            UserError: two are running, the folders are too many, or one leads out of the share.
            NoEntry, NotADirectory: no such folder, here or in the bucket. Unavailable: the bucket does not say.
        """
        if len(folders) > FOLDERS_MAX:
            raise UserError(f"at most {FOLDERS_MAX} folders at a time", "refresh their common parent instead")
        for folder in folders:
            if {".", ".."} & set(folder.split("/")):
                raise UserError(f"{folder!r} is not a path from the share's root", "name it without . and ..")
        chosen = disjoint(folders or ("/",), recursive=recursive)
        self._refuse_third()
        record = Record(self._new_id(), tuple(chosen), recursive, cause, RefreshProgress(self._clock.time_ns()))
        for folder in chosen:
            await self._begin(record.progress).resolve(folder)
        self._refuse_third()
        with self._meta.transaction() as tx:
            self._write(tx, RUNNING_SETTING, [*self.running, record])
        return self._start(record)

    async def cancel(self, identity: str) -> None:
        """End a job where it is. Raises UserError when none of that id is running."""
        job = self._running.get(identity)
        if job is None:
            raise UserError(f"no refresh {identity} is running", "gatewayfs refresh-cache --list tells which are")
        job.scope.cancel()
        await job.ended.wait()

    def _refuse_third(self) -> None:
        if len(self._running) < RUNNING_MAX:
            return
        known = " and ".join(f"{record.identity} of {_told(record.folders)}" for record in self.running)
        raise UserError(
            f"{len(self._running)} refreshes are running already: {known}",
            "wait until one has ended (refresh-cache --list says how far they are), or end one (--cancel ID)",
        )

    # ----------------------------------------------------------------- running

    def _start(self, record: Record) -> Job:
        if self._nursery is None:
            raise UserError("the gateway is starting or stopping", "try again in a moment")
        job = self._running[record.identity] = Job(record)
        self._nursery.start_soon(self._follow, job)
        return job

    async def _follow(self, job: Job) -> None:
        record = job.record
        with job.scope:
            record.state, record.reason = await self._work(record)
        if job.scope.cancelled_caught:
            record.state, record.reason = CANCELLED, "cancelled"
        record.completed_ns = self._clock.time_ns()
        await self._end(job)
        report = record.progress.report()
        log.info(
            "refresh %s of %s: %s %s%s", record.identity, _told(record.folders), record.state, report, record.reason
        )

    async def _work(self, record: Record) -> tuple[str, str]:
        """Refresh until it is done or proves impossible; returns the state and the reason."""
        pause_s = RETRY_S
        while True:
            before = record.progress.listed
            try:
                await self._begin(record.progress).run(record.folders, recursive=record.recursive)
                with trio.move_on_after(FORGET_S_MAX):
                    await self._forgotten()
            except (LocalError, FsError) as problem:
                if not _may_pass(problem):
                    return FAILED, str(problem)
                record.reason = str(problem)
            except Exception as problem:  # a bug costs this job, not the mount
                log.exception("refresh %s failed", record.identity)
                return FAILED, f"internal error: {problem!r}; the gateway's log has the traceback"
            else:
                return DONE, ""
            if record.progress.listed != before:
                pause_s = RETRY_S
            log.warning("refresh %s waits: %s", record.identity, record.reason)
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_S_MAX)

    async def _end(self, job: Job) -> None:
        """Record the end; the event of it with it, or neither."""
        record, progress = job.record, job.record.progress
        while not job.ended.is_set():
            try:
                with self._meta.transaction() as tx:
                    others = [other for other in self.running if other is not record]
                    self._write(tx, RUNNING_SETTING, others)
                    self._write(tx, RECENT_SETTING, [*self._read(RECENT_SETTING), record][-RECENT_MAX:])
                    if record.state == DONE:
                        self._completed(tx, record.identity, progress.since_ns, record.folders)
            except (LocalError, FsError) as problem:
                log.warning("the end of refresh %s is not recorded yet: %s", record.identity, problem)
                await trio.sleep(DISK_RETRY_S)
            else:
                del self._running[record.identity]
                job.ended.set()

    # ----------------------------------------------------------------- records

    async def _save_now_and_then(self) -> None:
        while True:
            await trio.sleep(SAVE_S)
            if not self._running:
                continue
            try:
                with self._meta.transaction() as tx:
                    self._write(tx, RUNNING_SETTING, self.running)
            except (LocalError, FsError) as problem:
                log.warning("how far refreshes are could not be kept: %s", problem)

    def _read(self, setting: str) -> list[Record]:
        raw = self._meta.setting(setting)
        return msgspec.json.decode(raw, type=list[Record]) if raw else []

    def _write(self, tx: Transaction, setting: str, records: list[Record]) -> None:
        tx.put_setting(setting, msgspec.json.encode(records))


def _may_pass(problem: LocalError | FsError) -> bool:
    return isinstance(problem, Unavailable | NoSpace | LocalError) and not isinstance(problem, CorruptRecord)


def _told(folders: Sequence[str]) -> str:
    """The folders, for a sentence."""
    return ", ".join(folders[:3]) + (f" and {len(folders) - 3} more" if len(folders) > 3 else "")
