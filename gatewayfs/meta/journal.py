"""The journal: acknowledged changes, safe from ``kill -9`` at once and from power loss after ``sync``.

A transaction is one frame, appended with one ``pwrite`` into a preallocated segment file ``journal/<number>.log``:
a few microseconds, and no space to run out of. Once LMDB holds everything up to some sequence number, segments with
nothing newer are deleted. A new segment is prepared in the committer's thread well before the current one is full.

Numbers never jump: a segment is deleted only when LMDB has the number of its last frame, whatever that frame held. The
reader (``replay.py``) relies on it; what power loss can do to a journal is told there.
"""

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path

from gatewayfs.errors import CacheDiskFailed, NoSpace
from gatewayfs.meta import frames
from gatewayfs.meta.frames import SegmentHeader
from gatewayfs.runtime.durable import fresh_salt, fsync_directory, preallocate
from gatewayfs.runtime.failpoints import failpoint, register

SEGMENT_BYTES = 16 << 20
"""About 40,000 file creations: at the 1,500 per second one daemon reaches, half a minute between two new segments."""

SEGMENTS_MAX = 8
"""While commits fail (disk full) this much is taken in before writers get ENOSPC: 128 MiB. It also bounds the inode
numbers that power loss can make us forget: a creation needs more than 128 bytes of journal, so fewer than 2**20."""

_BEFORE_APPEND = register("meta.append.before", "nothing of the transaction")
_AFTER_APPEND = register("meta.append.after", "the transaction, except against power loss")
_BEFORE_SYNC = register("meta.sync.before", "acknowledged transactions, except against power loss")
_AFTER_SYNC = register("meta.sync.after", "acknowledged transactions, against power loss too")
_BEFORE_DROP = register("meta.drop.before", "LMDB holds what the segment holds; the segment is still there")
_AFTER_DROP = register("meta.drop.after", "the segment is gone")


@dataclass(slots=True)
class Segment:
    """One segment file, open for appending."""

    number: int
    path: Path
    fd: int
    salt: int
    size_bytes: int
    end: int = frames.SEGMENT_HEADER_BYTES
    last_sequence: int = 0
    unsynced: bool = False
    """Holds frames that were not fdatasynced yet."""


def _segment_path(directory: Path, number: int) -> Path:
    return directory / f"{number:016x}.log"


def segment_paths(directory: Path) -> list[Path]:
    """The segment files in ``directory``, in the order they were written."""
    return sorted(directory.glob("*.log"))


def prepare_segment(directory: Path, number: int, boot: bytes, size_bytes: int) -> Segment:
    """Make an empty segment, durable with its name. Blocks. Raises OSError, leaving nothing behind."""
    path = _segment_path(directory, number)
    salt = fresh_salt()
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        preallocate(fd, size_bytes)
        os.pwrite(fd, frames.encode_header(SegmentHeader(number, salt, boot)), 0)
        os.fsync(fd)
        fsync_directory(directory)
    except OSError:
        os.close(fd)
        path.unlink(missing_ok=True)
        raise
    return Segment(number, path, fd, salt, size_bytes)


def delete_segments(directory: Path, segments: list[Segment]) -> None:
    """Remove segments nobody needs any more, newest first. Blocks. Raises OSError."""
    failpoint(_BEFORE_DROP)
    for segment in sorted(segments, key=lambda each: -each.number):
        os.close(segment.fd)
        segment.path.unlink(missing_ok=True)
    fsync_directory(directory)
    failpoint(_AFTER_DROP)


def sync_segments(fds: list[int]) -> None:
    """fdatasync. Blocks. Raises OSError."""
    failpoint(_BEFORE_SYNC)
    for fd in fds:
        os.fdatasync(fd)
    failpoint(_AFTER_SYNC)


@dataclass
class Journal:
    """The segments of one store, in memory. Used by the loop's thread only.

    Args:
        directory: where the segments are.
        boot: digest of the boot identity (``frames.boot_digest``).
        sequence: the last sequence number used so far.
        next_number: a segment number greater than any present.
        segment_bytes: size of a segment.
    """

    directory: Path
    boot: bytes
    sequence: int
    next_number: int
    segment_bytes: int = SEGMENT_BYTES
    segments_max: int = SEGMENTS_MAX
    synced: int = 0
    """Every frame up to here is safe from power loss."""
    ordered: int = 0
    """The cache files named by frames up to here are on disk."""
    segments: list[Segment] = field(default_factory=list)
    spare: Segment | None = None

    def append(self, payload: bytes, needs_data: bool) -> int:
        """Append one transaction and return its sequence number.

        Raises:
            NoSpace: no room in the segment and none for a new one; nothing happened.
            CacheDiskFailed: the write failed; nothing happened.
        """
        size = frames.frame_bytes(len(payload))
        segment = self.segments[-1] if self.segments else None
        if segment is None or segment.end + size > segment.size_bytes:
            segment = self._next_segment(size)
        sequence = self.sequence + 1
        flags = frames.NEEDS_DATA if needs_data else 0
        frame = frames.encode_frame(segment.salt, sequence, self.synced, self.ordered, flags, payload)
        try:
            failpoint(_BEFORE_APPEND)
            written = os.pwrite(segment.fd, frame, segment.end)
            if written != size:
                raise OSError(errno.EIO, f"short write into {segment.path.name}")
        except OSError as problem:
            self._erase(segment)
            if problem.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpace("the cache disk is full: the journal cannot take this change") from problem
            raise CacheDiskFailed(f"journal append: {problem.strerror}") from problem
        segment.end += size
        segment.last_sequence = self.sequence = sequence
        segment.unsynced = True
        failpoint(_AFTER_APPEND)
        return sequence

    @property
    def wants_spare(self) -> bool:
        """The current segment is a quarter full and no next one is ready."""
        if self.spare is not None or len(self.segments) >= self.segments_max:
            return False
        return not self.segments or self.segments[-1].end * 4 > self.segments[-1].size_bytes

    @property
    def bytes_used(self) -> int:
        return sum(segment.end for segment in self.segments)

    def take_number(self) -> int:
        """The number for a new segment; never given twice."""
        number = self.next_number
        self.next_number += 1
        return number

    def unsynced(self) -> list[Segment]:
        """Segments to fdatasync for everything appended so far."""
        return [segment for segment in self.segments if segment.unsynced]

    def accept_spare(self, spare: Segment) -> bool:
        """Take a prepared segment; False when a newer one was begun meanwhile (numbers tell the order of writing)."""
        if self.spare is not None or (self.segments and self.segments[-1].number > spare.number):
            return False
        self.spare = spare
        return True

    def take_droppable(self, applied: int, keep: set[int]) -> list[Segment]:
        """Segments whose frames LMDB holds, except the current one and descriptors in ``keep``; the caller's now."""
        droppable = [each for each in self.segments[:-1] if each.last_sequence <= applied and each.fd not in keep]
        self.segments = [segment for segment in self.segments if segment not in droppable]
        return droppable

    def close(self) -> None:
        """Close all files; they stay where they are."""
        for segment in (*self.segments, *([self.spare] if self.spare else [])):
            os.close(segment.fd)
        self.segments, self.spare = [], None

    def _next_segment(self, frame_size: int) -> Segment:
        """Make the spare the current segment, or create one here and now when the committer was too slow."""
        if len(self.segments) >= self.segments_max:
            raise NoSpace("the journal is full: changes cannot be committed to the cache disk")
        fits = self.spare is not None and frames.SEGMENT_HEADER_BYTES + frame_size <= self.spare.size_bytes
        if self.spare is not None and fits:
            segment, self.spare = self.spare, None
        else:
            if self.spare is not None:
                # Numbers tell the order of writing, so a spare that is passed over is never written.
                self.segments.append(self.spare)
                self.spare = None
            size_bytes = max(self.segment_bytes, frames.SEGMENT_HEADER_BYTES + frame_size)
            try:
                segment = prepare_segment(self.directory, self.take_number(), self.boot, size_bytes)
            except OSError as problem:
                if problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise NoSpace("the cache disk is full: no room for the journal") from problem
                raise CacheDiskFailed(f"new journal segment: {problem.strerror}") from problem
        self.segments.append(segment)
        return segment

    def _erase(self, segment: Segment) -> None:
        """After a failed append: no half frame stays behind that a later start might find whole."""
        try:
            os.pwrite(segment.fd, bytes(frames.FRAME_HEADER_BYTES), segment.end)
        except OSError as problem:
            raise CacheDiskFailed(f"journal append failed and cannot be undone: {problem.strerror}") from problem
