"""The store of names, attributes and work to do: fast to change, never lost.

    transaction ──> journal frame (page cache) ──> active overlay ──freeze──> frozen overlay ──> LMDB (synced)
                        │ sync(): fdatasync                             group commit, in a thread, about once a second
    reads:  active overlay, then frozen overlay, then LMDB

* A transaction returns after one ``pwrite`` into the journal: ``kill -9`` loses nothing.
* ``sync`` returns when everything committed before it survives power loss.
* LMDB gets changes in groups; a group that fails (disk full) stays in memory and in the journal and is tried again.
* The loop's thread owns overlays, journal and the read transaction; the commit thread owns LMDB's write transaction and
  the recovery log. They share values only.
"""

import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from gatewayfs.errors import CacheDiskFailed, LocalError, NoSpace
from gatewayfs.meta import codec
from gatewayfs.meta.journal import delete_segments, prepare_segment, sync_segments
from gatewayfs.meta.opening import Limits, Opened, open_directory
from gatewayfs.meta.overlay import MISSING, Overlay
from gatewayfs.meta.reader import Reader
from gatewayfs.meta.schema import Inode
from gatewayfs.meta.transaction import Transaction
from gatewayfs.meta.writer import Committed, Group
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.durable import boot_identity, datasync_path
from gatewayfs.runtime.offload import Offloader
from gatewayfs.types import Ino

log = logging.getLogger(__name__)

COMMIT_INTERVAL_S = 1.0
"""Long enough that a directory changed by a thousand creations is written once, short enough that a replay is."""

COMMIT_KEYS = 50_000
"""Commit earlier when this many keys wait: about 25 MB of memory."""

RETRY_MAX_S = 30.0
"""Longest pause between attempts to commit while the disk is full or fails."""

INO_BLOCK = 1024
"""Inode numbers reserved at a time: one more journal entry per so many creations."""


@dataclass(frozen=True)
class MetaStatistics:
    """A snapshot for ``status``, tests and logs."""

    inode_count: int
    dirty_count: int
    dirty_bytes: int
    doomed_count: int
    orphan_count: int
    parked_count: int
    waiting_keys: int
    """Keys acknowledged and not yet in LMDB."""
    sequence: int
    applied_sequence: int
    synced_sequence: int
    journal_bytes: int
    journal_segments: int
    recovery_log_bytes: int
    recovery_log_stale: str
    commit_count: int
    commit_error: str
    """Why the last commit failed; "" when it did not."""
    last_commit_ns: int
    failed_data_paths: tuple[str, ...]
    """Cache files whose bytes the disk could not keep; ``sync`` fails from then on until a restart."""
    replayed: int
    dropped: int


class MetaStore(Reader):
    """See the module's story. Create with ``open``; everything happens on the thread that did.

    Args:
        directory: the cache directory; ``meta/``, ``journal/``, ``recovery/`` and ``lock`` below it are ours.
    """

    def __init__(self, directory: Path, prefix: str, opened: Opened, clock: Clock, offload: Offloader) -> None:
        self.prefix = prefix
        self.directory = directory
        self._offload = offload
        self._clock = clock
        self._env = opened.env
        self._writer = opened.writer
        self._journal = opened.journal
        self._lock_fd = opened.lock_fd
        self._thread = threading.get_ident()
        self._transaction: Transaction | None = None

        self._next_ino = opened.next_ino
        self._reserved_ino = opened.next_ino
        self._counters = opened.counters
        self._applied = opened.applied
        self.anchored = opened.committed.anchored or set()
        """Directories the recovery log knows."""

        self._active = Overlay()
        self._frozen: Overlay | None = None
        self._frozen_sequence = 0
        self._frozen_counters = b""
        self._frozen_settles = False
        """The frozen layer holds everything appended before the journal's fdatasync failed."""
        self._unordered: dict[str, None] = {}
        """Cache files named by transactions since the last ``sync``."""
        self._read: Any = None
        self._cursor: Any = None
        self._renew_reader()
        self._take_pending(opened)

        self._committing = trio.Lock()
        self._work = trio.Event()
        self._syncing: trio.Event | None = None
        self._sync_fds: set[int] = set()
        self._suspect = False
        """An fdatasync of the journal failed: only a commit can make promises about what was appended before."""
        self._failed_data_paths: dict[str, None] = {}
        self._commit_error = "" if opened.problem is None else str(opened.problem)
        self._commit_count = 0
        self._last_commit_ns = 0
        self._committed = opened.committed
        self._opened = (opened.replayed, opened.dropped)

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        prefix: str,
        clock: Clock,
        offload: Offloader,
        limits: Limits | None = None,
        boot: str | None = None,
    ) -> "MetaStore":
        """Open or create the store in ``directory``, replaying what a crash left in the journal. Blocks.

        Args:
            prefix: the share's prefix in the bucket, "" or ending with "/".
            limits: sizes, for tests.
            boot: identity of this boot of the machine; by default the kernel's.

        Raises UserError, SchemaTooNew, CorruptRecord, CacheDiskFull, CacheDiskFailed (see ``opening``).
        """
        boot = boot_identity() if boot is None else boot
        opened = open_directory(directory, prefix, boot, limits or Limits())
        return cls(directory, prefix, opened, clock, offload)

    def __repr__(self) -> str:
        return f"<MetaStore {self.directory} {self._counters.inodes} inodes, change {self._journal.sequence}>"

    # ----------------------------------------------------------------- reading

    @property
    def inode_count(self) -> int:
        return self._counters.inodes

    @property
    def dirty_count(self) -> int:
        return self._counters.dirty

    @property
    def dirty_bytes(self) -> int:
        """Sum of the sizes of dirty regular files."""
        return self._counters.dirty_bytes

    @property
    def doomed_count(self) -> int:
        return self._counters.doomed

    @property
    def orphan_count(self) -> int:
        return self._counters.orphans

    @property
    def parked_count(self) -> int:
        return self._counters.parked

    def statistics(self) -> MetaStatistics:
        counters, journal = self._counters, self._journal
        frozen = 0 if self._frozen is None else len(self._frozen.values)
        return MetaStatistics(
            inode_count=counters.inodes,
            dirty_count=counters.dirty,
            dirty_bytes=counters.dirty_bytes,
            doomed_count=counters.doomed,
            orphan_count=counters.orphans,
            parked_count=counters.parked,
            waiting_keys=len(self._active.values) + frozen,
            sequence=journal.sequence,
            applied_sequence=self._applied,
            synced_sequence=max(journal.synced, self._applied),
            journal_bytes=journal.bytes_used,
            journal_segments=len(journal.segments),
            recovery_log_bytes=self._committed.recovery_log_bytes,
            recovery_log_stale=self._committed.recovery_log_stale,
            commit_count=self._commit_count,
            commit_error=self._commit_error,
            last_commit_ns=self._last_commit_ns,
            failed_data_paths=tuple(self._failed_data_paths),
            replayed=self._opened[0],
            dropped=self._opened[1],
        )

    def inode(self, ino: int) -> Inode | None:
        inodes = self._active.inodes
        if ino in inodes:
            return inodes[ino]
        if self._frozen is not None and ino in self._frozen.inodes:
            return self._frozen.inodes[ino]
        key = codec.inode_key(ino)
        value = self._read.get(key)
        return None if value is None else codec.decode_inode(key, value)

    def _get(self, key: bytes) -> bytes | None:
        value = self._active.values.get(key, MISSING)
        if value is not MISSING:
            return value
        if self._frozen is not None:
            value = self._frozen.values.get(key, MISSING)
            if value is not MISSING:
                return value
        stored: bytes | None = self._read.get(key)
        return stored

    def _keys(self, start: bytes, end: bytes, limit: int) -> list[bytes]:
        overlays = [self._active] if self._frozen is None else [self._active, self._frozen]
        keys = [key for overlay in overlays for key in _take(overlay.keys_between(start, end), limit, self._exists)]
        keys.extend(_take(self._stored_keys(start, end), limit, lambda key: not self._mentioned(key)))
        return sorted(set(keys))[:limit]

    def _exists(self, key: bytes) -> bool:
        return self._get(key) is not None

    def _mentioned(self, key: bytes) -> bool:
        return key in self._active.values or (self._frozen is not None and key in self._frozen.values)

    def _stored_keys(self, start: bytes, end: bytes) -> Iterator[bytes]:
        if self._cursor.set_range(start):
            for key in self._cursor.iternext(keys=True, values=False):
                if key >= end:
                    return
                yield key

    # ----------------------------------------------------------------- transactions

    def transaction(self) -> Transaction:
        """A new transaction, to be used in a ``with`` statement."""
        return Transaction(self)

    def begin(self, transaction: Transaction) -> None:
        """For ``Transaction`` only."""
        if self._transaction is not None:
            raise RuntimeError("a transaction is open already: no await and no nesting inside one")
        if threading.get_ident() != self._thread:
            raise RuntimeError("transactions belong to the event loop's thread")
        self._transaction = transaction

    def end(self) -> None:
        """For ``Transaction`` only."""
        self._transaction = None

    def commit(self, tx: Transaction) -> None:
        """For ``Transaction`` only: journal, then memory. Raises NoSpace, CacheDiskFailed; then nothing happened."""
        active = self._active
        if tx.changes:
            pairs = list(tx.changes.items())
            if tx.data_paths:
                pairs.extend((self._data_path_key(path), None) for path in tx.data_paths)
            self._journal.append(codec.encode(pairs), bool(tx.data_paths))
            active.apply(tx.changes)
            active.inodes.update(tx.inodes)
            active.recovery.update(tx.recovery)
            self._counters.add(tx.counters)
            if tx.anchored:
                active.anchored |= tx.anchored
                self.anchored |= tx.anchored
            if tx.reserved_ino:
                self._reserved_ino = tx.reserved_ino
        for path in tx.data_paths:
            active.data_paths[path] = self._unordered[path] = None
        active.callbacks.extend(tx.callbacks)
        if not self._work.is_set():
            self._work.set()

    def allocate_ino(self, tx: Transaction) -> Ino:
        """For ``Transaction`` only: a fresh number; the reservation of a block rides in ``tx``."""
        ino = self._next_ino
        self._next_ino = ino + 1
        if ino >= max(self._reserved_ino, tx.reserved_ino):
            tx.reserved_ino = ino + INO_BLOCK
            tx.put_setting("next_ino", str(tx.reserved_ino).encode())
        return Ino(ino)

    # ----------------------------------------------------------------- durability

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The committer: group commits about once a second while there is work, for ever."""
        task_status.started()
        pause_s = COMMIT_INTERVAL_S
        while True:
            await self._work.wait()
            await trio.sleep(pause_s)
            self._work = trio.Event()
            try:
                await self.checkpoint()
                pause_s = COMMIT_INTERVAL_S
            except LocalError:
                # Logged and shown by checkpoint; nothing is lost while the journal has room.
                self._work.set()
                pause_s = min(pause_s * 2, RETRY_MAX_S)
            await self._prepare_spare()

    async def checkpoint(self) -> None:
        """Everything committed so far is in LMDB, synced. Raises CacheDiskFull, CacheDiskFailed; nothing is lost."""
        async with self._committing:
            if self._frozen is not None:
                await self._commit_frozen()
            if not self._active.idle:
                self._freeze()
                await self._commit_frozen()

    async def sync(self) -> None:
        """Everything committed so far survives power loss, the cache files it names included.

        Concurrent callers share one fdatasync; those that come while it runs share the next.

        Raises CacheDiskFailed when that cannot be promised (any more).
        """
        target = self._journal.sequence
        while max(self._journal.synced, self._applied) < target or self._failed_data_paths:
            if self._failed_data_paths:
                raise CacheDiskFailed(f"the disk lost bytes of {next(iter(self._failed_data_paths))}")
            if self._syncing is not None:
                await self._syncing.wait()
                continue
            self._syncing = trio.Event()
            try:
                await self._sync_once()
            except LocalError as problem:
                raise CacheDiskFailed(f"cannot promise durability: {problem}") from problem
            finally:
                self._syncing.set()
                self._syncing = None
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Commit what is left and close everything. Blocks; ``run`` must have ended.

        Raises LocalError when the last commit fails: the journal still has everything.
        """
        try:
            while self._frozen is not None or not self._active.idle:
                if self._frozen is None:
                    self._freeze()
                try:
                    committed = self._writer.commit(self._group())
                except LocalError as problem:
                    self._note_failure(problem)
                    raise
                self._finish_commit(committed)
            delete_segments(self._journal.directory, self._journal.take_droppable(self._applied, set()))
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close files without committing anything: what a crash leaves, for tests and for emergencies."""
        self._journal.close()
        self._writer.close()
        self._cursor.close()
        self._read.abort()
        self._env.close()
        os.close(self._lock_fd)

    # ----------------------------------------------------------------- group commit

    def _freeze(self) -> None:
        self._frozen, self._active = self._active, Overlay()
        self._frozen_sequence = self._journal.sequence
        self._frozen_counters = codec.encode(self._counters)
        self._frozen_settles = self._suspect

    def _group(self) -> Group:
        frozen = self._frozen
        assert frozen is not None
        return Group(
            frozen.values, frozen.recovery, list(frozen.data_paths), self._frozen_sequence, self._frozen_counters
        )

    async def _commit_frozen(self) -> None:
        try:
            # Shielded: a commit that happened must be noticed.
            with trio.CancelScope(shield=True):
                committed = await self._offload.run(self._writer.commit, self._group())
        except LocalError as problem:
            self._note_failure(problem)
            raise
        self._finish_commit(committed)
        droppable = self._journal.take_droppable(self._applied, self._sync_fds)
        if droppable:
            with trio.CancelScope(shield=True):
                try:
                    await self._offload.run(delete_segments, self._journal.directory, droppable)
                except OSError as problem:
                    log.warning("old journal segments stay until the next start: %s", problem.strerror)

    def _finish_commit(self, committed: Committed) -> None:
        """Back on the loop: LMDB has the frozen layer, so drop it and tell who waits."""
        frozen = self._frozen
        assert frozen is not None
        self._frozen = None
        self._applied = self._frozen_sequence
        self._journal.synced = max(self._journal.synced, self._applied)
        self._journal.ordered = max(self._journal.ordered, self._applied)
        if self._frozen_settles:
            self._suspect = False
        self._renew_reader()
        self._committed = committed
        if committed.anchored is not None:
            self.anchored = committed.anchored | self._active.anchored
        self._commit_count += 1
        self._last_commit_ns = self._clock.time_ns()
        if self._commit_error:
            log.info("commits to LMDB work again")
            self._commit_error = ""
        self._note_lost_data(committed.failed_data_paths)
        for callback in frozen.callbacks:
            callback()

    def _note_failure(self, problem: LocalError) -> None:
        if str(problem) != self._commit_error:
            log.error("changes stay in the journal, LMDB cannot take them: %s", problem)
            self._commit_error = str(problem)

    def _note_lost_data(self, paths: list[str]) -> None:
        for path in paths:
            if path not in self._failed_data_paths:
                log.error("the disk could not write back %s; fsync fails from now on", path)
                self._failed_data_paths[path] = None

    def _renew_reader(self) -> None:
        if self._read is not None:
            self._cursor.close()
            self._read.abort()
        self._read = self._env.begin()
        self._cursor = self._read.cursor()

    def _take_pending(self, opened: Opened) -> None:
        """What LMDB could not take at start is the first frozen layer."""
        if opened.problem is None:
            return
        layer = Overlay()
        layer.apply(opened.pending)
        for key, value in opened.pending.items():
            if key[:1] == codec.INODE:
                layer.inodes[codec.number_at(key, 1)] = None if value is None else codec.decode_inode(key, value)
        layer.data_paths = dict(opened.pending_data)
        self._frozen, self._frozen_sequence = layer, self._journal.sequence
        self._frozen_counters = codec.encode(self._counters)
        self._unordered = dict(opened.pending_data)

    async def _prepare_spare(self) -> None:
        journal = self._journal
        if not journal.wants_spare:
            return
        number = journal.take_number()
        with trio.CancelScope(shield=True):
            try:
                spare = await self._offload.run(
                    prepare_segment, journal.directory, number, journal.boot, journal.segment_bytes
                )
                if not journal.accept_spare(spare):
                    await self._offload.run(delete_segments, journal.directory, [spare])
            except OSError as problem:
                log.warning("no journal segment in reserve: %s", problem.strerror)

    # ----------------------------------------------------------------- sync

    async def _sync_once(self) -> None:
        """Raise ``journal.synced`` to at least the present sequence number, or raise."""
        if self._suspect:
            await self.checkpoint()
            return
        journal = self._journal
        start = journal.sequence
        if self._unordered:
            try:
                await self._sync_data()
                journal.ordered = start
                journal.append(_MARKER, False)
            except NoSpace:
                await self.checkpoint()
                return
        # Frames that came meanwhile and need data of their own are not covered.
        through = start if self._unordered else journal.sequence
        segments = journal.unsynced()
        for segment in segments:
            segment.unsynced = False
        self._sync_fds = {segment.fd for segment in segments}
        try:
            await self._offload.run(sync_segments, sorted(self._sync_fds))
        except OSError as problem:
            # The kernel may have dropped the pages and will report success next time: never ask it again.
            self._suspect = True
            log.error("fdatasync of the journal failed (%s): committing to LMDB instead", problem.strerror)
            await self.checkpoint()
            return
        except BaseException:
            for segment in segments:
                segment.unsynced = True
            raise
        finally:
            self._sync_fds = set()
        journal.synced = max(journal.synced, through)

    async def _sync_data(self) -> None:
        """The cache files named so far are on disk. Raises CacheDiskFailed."""
        paths, self._unordered = self._unordered, {}
        try:
            failed = await self._offload.run(_sync_files, list(paths))
        except BaseException:
            self._unordered = {**paths, **self._unordered}
            raise
        if failed:
            self._note_lost_data(failed)
            raise CacheDiskFailed(f"fdatasync of {failed[0]} failed")

    def _data_path_key(self, path: str) -> bytes:
        return codec.DATA_PATH + os.fsencode(os.path.relpath(path, self.directory))


_MARKER = codec.encode([])
"""An empty transaction: carries ``journal.ordered`` to the disk."""


def _sync_files(paths: list[str]) -> list[str]:
    """fdatasync each; returns those that failed."""
    failed = []
    for path in paths:
        try:
            datasync_path(path)
        except OSError:
            failed.append(path)
    return failed


def _take(keys: Iterator[bytes], limit: int, accept: Any) -> Iterator[bytes]:
    """The first ``limit`` accepted keys."""
    taken = 0
    for key in keys:
        if taken == limit:
            return
        if accept(key):
            yield key
            taken += 1
