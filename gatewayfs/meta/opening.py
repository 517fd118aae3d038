"""From a cache directory to a store ready for work, whatever happened before.

In this order: lock the directory, open LMDB, refuse a newer schema, replay the journal (in slices of bounded memory),
migrate, compare the share's identity, write the recovery log anew, start an empty journal.

A full disk must not keep a gateway from starting: when LMDB cannot take the replayed changes they stay in memory
and in their old segments, and the committer tries again later.
"""

import fcntl
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import lmdb
import msgspec

from gatewayfs.errors import CacheDiskFailed, CacheDiskFull, CorruptRecord, LocalError, UserError
from gatewayfs.meta import codec, frames
from gatewayfs.meta.counters import Counters, recount
from gatewayfs.meta.journal import (
    SEGMENT_BYTES,
    SEGMENTS_MAX,
    Journal,
    Segment,
    delete_segments,
    prepare_segment,
    segment_paths,
)
from gatewayfs.meta.migrate import MIGRATIONS, VERSION_KEY, Migration, migrate, stored_version
from gatewayfs.meta.recovery_log import LOG_NAME
from gatewayfs.meta.replay import Replay, erase_frames_after
from gatewayfs.meta.schema import SCHEMA_VERSION
from gatewayfs.meta.writer import (
    APPLIED_KEY,
    COUNTERS_KEY,
    MAP_BYTES,
    Committed,
    Group,
    Writer,
    translated,
)
from gatewayfs.runtime.disk import translated as disk_translated
from gatewayfs.runtime.durable import fsync_directory

log = logging.getLogger(__name__)

META, JOURNAL, RECOVERY, LOCK = "meta", "journal", "recovery", "lock"

REPLAY_SLICE_KEYS = 50_000
"""Keys replayed per LMDB commit: about 25 MB of Python objects."""

INO_GAP = 1 << 20
"""Added to the next inode number when the machine was restarted: power loss may have taken creations whose numbers NFS
clients still hold. A full journal of creations is fewer than this (see ``journal.SEGMENTS_MAX``)."""

_PREFIX_KEY = codec.setting_key("prefix")
_BOOT_KEY = codec.setting_key("boot")
_NEXT_INO_KEY = codec.setting_key("next_ino")

FIRST_INO = 2


@dataclass
class Opened:
    """The parts of a store, and what LMDB could not take yet."""

    writer: Writer
    journal: Journal
    lock_fd: int
    counters: Counters
    applied: int
    next_ino: int = FIRST_INO
    committed: Committed = field(default_factory=lambda: Committed(0, "not written"))
    pending: dict[bytes, bytes | None] = field(default_factory=dict)
    """Replayed changes that are only in memory and in their old segments."""
    pending_data: dict[str, None] = field(default_factory=dict)
    problem: LocalError | None = None
    """Why there is something pending."""
    replayed: int = 0
    """Journal frames found and used."""
    dropped: int = 0
    """Journal frames behind the end, promised to nobody."""

    @property
    def behind(self) -> bool:
        """LMDB lacks something: changes, or only the number of a frame without any (``Syncing`` appends such)."""
        return bool(self.pending) or self.applied < self.journal.sequence


@dataclass(frozen=True)
class Limits:
    """Sizes; the defaults carry their reasons where they are defined."""

    map_bytes: int = MAP_BYTES
    segment_bytes: int = SEGMENT_BYTES
    segments_max: int = SEGMENTS_MAX


def open_directory(
    directory: Path,
    prefix: str,
    boot_identity: str,
    limits: Limits,
    migrations: Mapping[int, Migration] = MIGRATIONS,
    schema_version: int = SCHEMA_VERSION,
) -> Opened:
    """Open (or create) the store in ``directory``. Blocks.

    Raises:
        UserError: in use by another process, or made for another prefix.
        SchemaTooNew: written by a newer program.
        CorruptRecord: something that had been promised is damaged.
        CacheDiskFull, CacheDiskFailed: the disk fails, or is too full to migrate or to create a store.
    """
    assert prefix == "" or prefix.endswith("/"), "a prefix ends with a slash"
    try:
        for part in (JOURNAL, RECOVERY):
            (directory / part).mkdir(mode=0o700, parents=True, exist_ok=True)
        lock_fd = lock(directory)
    except OSError as problem:
        raise disk_translated(problem, str(directory)) from problem
    writer: Writer | None = None
    try:
        writer = Writer(directory / META, directory / RECOVERY, limits.map_bytes)
        # Journal and recovery log sync their own names; power loss must not take that of LMDB's file and leave theirs.
        fsync_directory(directory / META)
        fsync_directory(directory)
        with writer.env.begin() as txn:
            version = stored_version(txn.get(VERSION_KEY), schema_version)
            if version == 0 and (directory / RECOVERY / LOG_NAME).exists():
                # Starting empty would write the recovery log anew: the last copy of what is not uploaded yet.
                raise CorruptRecord(f"the records in {directory / META} are lost; the recovery log is still there")
            applied = int(txn.get(APPLIED_KEY) or b"0")
            stored = txn.get(COUNTERS_KEY)
            counters = Counters() if stored is None else msgspec.msgpack.decode(stored, type=Counters)
        replay = Replay(directory / JOURNAL, applied, frames.boot_digest(boot_identity))
        journal = Journal(
            replay.directory, replay.boot, applied, 1, limits.segment_bytes, limits.segments_max, applied, applied
        )
        opened = Opened(writer, journal, lock_fd, counters, applied)
        _replay(opened, replay, directory)
        if version != schema_version:
            _migrate(opened, version, schema_version, migrations)
        _identify(opened, prefix, boot_identity)
        _settle(opened)
        _start_journal(opened, limits.segment_bytes)
    except BaseException as problem:
        if writer is not None:
            writer.close()
        os.close(lock_fd)
        if isinstance(problem, OSError):
            raise disk_translated(problem, str(directory)) from problem
        if isinstance(problem, lmdb.Error):
            raise translated(problem, str(directory / META)) from problem
        raise
    return opened


def lock(directory: Path) -> int:
    """Keep other processes out; the descriptor holds the lock. Raises UserError, OSError."""
    fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise UserError(
            f"{directory} is in use by another gatewayfs", "stop it, or give this share a directory of its own"
        ) from None
    return fd


def _replay(opened: Opened, replay: Replay, directory: Path) -> None:
    """Bring the journal into LMDB, slice by slice; what LMDB refuses stays pending."""
    for frame in replay:
        for key, value in codec.decode_changes(frame.payload):
            if key[:1] == codec.DATA_PATH:
                opened.pending_data[str(directory / os.fsdecode(key[1:]))] = None
            else:
                opened.pending[key] = value
        opened.journal.sequence = frame.sequence
        opened.replayed += 1
        if len(opened.pending) >= REPLAY_SLICE_KEYS and opened.problem is None:
            _commit(opened)
    opened.dropped = replay.dropped
    opened.journal.next_number = replay.next_number
    if opened.behind:
        _commit(opened)
    if opened.replayed or opened.dropped:
        log.info("journal replayed: %d changes, %d unpromised ones dropped", opened.replayed, opened.dropped)


def _commit(opened: Opened) -> None:
    """Pending changes into LMDB; a full disk leaves them pending."""
    counters = _with_pending(opened)
    data_paths = list(opened.pending_data)
    group = Group(opened.pending, {}, data_paths, opened.journal.sequence, codec.encode(counters))
    try:
        committed = opened.writer.commit(group, rewrite_log=False)
    except CacheDiskFull as problem:
        opened.problem = problem
        return
    if committed.failed_data_paths:
        raise CacheDiskFailed(f"{committed.failed_data_paths[0]} cannot be written back")
    opened.counters, opened.applied = counters, opened.journal.sequence
    opened.pending, opened.pending_data, opened.problem = {}, {}, None


def _with_pending(opened: Opened) -> Counters:
    """The counters once LMDB holds what is pending."""
    counters = replace(opened.counters)
    with opened.writer.env.begin() as txn:
        for key, value in opened.pending.items():
            counters.count(key, txn.get(key), -1)
            counters.count(key, value, 1)
    return counters


def _migrate(opened: Opened, version: int, target: int, migrations: Mapping[int, Migration]) -> None:
    if opened.problem is not None:
        raise opened.problem
    try:
        with opened.writer.env.begin(write=True) as txn:
            migrate(txn, version, target, migrations)
            if version:
                opened.counters = recount(txn)
                txn.put(COUNTERS_KEY, codec.encode(opened.counters))
                log.info("records migrated from schema %d to %d", version, target)
    except lmdb.Error as problem:
        raise translated(problem, "migration") from problem


def _identify(opened: Opened, prefix: str, boot_identity: str) -> None:
    """Compare prefix and boot identity with those of the last time; find the next inode number."""

    def setting(key: bytes) -> bytes | None:
        if key in opened.pending:
            return opened.pending[key]
        with opened.writer.env.begin() as txn:
            value: bytes | None = txn.get(key)
            return value

    stored = setting(_PREFIX_KEY)
    if stored is None:
        opened.pending[_PREFIX_KEY] = prefix.encode()
    elif stored != prefix.encode():
        raise UserError(
            f"this cache directory belongs to the prefix {stored.decode()!r}, not {prefix!r}",
            "use the prefix it was made with, or another cache directory",
        )
    boot = boot_identity.encode()
    last_boot = setting(_BOOT_KEY)
    opened.next_ino = int(setting(_NEXT_INO_KEY) or FIRST_INO)
    if last_boot is not None and (last_boot != boot or not boot):
        opened.next_ino += INO_GAP
        opened.pending[_NEXT_INO_KEY] = str(opened.next_ino).encode()
    if last_boot != boot:
        opened.pending[_BOOT_KEY] = boot


def _settle(opened: Opened) -> None:
    """Everything pending into LMDB, and the recovery log anew."""
    if opened.behind and opened.problem is None:
        _commit(opened)
    if opened.problem is not None:
        opened.counters = _with_pending(opened)
        log.error("LMDB cannot take the replayed changes yet: %s", opened.problem)
        return
    opened.committed = opened.writer.rewrite_recovery_log(opened.applied)


def _start_journal(opened: Opened, segment_bytes: int) -> None:
    """Delete the old segments, or keep them while LMDB lacks their changes; prepare an empty one.

    From here on frames say that everything before them was synced, so LMDB must know the number of the last frame
    that is deleted, even if that frame held nothing: the next start would miss it and take the gap for damage.
    """
    journal = opened.journal
    try:
        old = [
            Segment(int(path.stem, 16), path, os.open(path, os.O_RDWR | os.O_CLOEXEC), 0, 0, 0, journal.sequence, True)
            for path in segment_paths(journal.directory)
        ]
        if opened.problem is not None:
            if opened.dropped:
                erase_frames_after(journal.directory, journal.sequence)
            journal.segments = old
        else:
            delete_segments(journal.directory, old)
            journal.synced = journal.ordered = journal.sequence
    except OSError as problem:
        raise disk_translated(problem, str(journal.directory)) from problem
    try:
        journal.spare = prepare_segment(journal.directory, journal.take_number(), journal.boot, segment_bytes)
    except OSError as problem:
        log.error("no room for a journal segment: changes are refused until there is: %s", problem.strerror)
