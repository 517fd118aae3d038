"""Blocks of cache files, read for their fingerprints from memory or from the disk, and written again. All blocks."""

import contextlib
import os
from pathlib import Path

from gatewayfs.runtime.disk import OpenFile, open_file, pread_exactly, pwrite_all
from gatewayfs.runtime.fingerprints import Fingerprinter, combined
from gatewayfs.runtime.medium import Medium

PIECE_BYTES = 256 << 10
"""Read at a time: fresh memory for a whole cell would cost more than its fingerprint."""


def fingerprint_in_memory(file: OpenFile, offset: int, length: int, cell_bytes: int) -> bytes:
    """Of the bytes a read would get. Blocks; raises OSError."""
    cell, buffer = Fingerprinter(cell_bytes), memoryview(bytearray(PIECE_BYTES))
    while length > 0 and (got := os.preadv(file.fd, [buffer[: min(length, PIECE_BYTES)]], offset)):
        cell.update(buffer[:got])
        offset, length = offset + got, length - got
    cell.update(bytes(length))  # a hole at the end need not be in the file
    return combined(cell.cells())


def fingerprint_on_disk(path: Path, offset: int, length: int, cell_bytes: int) -> bytes:
    """Of the bytes the disk has. Blocks; raises OSError."""
    cell = Fingerprinter(cell_bytes)
    with Medium(path) as medium:
        for piece in medium.pieces(offset, length):
            cell.update(piece)
            length -= len(piece)
    cell.update(bytes(length))
    return combined(cell.cells())


def forget_pages(path: Path, offset: int, length: int) -> None:
    """The next read of a range asks the disk, unless it was not written back yet. Blocks."""
    with contextlib.suppress(FileNotFoundError):
        file = open_file(path)
        os.posix_fadvise(file.fd, offset, length, os.POSIX_FADV_DONTNEED)


def read_through(path: Path, offset: int, length: int) -> bytes:
    """A range, fewer bytes at the end of the file. Raises OSError."""
    return pread_exactly(open_file(path), offset, length)


def write_through(path: Path, offset: int, data: bytes) -> None:
    """Write a range, and see it to the disk. Raises OSError."""
    file = open_file(path)
    pwrite_all(file, offset, data)
    os.fdatasync(file.fd)
