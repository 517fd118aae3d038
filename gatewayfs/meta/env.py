"""The store of names, attributes and work to do: fast to change, never lost.

    transaction ──> journal frame (page cache) ──> active layer ──freeze──> frozen layer ──> LMDB (synced)
                        │ sync(): fdatasync                         group commit, in a thread, about once a second
    reads:  active layer, then frozen layer, then LMDB

* A transaction returns after one ``pwrite`` into the journal: ``kill -9`` loses nothing.
* ``sync`` returns when everything committed before it survives power loss.
* LMDB gets changes in groups; a group that fails (disk full) stays in memory and in the journal and is tried again.
* The loop's thread owns layers, journal and the read transaction; the commit thread owns LMDB's write transaction and
  the recovery log. They share values only.

The parts: ``layers`` (what is true now), ``transaction`` (changes), ``journal``, ``committer`` (durability), ``writer``
(LMDB), ``recovery_log``, ``opening`` (start after anything).
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from gatewayfs.errors import CacheDiskFailed, CacheDiskHangs
from gatewayfs.meta.committer import Committer, transaction_payload
from gatewayfs.meta.layers import Layers
from gatewayfs.meta.opening import Limits, Opened, open_directory
from gatewayfs.meta.transaction import Transaction
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.diskhealth import DiskHealth
from gatewayfs.runtime.durable import boot_identity
from gatewayfs.runtime.offload import Offloader
from gatewayfs.types import Ino

INO_BLOCK = 1024
"""Inode numbers reserved at a time: one more journal entry per so many creations."""


@dataclass(frozen=True)
class MetaStatistics:
    """A snapshot for ``status``, tests and logs."""

    inode_count: int
    dirty_count: int
    dirty_bytes: int
    """Sum of the sizes of dirty regular files."""
    doomed_count: int
    orphan_count: int
    parked_count: int
    waiting_keys: int
    """Keys acknowledged and not yet in LMDB."""
    sequence: int
    """Number of the last transaction."""
    applied_sequence: int
    """LMDB holds everything up to this one."""
    synced_sequence: int
    """Everything up to this one survives power loss."""
    journal_bytes: int
    journal_segments: int
    recovery_log_bytes: int
    recovery_log_stale: str
    """Why the recovery log is incomplete; "" when it is not."""
    commit_count: int
    commit_error: str
    """Why the last commit failed; "" when it did not."""
    last_commit_ns: int
    """Wall clock; 0 before the first commit."""
    failed_data_paths: tuple[str, ...]
    """Cache files whose bytes the disk could not keep; ``sync`` fails from then on until a restart."""
    replayed: int
    """Journal frames used at start."""
    dropped: int
    """Whole journal frames found at start behind the end of the journal, promised to nobody."""


class MetaStore(Layers):
    """See the module's story. Create with ``open``; everything happens on the thread that did."""

    def __init__(self, directory: Path, prefix: str, opened: Opened, clock: Clock, offload: Offloader) -> None:
        super().__init__(prefix, opened.writer.env, opened.counters, opened.committed.anchored or set())
        self.directory = directory
        self._committer = Committer(self, opened, clock, offload)
        self._base = f"{directory}/"
        self._lock_fd = opened.lock_fd
        self._thread = threading.get_ident()
        self._transaction: Transaction | None = None
        self._next_ino = opened.next_ino
        self._reserved_ino = opened.next_ino
        self._at_start = (opened.replayed, opened.dropped)
        self._refusal: Callable[[], str] = str
        self.watch: Callable[[Transaction], None] | None = None
        """Told of every committed transaction, at once: who keeps books of the records."""

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
            directory: the cache directory; ``meta/``, ``journal/``, ``recovery/`` and ``lock`` below it are ours.
            prefix: the share's prefix in the bucket, "" or ending with "/".
            limits: sizes, for tests.
            boot: identity of this boot of the machine; by default the kernel's.

        Raises UserError, SchemaTooNew, CorruptRecord, CacheDiskFull, CacheDiskFailed (see ``opening``).
        """
        boot = boot_identity() if boot is None else boot
        opened = open_directory(directory, prefix, boot, limits or Limits())
        return cls(directory, prefix, opened, clock, offload)

    def __repr__(self) -> str:
        return f"<MetaStore {self.directory} {self.counters.inodes} inodes, change {self._committer.journal.sequence}>"

    # ----------------------------------------------------------------- counting

    @property
    def inode_count(self) -> int:
        return self.counters.inodes

    @property
    def dirty_count(self) -> int:
        return self.counters.dirty

    @property
    def dirty_bytes(self) -> int:
        """Sum of the sizes of dirty regular files."""
        return self.counters.dirty_bytes

    @property
    def doomed_count(self) -> int:
        return self.counters.doomed

    @property
    def orphan_count(self) -> int:
        return self.counters.orphans

    @property
    def parked_count(self) -> int:
        return self.counters.parked

    def statistics(self) -> MetaStatistics:
        counters, committer = self.counters, self._committer
        journal = committer.journal
        return MetaStatistics(
            inode_count=counters.inodes,
            dirty_count=counters.dirty,
            dirty_bytes=counters.dirty_bytes,
            doomed_count=counters.doomed,
            orphan_count=counters.orphans,
            parked_count=counters.parked,
            waiting_keys=len(self.active.values) + (0 if self.frozen is None else len(self.frozen.values)),
            sequence=journal.sequence,
            applied_sequence=committer.applied,
            synced_sequence=max(journal.synced, committer.applied),
            journal_bytes=journal.bytes_used,
            journal_segments=len(journal.segments),
            recovery_log_bytes=committer.committed.recovery_log_bytes,
            recovery_log_stale=committer.committed.recovery_log_stale,
            commit_count=committer.commit_count,
            commit_error=committer.commit_error,
            last_commit_ns=committer.last_commit_ns,
            failed_data_paths=tuple(committer.syncing.failed_data_paths),
            replayed=self._at_start[0],
            dropped=self._at_start[1],
        )

    # ----------------------------------------------------------------- transactions

    def transaction(self) -> Transaction:
        """A new transaction, to be used in a ``with`` statement without ``await`` inside."""
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
        """For ``Transaction`` only: journal, then memory. Raises NoSpace, CacheDiskFailed, CacheDiskHangs; then nothing
        happened."""
        if tx.changes or tx.data_paths:
            if why := self._refusal():
                raise CacheDiskHangs(why)
            base = self._base
            relative = [os.fsencode(path.removeprefix(base)) for path in tx.data_paths]
            try:
                self._committer.append(transaction_payload(tx, relative), tx.data_paths)
            except CacheDiskFailed as problem:
                self._committer.syncing.failed(problem)
                raise
            if tx.reserved_ino:
                self._reserved_ino = tx.reserved_ino
        elif not tx.callbacks:
            return
        self.apply(tx)
        self._committer.notice()
        if self.watch is not None:
            self.watch(tx)

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
        """The committer's task: group commits about once a second while there is work, for ever."""
        await self._committer.run(task_status)

    async def sync(self) -> None:
        """Everything committed so far survives power loss, the cache files it names included.

        Concurrent callers share one fdatasync; those that come while it runs share the next.

        Raises CacheDiskFailed when that cannot be promised (any more).
        """
        await self._committer.syncing.sync()

    async def checkpoint(self) -> None:
        """Everything committed so far is in LMDB, synced. Raises CacheDiskFull, CacheDiskFailed; nothing is lost."""
        await self._committer.checkpoint()

    def watch_disk(self, health: DiskHealth, lost: Callable[[str], bool]) -> None:
        """Tell ``health`` what fails, and touch nothing while it says that the disk hangs.

        Args:
            lost: whether it matters that the disk could not write back a cache file, by its path; asked once for each.
        """
        syncing = self._committer.syncing
        syncing.failed, syncing.lost = health.write_failed, lost
        self._refusal, health.unkept = health.refusal, self.unkept

    def unkept(self) -> str:
        """What the disk does not keep of what was acknowledged; "": nothing."""
        if lost := len(self._committer.syncing.failed_data_paths):
            return f"it lost bytes of {lost} files"
        return f"records are not committed: {self._committer.commit_error}" if self._committer.commit_failed else ""

    def flush(self) -> None:
        """``checkpoint`` for tools without an event loop: blocks."""
        self._committer.flush()

    def close(self) -> None:
        """Commit what is left and close everything. Blocks; ``run`` must have ended.

        Raises LocalError when the last commit fails: the journal still has everything.
        """
        try:
            self._committer.flush()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close files without committing anything: what a crash leaves, for tests and for emergencies."""
        self.stop_reading()
        self._committer.close()
        os.close(self._lock_fd)


__all__ = ["INO_BLOCK", "Limits", "MetaStatistics", "MetaStore", "Transaction"]
