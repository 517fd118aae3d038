"""A cache much smaller than what goes through it, under a real mount; and a disk that others fill."""

import errno
import hashlib
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.gateway import Gateway, Gateways
from tests.support.s3server import Bucket

CACHE_BYTES = 16 << 20
FILE_BYTES = 40 << 20
PIECE_BYTES = 1 << 20


def pieces(seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    for _ in range(FILE_BYTES // PIECE_BYTES):
        yield rng.randbytes(PIECE_BYTES)


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.semantics("cache-size", "cache-open-file-larger", "cache-writers-slowed")
def test_a_file_several_times_the_cache_is_written_and_read_back(
    gateway: Callable[..., Gateway], bucket: Bucket
) -> None:
    share = gateway(settings={"cache.size": str(CACHE_BYTES)})
    expected = hashlib.sha256()
    with (share.mount_dir / "big").open("wb", buffering=0) as file:
        for piece in pieces(1):
            assert file.write(piece) == len(piece)
            expected.update(piece)
    share.drain()
    assert hashlib.sha256(bucket.body("big")).hexdigest() == expected.hexdigest()
    share.restart()
    assert digest_of(share.mount_dir / "big") == expected.hexdigest()
    status = share.status()["cache"]
    assert status["used_bytes"] <= CACHE_BYTES
    assert status["evicted_bytes"] > FILE_BYTES - CACHE_BYTES
    assert "Traceback" not in share.log()


@pytest.mark.semantics("cache-disk-floor")
def test_a_disk_filled_by_another_program_refuses_writers_and_recovers(gateways: Gateways, bucket: Bucket) -> None:
    share = gateways.mount(bucket, start=False, settings={"upload.settle": "0s", "cache.min_free": "16MiB"})
    share.cache_dir.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "gwfs-small", str(share.cache_dir)], check=True)
    try:
        share.start()
        (share.mount_dir / "clean").write_bytes(os.urandom(8 << 20))
        share.drain()
        filler = share.cache_dir / "somebody-elses"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, os.statvfs(share.cache_dir).f_bavail * 4096 - (4 << 20))
        share.wait_until(lambda: share.status()["cache"]["evicted_bytes"] >= 8 << 20, 20, "clean bytes to make room")
        with pytest.raises(OSError, match="No space left") as refused:
            (share.mount_dir / "new").write_bytes(os.urandom(12 << 20))
        assert refused.value.errno == errno.ENOSPC
        assert any("cache.min_free" in line for line in share.status()["problems"])
        assert len((share.mount_dir / "clean").read_bytes()) == 8 << 20, "served past the cache"
        os.unlink(share.mount_dir / "new")
        filler.unlink()
        data = os.urandom(12 << 20)
        (share.mount_dir / "new").write_bytes(data)
        share.drain()
        assert bucket.body("new") == data
        assert "Traceback" not in share.log()
    finally:
        share.close()
        gateways.made.remove(share)
        subprocess.run(["umount", "-l", str(share.cache_dir)], check=True)
