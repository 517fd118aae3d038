"""Reads past the page cache: the disk's bytes, any range, however long the file is."""

import ctypes
import mmap
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayfs.runtime.medium import BUFFER_BYTES, Medium

BYTES = bytes(range(256)) * 40 + b"tail"


def read(path, offset, length):
    with Medium(path) as medium:
        return b"".join(bytes(piece) for piece in medium.pieces(offset, length))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(BYTES) + 5000), st.integers(0, len(BYTES) + 5000))
def test_any_range_is_what_was_written(tmp_path_factory, offset, length):
    path = tmp_path_factory.mktemp("medium") / "file"
    path.write_bytes(BYTES)
    assert read(path, offset, length) == BYTES[offset : offset + length]


def test_a_range_larger_than_the_buffer(tmp_path):
    data = os.urandom(BUFFER_BYTES * 2 + 5000)
    (tmp_path / "file").write_bytes(data)
    assert read(tmp_path / "file", 4097, len(data)) == data[4097:]


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "file", 0, 1)


def test_where_there_are_no_direct_reads_the_pages_are_dropped_instead(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(BYTES)
    monkeypatch.setattr(os, "O_DIRECT", os.O_DIRECTORY)  # refused, as by a file system that has none
    advised = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *args: advised.append(args[3]))
    assert read(tmp_path / "file", 100, 5000) == BYTES[100:5100]
    assert advised == [os.POSIX_FADV_DONTNEED] * 2


@pytest.mark.semantics("scrub")
def test_the_page_cache_stays_as_it_is(tmp_path):
    """Neither does it answer (see its pages come and go), nor is it filled, nor emptied."""
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 20))
    fd = os.open(path, os.O_RDWR)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        if cached(fd):
            pytest.skip("this file system keeps its pages")
        with Medium(path) as medium:
            if "through" in repr(medium):
                pytest.skip("no direct reads here")
        read(path, 0, 1 << 20)
        assert not cached(fd), "nothing came in"
        os.pread(fd, 4096, 0)
        read(path, 0, 1 << 20)
        assert cached(fd), "nothing went out"
    finally:
        os.close(fd)


def cached(fd):
    """Whether the page cache has the first page (a read with RWF_NOWAIT would have it brought)."""
    with mmap.mmap(fd, 4096) as view:
        found, start = ctypes.c_ubyte(), ctypes.c_ubyte.from_buffer(view)
        failed = ctypes.CDLL(None).mincore(
            ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(4096), ctypes.byref(found)
        )
        del start
        assert not failed
        return bool(found.value & 1)
