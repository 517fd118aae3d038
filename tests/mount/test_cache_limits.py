"""A cache much smaller than what goes through it, under a real mount; and a disk that others fill."""

import errno
import hashlib
import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.support.gateway import Gateway, Gateways
from tests.support.s3server import Bucket

MIB = 1 << 20
FILE_MIB = int(os.environ.get("GATEWAYFS_LARGE_FILE_MIB", "40"))
"""4096 is the long form: 4 GiB through 256 MiB."""

CACHE_MIB = max(16, FILE_MIB // 16)
RUN_S_MAX = 150 + FILE_MIB


def pieces() -> Iterator[bytes]:
    """A MiB each, no two alike, the same ones every time, as fast as memory."""
    noise = random.Random(1).randbytes(MIB)
    for number in range(FILE_MIB):
        yield number.to_bytes(8, "little") + noise[8:]


def digest_of(file: BinaryIO) -> str:
    found = hashlib.sha256()
    while piece := file.read(MIB):
        found.update(piece)
    return found.hexdigest()


@pytest.fixture
def large_share(bucket: Bucket, tmp_path: Path) -> Iterator[Gateway]:
    with Gateways(tmp_path, stuck_s=RUN_S_MAX) as gateways:
        yield gateways.mount(bucket, settings={"cache.size": f"{CACHE_MIB}MiB"})


@pytest.mark.timeout(RUN_S_MAX + 30)
@pytest.mark.semantics("cache-size", "cache-open-file-larger", "cache-writers-slowed")
def test_a_file_several_times_the_cache_is_written_and_read_back(large_share: Gateway, bucket: Bucket) -> None:
    share, expected, started_s = large_share, hashlib.sha256(), time.monotonic()
    with (share.mount_dir / "big").open("wb", buffering=0) as file:
        for piece in pieces():
            assert file.write(piece) == len(piece)
            expected.update(piece)
    written_s = time.monotonic() - started_s
    share.drain(RUN_S_MAX)
    drained_s, status = time.monotonic() - started_s, share.status()
    assert digest_of(bucket.s3.get_object(Bucket=bucket.name, Key="big")["Body"]) == expected.hexdigest()
    share.restart()
    started_s = time.monotonic()
    with (share.mount_dir / "big").open("rb") as read:
        assert digest_of(read) == expected.hexdigest()
    upload, after = status["upload"], share.status()["cache"]
    print(
        f"{FILE_MIB} MiB through {CACHE_MIB} MiB: written in {written_s:.0f} s, in the bucket after {drained_s:.0f} s, "
        f"read in {time.monotonic() - started_s:.0f} s; {upload['uploaded_files']} versions, "
        f"{upload['uploaded_bytes']} bytes sent, {upload['saved_bytes']} copied in the bucket, "
        f"writers waited {status['cache']['delayed_s']:.0f} s"
    )
    assert max(status["cache"]["used_bytes"], after["used_bytes"]) <= CACHE_MIB * MIB
    assert after["evicted_bytes"] > (FILE_MIB - CACHE_MIB) * MIB
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
