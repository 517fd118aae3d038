"""The LMDB environment and the one who writes it.

A *group* is everything acknowledged since the last commit. ``Writer.commit`` makes it durable: first the cache files
the records talk about, then LMDB with the sequence number of the last journal frame it contains, then the recovery
log. It blocks, runs in a thread, and never two at a time; everything it needs comes in as values.

LMDB commits with sync: without it, power loss can leave a B-tree that does not open. The journal in front of it is what
makes that affordable.
"""

import errno
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import lmdb

from gatewayfs.errors import CacheDiskFailed, CacheDiskFull, CorruptRecord, LocalError
from gatewayfs.meta import codec
from gatewayfs.meta.recovery_log import UNCOPIED_SETTINGS, Pair, RecoveryLog
from gatewayfs.runtime.durable import SyncedNames, datasync_path
from gatewayfs.runtime.failpoints import failpoint, register

log = logging.getLogger(__name__)

MAP_BYTES: Final = 64 << 30
"""Address space only, the file grows as needed. 100 million inodes take about 40 GiB."""

PAGES_UNWRITTEN_MAX: Final = 64
"""More pages than that missing at the end of LMDB's file is damage."""

DAMAGE: Final = (lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.VersionMismatchError)

APPLIED_KEY: Final = codec.setting_key("applied_sequence")
COUNTERS_KEY: Final = codec.setting_key("counters")

_BEFORE_DATA = register("meta.data_sync.before", "the journal holds the group; its cache files are in the page cache")
_AFTER_DATA = register("meta.data_sync.after", "the journal holds the group; its cache files are on disk")
_BEFORE_COMMIT = register("meta.commit.before", "the journal and the cache files; nothing of the group in LMDB")
_AFTER_COMMIT = register("meta.commit.after", "LMDB holds the group")


@dataclass(frozen=True)
class Group:
    """What one commit shall make durable."""

    changes: dict[bytes, bytes | None]
    recovery: dict[bytes, bytes | None]
    """What the recovery log shall copy."""
    data_paths: list[str]
    sequence: int
    counters: bytes


@dataclass(frozen=True)
class Committed:
    """What came of it."""

    recovery_log_bytes: int
    recovery_log_stale: str
    """Why the recovery log is incomplete; "" normally."""
    anchored: set[int] | None = None
    """Directories in the recovery log, when it was written anew."""
    failed_data_paths: list[str] = field(default_factory=list)


def open_environment(directory: Path, map_bytes: int = MAP_BYTES) -> lmdb.Environment:
    """Open or create ``directory``/data.mdb. Raises LocalError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        env = lmdb.open(
            str(directory),
            map_size=map_bytes,
            subdir=True,
            max_dbs=0,
            # The working set is hot pages all over the file; read-ahead would fill memory with neighbours.
            readahead=False,
            mode=0o600,
        )
        env.reader_check()
    except lmdb.Error as problem:
        raise translated(problem, f"open {directory}") from problem
    try:
        _check_length(env, directory / "data.mdb")
    except BaseException:
        env.close()
        raise
    return env


def _check_length(env: lmdb.Environment, path: Path) -> None:
    """A file cut short would end this process with SIGBUS at the first look behind its end. Raises CorruptRecord.

    The last few pages may rightly be missing (allocated and given back within one transaction): they become zeros,
    which LMDB knows for what they are.
    """
    page_bytes = env.stat()["psize"]
    wanted_bytes = (env.info()["last_pgno"] + 1) * page_bytes
    missing_bytes = wanted_bytes - path.stat().st_size
    if missing_bytes > PAGES_UNWRITTEN_MAX * page_bytes:
        raise CorruptRecord(f"{path} is {missing_bytes} bytes shorter than its records say")
    if missing_bytes > 0:
        os.truncate(path, wanted_bytes)


def translated(problem: lmdb.Error, what: str) -> LocalError:
    """LMDB's complaint in our language."""
    text = str(problem)
    if isinstance(problem, DAMAGE):
        return CorruptRecord(f"{what}: {text}")
    full = isinstance(problem, lmdb.MapFullError) or "No space left" in text or "quota" in text.lower()
    return CacheDiskFull(f"{what}: {text}") if full else CacheDiskFailed(f"{what}: {text}")


class Writer:
    """The only one who opens write transactions."""

    def __init__(self, directory: Path, recovery_directory: Path, map_bytes: int = MAP_BYTES) -> None:
        self._directory = directory
        self._map_bytes = map_bytes
        self._env = open_environment(directory, map_bytes)
        self.broken = False
        """LMDB wants to be closed and opened again before it does anything more."""
        self._log = RecoveryLog(recovery_directory)
        self.names = SyncedNames(directory.parent)
        self._busy = threading.Lock()

    @property
    def env(self) -> lmdb.Environment:
        """For reading."""
        return self._env

    def commit(self, group: Group, rewrite_log: bool = True) -> Committed:
        """Make ``group`` durable. Raises LocalError; then LMDB is as it was before.

        Args:
            rewrite_log: write the recovery log anew if it is due.
        """
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("two commits at a time")
        try:
            failed = self._sync_data(group.data_paths)
            self._commit_lmdb(group)
            self._log.append(list(group.recovery.items()), group.sequence)
            if rewrite_log and self._log.wants_compaction:
                return replace(self.rewrite_recovery_log(group.sequence), failed_data_paths=failed)
            return Committed(self._log.size_bytes, self._log.stale, None, failed)
        except OSError as problem:
            if problem.errno in (errno.ENOSPC, errno.EDQUOT):
                raise CacheDiskFull(f"commit: {problem.strerror}") from problem
            raise CacheDiskFailed(f"commit: {problem.strerror}") from problem
        finally:
            self._busy.release()

    def rewrite_recovery_log(self, sequence: int) -> Committed:
        """Write the recovery log from what LMDB holds; never raises, see ``Committed.recovery_log_stale``."""
        anchored: set[int] = set()
        with self._env.begin() as txn:
            written = self._log.rewrite(lambda: live_pairs(txn, anchored), sequence)
        return Committed(self._log.size_bytes, self._log.stale, anchored if written else None)

    def reopen(self) -> lmdb.Environment:
        """Close and open LMDB again, when it is ``broken``; nobody may be reading. Raises LocalError."""
        self._env.close()
        self._env = open_environment(self._directory, self._map_bytes)
        self.broken = False
        return self._env

    def close(self) -> None:
        """Close LMDB and the recovery log."""
        self._log.close()
        self._env.close()

    def _sync_data(self, paths: list[str]) -> list[str]:
        failpoint(_BEFORE_DATA)
        failed = []
        for path in paths:
            try:
                datasync_path(path)
            except OSError:
                # Reported upward: durability claims end, but the record is better in LMDB than nowhere.
                failed.append(path)
        try:
            self.names.sync(paths)
        except OSError:
            failed = paths
        failpoint(_AFTER_DATA)
        return failed

    def _commit_lmdb(self, group: Group) -> None:
        try:
            with self._env.begin(write=True) as txn:
                changes = group.changes
                # Sorted: neighbours in the B-tree are written together.
                keys = sorted(changes)
                puts = [(key, value) for key in keys if (value := changes[key]) is not None]
                txn.cursor().putmulti(puts)
                for key in keys:
                    if changes[key] is None:
                        txn.delete(key)
                txn.put(APPLIED_KEY, str(group.sequence).encode())
                txn.put(COUNTERS_KEY, group.counters)
                failpoint(_BEFORE_COMMIT)
        except lmdb.Error as problem:
            self.broken = isinstance(problem, lmdb.PanicError)
            raise translated(problem, "commit") from problem
        failpoint(_AFTER_COMMIT)


def live_pairs(txn: Any, anchored: set[int]) -> Iterator[Pair]:
    """What the recovery log must hold, from LMDB; ``anchored`` receives the directories among it."""
    for table in (codec.SETTING, codec.DOOMED, codec.UPLOAD, codec.PARKED, codec.FENCE):
        for key, value in _table(txn, table):
            if key not in UNCOPIED_SETTINGS:
                yield key, value
    for key in _keys(txn, codec.DIRTY):
        yield from _with_ancestors(txn, codec.number_at(key, 9), anchored)


def _with_ancestors(txn: Any, ino: int, anchored: set[int]) -> Iterator[Pair]:
    """A dirty inode's record and those above it that are not yet in ``anchored``. Damage is for ``check`` to name."""
    seen: set[int] = set()
    while ino and ino not in anchored and ino not in seen:
        seen.add(ino)
        key = codec.inode_key(ino)
        value = txn.get(key)
        if value is None:
            return
        try:
            inode = codec.decode_inode(key, value)
        except CorruptRecord as problem:
            log.error("%s", problem)
            return
        if inode.is_directory:
            anchored.add(ino)
        yield key, value
        ino = inode.parent


def _table(txn: Any, table: bytes) -> Iterator[tuple[bytes, bytes]]:
    cursor = txn.cursor()
    if cursor.set_range(table):
        for key, value in cursor.iternext():
            if key[:1] != table:
                return
            yield key, value


def _keys(txn: Any, table: bytes) -> Iterator[bytes]:
    cursor = txn.cursor()
    if cursor.set_range(table):
        for key in cursor.iternext(values=False):
            if key[:1] != table:
                return
            yield key
