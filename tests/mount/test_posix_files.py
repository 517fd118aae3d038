"""Open files on a real mount: flags, offsets, holes, truncation, mmap, and files that lose their name while open."""

import errno
import fcntl
import mmap
import os
import random
import threading
from pathlib import Path

import pytest

from tests.support.gateway import Gateway
from tests.support.syscalls import fails, punch_hole, write_file

MIB = 1 << 20


@pytest.mark.semantics("open-flags")
def test_o_excl_refuses_what_exists(work: Path) -> None:
    os.close(os.open(work / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    os.symlink("nowhere", work / "link")
    for name in ("f", "link"):
        with fails(errno.EEXIST):
            os.open(work / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)


@pytest.mark.semantics("open-flags")
def test_o_trunc_empties_and_o_creat_keeps(work: Path) -> None:
    file = write_file(work / "f", b"content")
    os.close(os.open(file, os.O_CREAT | os.O_RDWR))
    assert file.read_bytes() == b"content"
    before = file.stat()
    os.close(os.open(file, os.O_TRUNC | os.O_WRONLY))
    assert file.stat().st_size == 0
    assert file.stat().st_mtime_ns > before.st_mtime_ns
    assert file.read_bytes() == b""


@pytest.mark.semantics("open-flags")
def test_o_append_always_writes_at_the_end(work: Path) -> None:
    file = write_file(work / "f", b"start")
    one, two = (os.open(file, os.O_WRONLY | os.O_APPEND) for _ in range(2))
    for number in range(10):
        os.write(one if number % 2 else two, b"%d" % number)
        os.lseek(one, 0, os.SEEK_SET)
    assert os.pread(os.open(file, os.O_RDONLY), 100, 0) == b"start0123456789"
    os.close(one)
    os.close(two)
    assert file.read_bytes() == b"start0123456789"


@pytest.mark.semantics("open-flags")
def test_appenders_in_parallel_lose_nothing(work: Path) -> None:
    lines, writers = 200, 4

    def append(letter: bytes) -> None:
        fd = os.open(work / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for _ in range(lines):
            os.write(fd, letter * 99 + b"\n")
        os.close(fd)

    threads = [threading.Thread(target=append, args=(b"%c" % (97 + n),)) for n in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = (work / "log").read_bytes().splitlines()
    assert len(found) == lines * writers
    assert sorted(found) == sorted(bytes([97 + n]) * 99 for n in range(writers) for _ in range(lines))


@pytest.mark.semantics("open-flags")
def test_access_modes_are_kept(work: Path) -> None:
    file = write_file(work / "f", b"content")
    reading, writing = os.open(file, os.O_RDONLY), os.open(file, os.O_WRONLY)
    with fails(errno.EBADF):
        os.write(reading, b"x")
    with fails(errno.EBADF):
        os.read(writing, 1)
    os.close(reading)
    os.close(writing)
    with fails(errno.EISDIR):
        os.open(work, os.O_WRONLY)
    with fails(errno.ENOTDIR):
        os.open(file, os.O_RDONLY | os.O_DIRECTORY)


@pytest.mark.semantics("write-visible")
def test_what_is_written_is_read_at_once_by_everybody(work: Path) -> None:
    writer = os.open(work / "f", os.O_CREAT | os.O_WRONLY)
    reader = os.open(work / "f", os.O_RDONLY)
    for size in (10, 70_000, 3 * MIB):  # in memory, beyond a small file, beyond one request
        data = os.urandom(size)
        assert os.pwrite(writer, data, 0) == size
        assert os.pread(reader, size + 1, 0) == data
        assert os.fstat(reader).st_size == size
        assert (work / "f").stat().st_size == size
    os.close(writer)
    os.close(reader)


@pytest.mark.semantics("unlink-open")
@pytest.mark.parametrize("size", [100, MIB])
def test_an_unlinked_file_lives_until_its_last_close(work: Path, size: int) -> None:
    data = os.urandom(size)
    write_file(work / "f", data)
    fd = os.open(work / "f", os.O_RDWR)
    os.unlink(work / "f")
    assert os.fstat(fd).st_nlink == 0
    assert os.listdir(work) == []
    assert os.pread(fd, size, 0) == data
    os.pwrite(fd, b"more", size)
    assert os.pread(fd, size + 100, 0) == data + b"more"
    os.ftruncate(fd, 7)
    os.fchmod(fd, 0o600)
    os.fsync(fd)
    assert os.fstat(fd).st_size == 7
    write_file(work / "f", b"another")  # the name is free for somebody else
    assert os.pread(fd, 100, 0) == data[:7]
    os.close(fd)
    assert (work / "f").read_bytes() == b"another"


@pytest.mark.semantics("sparse")
def test_holes_read_as_zeros(work: Path) -> None:
    fd = os.open(work / "f", os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b"end", 3 * MIB)
    assert os.fstat(fd).st_size == 3 * MIB + 3
    assert os.pread(fd, 4 * MIB, 0) == bytes(3 * MIB) + b"end"
    os.pwrite(fd, b"middle", MIB)
    assert os.pread(fd, 8, MIB - 1) == b"\0middle\0"
    os.close(fd)
    small = os.open(work / "small", os.O_CREAT | os.O_RDWR)
    os.pwrite(small, b"x", 1000)
    os.close(small)
    assert (work / "small").read_bytes() == bytes(1000) + b"x"


@pytest.mark.semantics("large-files")
def test_offsets_beyond_four_gigabytes(work: Path) -> None:
    far = (5 << 30) + 12345
    fd = os.open(work / "f", os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b"far away", far)
    os.pwrite(fd, b"start", 0)
    assert os.fstat(fd).st_size == far + 8
    assert os.pread(fd, 100, far) == b"far away"
    assert os.pread(fd, 10, (1 << 32) - 5) == bytes(10)
    assert os.pread(fd, 5, 0) == b"start"
    os.ftruncate(fd, 0)  # nobody wants to upload 5 GiB of zeros
    os.close(fd)
    assert (work / "f").read_bytes() == b""


@pytest.mark.semantics("file-size-limit")
def test_a_file_ends_at_five_tebibytes(work: Path) -> None:
    fd = os.open(work / "f", os.O_CREAT | os.O_RDWR)
    with fails(errno.EFBIG):
        os.pwrite(fd, b"x", 5 << 40)
    with fails(errno.EFBIG):
        os.ftruncate(fd, (5 << 40) + 1)
    assert os.fstat(fd).st_size == 0
    os.close(fd)


@pytest.mark.semantics("truncate")
@pytest.mark.parametrize("size", [1000, 100_000, 3 * MIB])
def test_truncation_cuts_and_extends_with_zeros(work: Path, size: int) -> None:
    data = os.urandom(size)
    file = write_file(work / "f", data)
    os.truncate(file, size // 2)
    assert file.read_bytes() == data[: size // 2]
    os.truncate(file, size)
    assert file.read_bytes() == data[: size // 2] + bytes(size - size // 2)
    os.truncate(file, 2 * size)
    assert file.read_bytes() == data[: size // 2] + bytes(2 * size - size // 2)
    os.truncate(file, 0)
    assert file.read_bytes() == b""
    os.truncate(file, size)
    assert file.read_bytes() == bytes(size)


@pytest.mark.semantics("truncate")
def test_old_bytes_never_come_back_after_a_truncation(work: Path) -> None:
    fd = os.open(work / "f", os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b"\xff" * MIB, 0)
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"x", 900_000)
    assert os.pread(fd, 2 * MIB, 0) == bytes(900_000) + b"x"
    os.ftruncate(fd, 10)
    os.ftruncate(fd, MIB)
    assert os.pread(fd, 2 * MIB, 0) == bytes(MIB)
    os.close(fd)
    assert (work / "f").read_bytes() == bytes(MIB)


@pytest.mark.semantics("truncate")
def test_truncation_keeps_working_for_open_files(work: Path) -> None:
    fd = os.open(work / "f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"0123456789")
    os.truncate(work / "f", 4)
    assert os.fstat(fd).st_size == 4
    os.write(fd, b"x")  # the position stays, the gap is zeros
    os.close(fd)
    assert (work / "f").read_bytes() == b"0123\0\0\0\0\0\0x"


@pytest.mark.semantics("mmap")
def test_shared_mappings_write_and_read_the_file(work: Path) -> None:
    size = 300_000
    file = write_file(work / "f", bytes(size))
    with file.open("r+b") as stream, mmap.mmap(stream.fileno(), size) as view:
        view[:5] = b"first"
        view[size - 4 :] = b"last"
        view[150_000:150_006] = b"middle"
        view.flush()
    data = file.read_bytes()
    assert (data[:5], data[-4:], data[150_000:150_006]) == (b"first", b"last", b"middle")
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), size, prot=mmap.PROT_READ) as view:
        assert view[150_000:150_006] == b"middle"
        fd = os.open(file, os.O_WRONLY)
        os.pwrite(fd, b"write", 0)
        os.close(fd)
        assert view[:5] == b"write"


@pytest.mark.semantics("mmap")
def test_a_mapping_outlives_its_descriptor_and_its_name(work: Path, mounted: Gateway) -> None:
    file = write_file(work / "f", b"a" * 8192)
    fd = os.open(file, os.O_RDWR)
    view = mmap.mmap(fd, 8192)
    os.close(fd)
    view[0:3] = b"new"
    view.flush()
    assert file.read_bytes()[:4] == b"newa"
    os.unlink(file)
    assert view[:4] == b"newa"
    view.close()


@pytest.mark.semantics("write-visible")
def test_vectors_and_odd_sizes_arrive_whole(work: Path) -> None:
    pieces = [os.urandom(size) for size in (1, 4095, 4096, 4097, 65_535, 65_536, 65_537, 131_073)]
    fd = os.open(work / "f", os.O_CREAT | os.O_RDWR)
    assert os.writev(fd, pieces) == sum(map(len, pieces))
    os.close(fd)
    whole = b"".join(pieces)
    assert (work / "f").read_bytes() == whole
    fd = os.open(work / "f", os.O_RDONLY)
    for offset in (0, 1, 65_535, 65_536, 130_000, len(whole) - 1, len(whole), len(whole) + 1):
        assert os.pread(fd, 70_000, offset) == whole[offset : offset + 70_000]
    os.close(fd)


@pytest.mark.semantics("open-flags")
def test_direct_io_reads_and_writes_the_same_bytes(work: Path) -> None:
    with mmap.mmap(-1, 8192) as buffer:
        buffer[:] = os.urandom(8192)
        fd = os.open(work / "f", os.O_CREAT | os.O_RDWR | os.O_DIRECT)
        assert os.pwritev(fd, [buffer], 4096) == 8192
        os.close(fd)
        assert (work / "f").read_bytes() == bytes(4096) + buffer[:]


@pytest.mark.semantics("fsync")
def test_fsync_and_fdatasync_work_on_files_and_directories(work: Path) -> None:
    fd = os.open(work / "f", os.O_CREAT | os.O_RDWR)
    for size in (10, 100_000):
        os.pwrite(fd, b"x" * size, 0)
        os.fsync(fd)
        os.fdatasync(fd)
    os.close(fd)
    directory = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(directory)
    os.close(directory)
    assert (work / "f").stat().st_size == 100_000


@pytest.mark.semantics("locks-local")
def test_locks_hold_between_processes_of_this_host(work: Path) -> None:
    file = write_file(work / "f", b"content")
    one, two = os.open(file, os.O_RDWR), os.open(file, os.O_RDWR)
    fcntl.flock(one, fcntl.LOCK_EX)
    with fails(errno.EAGAIN):
        fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(one, fcntl.LOCK_UN)
    fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(one)
    os.close(two)


@pytest.mark.semantics("not-supported")
def test_calls_without_a_meaning_here_are_refused_cleanly(work: Path) -> None:
    file = write_file(work / "f", b"x" * 8192)
    fd = os.open(file, os.O_RDWR)
    try:
        with fails(errno.EOPNOTSUPP):
            punch_hole(fd, 0, 4096)
        os.posix_fallocate(fd, 0, 16_384)  # the C library writes zeros where the call is missing
        assert os.fstat(fd).st_size == 16_384
        assert os.pread(fd, 16_384, 0) == b"x" * 8192 + bytes(8192)
        assert os.lseek(fd, 0, os.SEEK_DATA) == 0
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 16_384
    finally:
        os.close(fd)
    with fails(errno.EOPNOTSUPP):
        os.open(work, os.O_TMPFILE | os.O_RDWR)
    assert os.listdir(work) == ["f"]


@pytest.mark.semantics("write-visible")
def test_copy_file_range_and_sendfile_copy(work: Path) -> None:
    data = os.urandom(300_000)
    source = os.open(write_file(work / "source", data), os.O_RDONLY)
    target = os.open(work / "target", os.O_CREAT | os.O_WRONLY)
    while os.copy_file_range(source, target, 1 << 20):
        pass
    second = os.open(work / "second", os.O_CREAT | os.O_WRONLY)
    offset = 0
    while sent := os.sendfile(second, source, offset, 1 << 20):
        offset += sent
    for fd in (source, target, second):
        os.close(fd)
    assert (work / "target").read_bytes() == (work / "second").read_bytes() == data


@pytest.mark.semantics("write-visible", "truncate", "mmap")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_reads_writes_truncations_and_maps_of_one_file(work: Path, seed: int) -> None:
    """fsx in short: every byte of one file is known at any time."""
    rng, expected = random.Random(seed), bytearray()
    fd = os.open(work / "f", os.O_CREAT | os.O_RDWR)
    for number in range(300):
        at, length = rng.randrange(250_000), rng.choice([1, 100, 4096, 10_000, 70_000])
        choice = rng.random()
        if choice < 0.4:
            data = rng.randbytes(length)
            os.pwrite(fd, data, at)
            expected.extend(bytes(max(0, at + length - len(expected))))
            expected[at : at + length] = data
        elif choice < 0.5:
            os.ftruncate(fd, at)
            del expected[at:]
            expected.extend(bytes(at - len(expected)))
        elif choice < 0.6 and expected:
            with mmap.mmap(fd, len(expected)) as view:
                at = rng.randrange(len(expected))
                view[at : at + 1] = expected[at : at + 1] = rng.randbytes(1)
                view.flush()
        elif choice < 0.65:
            os.close(fd)
            fd = os.open(work / "f", os.O_RDWR)
        elif choice < 0.7:
            os.fsync(fd)
        assert os.pread(fd, length, at) == expected[at : at + length], f"seed {seed}, step {number}"
        assert os.fstat(fd).st_size == len(expected)
    os.close(fd)
    assert (work / "f").read_bytes() == expected
