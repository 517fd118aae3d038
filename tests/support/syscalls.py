"""System calls Python has no function for, and acting as somebody else for a few lines.

``acting_as`` changes the file system identity of the calling thread only (setfsuid, setfsgid and the raw setgroups
system call), which is what the kernel checks and what a FUSE request carries. So a test asks as several users in one
process, with plain ``os`` calls and exact errno values, and needs no interpreter other users can execute.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

AT_FDCWD = -100
UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2

# Numbers differ between x86-64 and the generic table that arm64 uses.
_SYS_SETGROUPS, _SYS_GETDENTS64 = (116, 217) if platform.machine() == "x86_64" else (159, 61)
_HANDLE_BYTES_MAX = 128

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, *paths: str | os.PathLike[str] | bytes) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), *paths[:1])
    return result


def renameat2(old: str | os.PathLike[str], new: str | os.PathLike[str], flags: int) -> None:
    """rename(2) with RENAME_NOREPLACE, RENAME_EXCHANGE ...; raises OSError."""
    _checked(_libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags), old)


def punch_hole(fd: int, offset: int, length: int) -> None:
    """fallocate(2) with FALLOC_FL_PUNCH_HOLE; raises OSError."""
    keep_size_and_punch = 3
    _checked(_libc.fallocate(fd, keep_size_and_punch, ctypes.c_long(offset), ctypes.c_long(length)))


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


def utimensat(path: str | os.PathLike[str], atime: tuple[int, int], mtime: tuple[int, int]) -> None:
    """Set times as (seconds, nanoseconds); UTIME_NOW and UTIME_OMIT may stand for nanoseconds. Raises OSError."""
    times = (_Timespec * 2)(_Timespec(*atime), _Timespec(*mtime))
    _checked(_libc.utimensat(AT_FDCWD, os.fsencode(path), times, 0), path)


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """One record of getdents64(2): its inode, the position behind it, and its name."""

    ino: int
    offset: int
    name: bytes


def getdents(fd: int, buffer_bytes: int = 4096) -> list[DirectoryEntry]:
    """The next entries of an open directory, as many as fit the buffer; [] at its end. ``os.lseek`` goes back."""
    buffer = ctypes.create_string_buffer(buffer_bytes)
    length = _checked(_libc.syscall(_SYS_GETDENTS64, fd, buffer, buffer_bytes))
    entries, at = [], 0
    while at < length:
        ino, offset, record_bytes, _ = struct.unpack_from("<QqHB", buffer.raw, at)
        name = buffer.raw[at + 19 : at + record_bytes].split(b"\0", 1)[0]
        entries.append(DirectoryEntry(ino, offset, name))
        at += record_bytes
    return entries


class _FileHandle(ctypes.Structure):
    _fields_ = [
        ("bytes", ctypes.c_uint),
        ("type", ctypes.c_int),
        ("data", ctypes.c_ubyte * _HANDLE_BYTES_MAX),
    ]


@dataclass(frozen=True, slots=True)
class FileHandle:
    """What an NFS server keeps of a file: opaque, valid as long as the file exists."""

    type: int
    data: bytes


def name_to_handle(path: str | os.PathLike[str]) -> FileHandle:
    """name_to_handle_at(2); raises OSError."""
    raw, mount = _FileHandle(bytes=_HANDLE_BYTES_MAX), ctypes.c_int()
    _checked(
        _libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), ctypes.byref(raw), ctypes.byref(mount), 0),
        path,
    )
    return FileHandle(raw.type, bytes(raw.data[: raw.bytes]))


def open_by_handle(mount_fd: int, handle: FileHandle, flags: int) -> int:
    """open_by_handle_at(2) on the mount ``mount_fd`` lies in; returns a descriptor or raises OSError."""
    raw = _FileHandle(bytes=len(handle.data), type=handle.type)
    ctypes.memmove(raw.data, handle.data, len(handle.data))
    return _checked(_libc.open_by_handle_at(mount_fd, ctypes.byref(raw), flags))


@contextmanager
def acting_as(uid: int, gid: int, groups: Sequence[int] = ()) -> Iterator[None]:
    """Do the block's file operations as another user; needs root."""
    before = os.getgroups()
    _set_groups(groups)
    _libc.setfsgid(gid)
    _libc.setfsuid(uid)
    try:
        # An impossible id changes nothing and answers the current one: the only way to ask.
        assert _libc.setfsuid(-1) == uid
        assert _libc.setfsgid(-1) == gid
        yield
    finally:
        _libc.setfsuid(0)
        _libc.setfsgid(0)
        _set_groups(before)


def _set_groups(groups: Sequence[int]) -> None:
    # The raw call, because glibc's changes every thread of the process.
    _checked(_libc.syscall(_SYS_SETGROUPS, len(groups), (ctypes.c_uint * len(groups))(*groups)))


@contextmanager
def fails(number: int) -> Iterator[None]:
    """The block must raise OSError with this errno."""
    with pytest.raises(OSError) as caught:
        yield
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[number], caught.value


def write_file(path: Path, data: bytes = b"", mode: int = 0o666) -> Path:
    """Create (or overwrite) a file and return its path."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        written = 0
        while written < len(data):
            written += os.write(fd, memoryview(data)[written:])
    finally:
        os.close(fd)
    return path
