"""A second, independent copy of what only this machine knows: ``recovery/log``.

LMDB is the truth; this file is for the day it is lost. It holds every dirty inode, the directories on the way to it
(*anchored* ones), doomed keys, uploads under way, parked entries, fences and the settings, in the journal's frames:
raw keys and values, ``nil`` for "gone". Each group commit appends its part after LMDB has it. The file is written anew
from LMDB at start and whenever it has become much larger than what is alive in it.

It is the second copy, so trouble with it never fails a commit: the log is marked stale, ``statistics`` says so, and
the next commit writes it anew.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from gatewayfs.errors import CorruptRecord
from gatewayfs.meta import codec, frames
from gatewayfs.meta.frames import Frame, SegmentHeader
from gatewayfs.runtime.durable import fresh_salt, fsync_directory
from gatewayfs.runtime.failpoints import failpoint, register

LOG_NAME = "log"

COMPACT_ABOVE_BYTES = 16 << 20
"""A log up to this size is left alone: reading it takes a tenth of a second."""

COMPACT_RATIO = 4
"""Written anew when this many times larger than after the last time: each byte is then copied 1.33 times on average."""

PAIRS_PER_FRAME = 1000
"""About 250 KB a frame: bounds memory while writing anew."""

UNCOPIED_SETTINGS = frozenset((codec.setting_key("applied_sequence"), codec.setting_key("counters")))
"""They describe the LMDB environment, not the share."""

_BEFORE_APPEND = register("meta.recovery.before", "LMDB holds the group; the recovery log does not yet")
_AFTER_APPEND = register("meta.recovery.after", "LMDB and the recovery log hold the group")
_BEFORE_REPLACE = register("meta.compact.before", "the new recovery log is written, the old one still has the name")
_AFTER_REPLACE = register("meta.compact.after", "the new recovery log has the name")

Pair = tuple[bytes, bytes | None]


class RecoveryLog:
    """Writing side; used by one thread at a time. Nothing here raises OSError: see ``stale``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._fd = -1
        self._salt = 0
        self._bytes = 0
        self._compacted_bytes = 0
        self.stale = "not written since start"
        """Why the log must be written anew; "" while it is complete."""

    @property
    def wants_compaction(self) -> bool:
        if self.stale:
            return True
        return self._bytes > max(COMPACT_ABOVE_BYTES, COMPACT_RATIO * self._compacted_bytes)

    @property
    def size_bytes(self) -> int:
        return self._bytes

    def append(self, pairs: list[Pair], sequence: int) -> None:
        """Add one group's part, durably."""
        if not pairs or self.stale:
            return
        frame = frames.encode_frame(self._salt, sequence, 0, 0, 0, codec.encode(pairs))
        try:
            failpoint(_BEFORE_APPEND)
            _write_all(self._fd, frame)
            os.fdatasync(self._fd)
            failpoint(_AFTER_APPEND)
        except OSError as problem:
            self.stale = f"append: {problem.strerror}"
            return
        self._bytes += len(frame)

    def rewrite(self, live: Callable[[], Iterator[Pair]], sequence: int) -> bool:
        """Replace the log by what is alive (``live``); False and ``stale`` when the disk refuses."""
        temporary = self._directory / (LOG_NAME + ".new")
        salt, size = fresh_salt(), frames.SEGMENT_HEADER_BYTES
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            self.stale = f"rewrite: {problem.strerror}"
            return False
        try:
            _write_all(fd, frames.encode_header(SegmentHeader(0, salt, bytes(16))))
            for batch in _batches(live()):
                frame = frames.encode_frame(salt, sequence, 0, 0, 0, codec.encode(batch))
                _write_all(fd, frame)
                size += len(frame)
            os.fsync(fd)
            failpoint(_BEFORE_REPLACE)
            os.replace(temporary, self._directory / LOG_NAME)
            fsync_directory(self._directory)
            failpoint(_AFTER_REPLACE)
        except OSError as problem:
            os.close(fd)
            self.stale = f"rewrite: {problem.strerror}"
            return False
        self.close()
        self._fd, self._salt, self._bytes, self._compacted_bytes, self.stale = fd, salt, size, size, ""
        return True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_log(directory: Path) -> Iterator[Frame]:
    """The frames of ``directory``/log up to the first damaged one; none when there is no log.

    Raises CorruptRecord when the file is there but its header is not readable.
    """
    try:
        data = (directory / LOG_NAME).read_bytes()
    except FileNotFoundError:
        return
    header = frames.decode_header(data)
    if header is None:
        raise CorruptRecord(f"{directory / LOG_NAME} has no readable header")
    yield from frames.frames_in(data, header.salt)


def _batches(pairs: Iterator[Pair]) -> Iterator[list[Pair]]:
    batch: list[Pair] = []
    for pair in pairs:
        batch.append(pair)
        if len(batch) == PAIRS_PER_FRAME:
            yield batch
            batch = []
    yield batch


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
