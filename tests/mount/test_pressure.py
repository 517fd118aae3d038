"""Random writes, reads, truncations and maps on files larger than the cache, on a disk that others fill meanwhile.

What every byte must be is kept in memory beside. 15 seconds in the ordinary run; GATEWAYFS_PRESSURE_S=600 is the long
form, and GATEWAYFS_PRESSURE_SEED repeats a run (operations, not timing).
"""

import errno
import mmap
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.gateway import STUCK_S, Gateway, Gateways
from tests.support.s3server import Bucket

RUN_S = float(os.environ.get("GATEWAYFS_PRESSURE_S", "15"))
SEED = int(os.environ.get("GATEWAYFS_PRESSURE_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
MIB = 1 << 20
SIZES = {"large": 40 * MIB, "middle": 12 * MIB, "small": 200_000}
"""How long each file may get; the cache has 16 MiB."""

DISK_BYTES, FLOOR_BYTES = 128 * MIB, 16 * MIB


class Worker:
    """One file of the mount, and what it must hold."""

    def __init__(self, path: Path, size_max: int, rng: random.Random) -> None:
        self.path, self.size_max, self.rng = path, size_max, rng
        self.expected = bytearray()
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT)
        self.refused = 0

    def step(self, *, full: bool) -> None:
        """One random operation; ``full``: others fill the disk just now, so a write may be refused."""
        # A map's write that finds no room is a lost page: only the kernel knows of it, and only msync tells.
        calls: list[Callable[[], None]] = [self.write, self.write, self.append, self.read, self.read, self.truncate]
        calls += [self.reopen, self.sync, self.forget_pages]
        self.rng.choice(calls if full else [*calls, self.map])()

    def write(self) -> None:
        offset = self.rng.randrange(self.size_max)
        self._put(min(offset, len(self.expected) + 300_000), self._data())

    def append(self) -> None:
        self._put(len(self.expected), self.rng.randbytes(self.rng.randrange(1, max(2, self.size_max // 8))))

    def read(self) -> None:
        offset = self.rng.randrange(len(self.expected) + 1)
        length = self.rng.choice((1, 4096, 100_000, 3 * MIB))
        self._compare(offset, length)

    def truncate(self) -> None:
        if self.rng.random() < 0.7:
            return
        size = self.rng.choice((0, len(self.expected) // 2, min(len(self.expected) + 70_000, self.size_max)))
        os.ftruncate(self.fd, size)
        del self.expected[size:]
        self.expected.extend(bytes(size - len(self.expected)))

    def map(self) -> None:
        if not self.expected:
            return
        with mmap.mmap(self.fd, len(self.expected)) as view:
            offset = self.rng.randrange(len(self.expected))
            data = self._data()[: len(self.expected) - offset]
            assert view[offset : offset + len(data)] == self.expected[offset : offset + len(data)]
            view[offset : offset + len(data)] = data
            view.flush()
            self.expected[offset : offset + len(data)] = data

    def reopen(self) -> None:
        os.close(self.fd)
        self.fd = os.open(self.path, os.O_RDWR)

    def sync(self) -> None:
        os.fsync(self.fd)

    def forget_pages(self) -> None:
        """The kernel's copies go, as when memory is short: the next reads reach the gateway."""
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def check(self) -> None:
        """Every byte."""
        assert os.fstat(self.fd).st_size == len(self.expected)
        for offset in range(0, len(self.expected), MIB):
            self._compare(offset, MIB)

    def _data(self) -> bytes:
        return self.rng.randbytes(self.rng.choice((1, 100, 4096, 70_000, 300_000)))

    def _put(self, offset: int, data: bytes) -> None:
        data = data[: max(0, self.size_max - offset)]
        written = 0
        while written < len(data):
            try:
                written += os.pwrite(self.fd, data[written:], offset + written)
            except OSError as problem:
                if problem.errno != errno.ENOSPC:
                    raise
                self.refused += 1
                break
        if written:
            end = offset + written
            self.expected.extend(bytes(max(0, end - len(self.expected))))
            self.expected[offset:end] = data[:written]

    def _compare(self, offset: int, length: int) -> None:
        found = os.pread(self.fd, length, offset)
        expected = self.expected[offset : offset + length]
        if found != expected:
            wrong = next((n for n, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), len(found))
            raise AssertionError(
                f"{self.path.name}: byte {offset + wrong} is wrong (read {offset} + {length}, got {len(found)} of "
                f"{len(expected)} bytes; seed {SEED})"
            )


@pytest.fixture
def share(tmp_path: Path, bucket: Bucket) -> Iterator[Gateway]:
    """A gateway with a cache of 16 MiB on a small disk of its own."""
    settings = {"cache.size": "16MiB", "cache.min_free": str(FLOOR_BYTES), "upload.settle": "0s"}
    with Gateways(tmp_path, stuck_s=RUN_S + STUCK_S) as gateways:
        share = gateways.mount(bucket, start=False, settings=settings)
        share.cache_dir.mkdir()
        small = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "gwfs-pressure", str(share.cache_dir)]
        subprocess.run(small, check=True)
        try:
            yield share.start()
        finally:
            share.close()
            gateways.made.remove(share)
            subprocess.run(["umount", "-l", str(share.cache_dir)], check=True)


@pytest.mark.timeout(int(RUN_S) + 150)
@pytest.mark.semantics("cache-size", "cache-disk-floor")
def test_no_byte_is_wrong_under_pressure(share: Gateway, bucket: Bucket) -> None:
    rng = random.Random(SEED)
    workers = [Worker(share.mount_dir / name, size, rng) for name, size in SIZES.items()]
    filler, full, steps = share.cache_dir / "somebody-elses", False, 0
    started_s = time.monotonic()
    while (ran_s := time.monotonic() - started_s) < RUN_S:
        if (ran_s % 6 > 4) != full:
            full = not full
            if full:
                with filler.open("wb") as file:
                    free = os.statvfs(share.cache_dir).f_bavail * 4096
                    os.posix_fallocate(file.fileno(), 0, max(4096, free - FLOOR_BYTES - rng.randrange(8 * MIB)))
            else:
                filler.unlink()
        rng.choice(workers).step(full=full)
        steps += 1
    filler.unlink(missing_ok=True)
    refused, evicted_bytes = sum(worker.refused for worker in workers), share.status()["cache"]["evicted_bytes"]
    print(f"seed {SEED}: {steps} operations, {refused} writes refused, {evicted_bytes >> 20} MiB evicted")
    for worker in workers:
        worker.check()
        os.close(worker.fd)
    share.drain()
    share.restart()
    for worker in workers:
        assert bucket.body(worker.path.name) == worker.expected
        worker.fd = os.open(worker.path, os.O_RDWR)
        worker.check()
        os.close(worker.fd)
    assert "Traceback" not in share.log()
