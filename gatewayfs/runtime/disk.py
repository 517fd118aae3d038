"""Reads and writes of cache files that never make the event loop wait for a disk.

A read first asks for what is in the page cache (``RWF_NOWAIT``): for cached bytes that is a memory copy, done inline
in a few microseconds. Only when the kernel would have to wait does a thread do it. Buffered writes have no such flag on
ext4, so they are measured: a write is a memory copy until the kernel starts to throttle the writer, and as soon as one
takes longer than ``SLOW_WRITE_S`` the following ones go to a thread until things have been quiet for a while. A
hand-over to a thread costs 60-150 us here, more than copying 128 KiB, so neither extreme is right.
"""

import ctypes
import errno
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from gatewayfs.errors import CacheDiskFailed, CacheDiskFull, LocalError
from gatewayfs.runtime.diskhealth import DiskHealth
from gatewayfs.runtime.offload import Offloader

SLOW_WRITE_S = 0.004
"""Copying 1 MiB into the page cache takes 0.2-0.6 ms; an order of magnitude more means the kernel makes us wait."""

SLOW_FOR_S = 1.0
"""How long writes go to a thread after a slow one; the kernel throttles in pauses of up to 200 ms."""

PUNCH_HOLE = 0x02 | 0x01  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE


def translated(problem: OSError, what: str) -> LocalError:
    """The disk's complaint in our language; ``what`` names the file and the action."""
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return CacheDiskFull(f"{what}: the cache disk is full")
    return CacheDiskFailed(f"{what}: {problem.strerror}")


class OpenFile:
    """A descriptor that closes when the last user lets go of it.

    A thread that is still reading holds a reference, so neither the cache of descriptors nor an eviction can close
    (and the kernel hand out again) a number somebody is using.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


class Disk:
    """File operations on the cache disk.

    Args:
        offload: runs a function in a thread (``runtime.offload``).
        reading: the same for reads: where they get stuck, writes shall not have to wait for a thread.
        health: hears of errors.
    """

    def __init__(self, offload: Offloader, reading: Offloader, health: DiskHealth) -> None:
        self._offload, self.reading, self.health = offload, reading, health
        self._slow_until = 0.0

    async def read(self, file: OpenFile, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes; fewer only at the end of the file. Raises LocalError.

        When cancelled, the thread is left to itself: it holds the file and a buffer of its own, nothing else.
        """
        buffer = bytearray(length)
        try:
            got = os.preadv(file.fd, [buffer], offset, os.RWF_NOWAIT)
        except OSError as problem:
            # EAGAIN: the page cache does not hold it. EOPNOTSUPP: this file system knows no NOWAIT (tmpfs before 6.x).
            if problem.errno not in (errno.EAGAIN, errno.EOPNOTSUPP):
                self.health.read_failed(problem)
                raise translated(problem, f"read at {offset}") from problem
            got = 0
        if got == length:
            return bytes(buffer)
        try:
            return await self.reading.run(pread_exactly, file, offset, length, abandon_on_cancel=True)
        except OSError as problem:
            self.health.read_failed(problem)
            raise translated(problem, f"read at {offset}") from problem

    async def write(self, file: OpenFile, offset: int, data: bytes) -> None:
        """Write all of ``data``. Raises LocalError; then any part of the range may have been written."""
        started = time.monotonic()
        try:
            if started < self._slow_until:
                await self._offload.run(pwrite_all, file, offset, data)
            else:
                pwrite_all(file, offset, data)
        except OSError as problem:
            raise self.failed(problem, f"write of {len(data)} bytes at {offset}") from problem
        now = time.monotonic()
        if now - started > SLOW_WRITE_S:
            self._slow_until = now + SLOW_FOR_S

    def failed(self, problem: OSError, what: str) -> LocalError:
        """``translated``, for a write; the disk's health suffers unless it is only full."""
        error = translated(problem, what)
        if isinstance(error, CacheDiskFailed):
            self.health.write_failed(error)
        return error


_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def _fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2): Python only offers posix_fallocate, which cannot punch."""
    if _libc.fallocate(fd, mode, offset, length) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def punch_hole(file: OpenFile, offset: int, length: int) -> None:
    """Give the blocks of a range back; it reads as zeros afterwards. Where the file system cannot, nothing happens."""
    try:
        _fallocate(file.fd, PUNCH_HOLE, offset, length)
    except OSError as problem:
        if problem.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise translated(problem, f"punch hole at {offset}") from problem


def holes(file: OpenFile) -> Iterator[tuple[int, int]]:
    """The unallocated ranges of a file, from front to back. Raises OSError."""
    size, position = os.fstat(file.fd).st_size, 0
    while position < size:
        start = os.lseek(file.fd, position, os.SEEK_HOLE)
        try:
            position = os.lseek(file.fd, start, os.SEEK_DATA)
        except OSError as problem:
            if problem.errno != errno.ENXIO:  # no data behind it
                raise
            position = size
        if start < position:
            yield start, position


def allocated_bytes(paths: Iterable[Path]) -> list[int]:
    """What files take on the disk, in order; 0 for one that is not there."""
    found = []
    for path in paths:
        try:
            found.append(path.stat().st_blocks * 512)
        except FileNotFoundError:
            found.append(0)
    return found


def free_bytes(directory: Path) -> int:
    """What an unprivileged program may still write on the file system of ``directory``."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def pread_exactly(file: OpenFile, offset: int, length: int) -> bytes:
    """Read until ``length`` bytes or the end of the file."""
    pieces: list[bytes] = []
    while length > 0:
        piece = os.pread(file.fd, length, offset)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def pwrite_all(file: OpenFile, offset: int, data: bytes | memoryview) -> None:
    """Write all of ``data``, however many calls it takes."""
    written = os.pwrite(file.fd, data, offset)
    while written < len(data):
        data = memoryview(data)[written:]
        offset += written
        written = os.pwrite(file.fd, data, offset)


def open_file(path: Path, *, create: bool = False) -> OpenFile:
    """Open for reading and writing. Raises LocalError, or FileNotFoundError when it is missing and not created."""
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    try:
        return OpenFile(os.open(path, flags, 0o600))
    except FileNotFoundError:
        if not create:
            raise
        path.parent.mkdir(parents=True, exist_ok=True)
        return OpenFile(os.open(path, flags, 0o600))
    except OSError as problem:
        raise translated(problem, f"open {path.name}") from problem
