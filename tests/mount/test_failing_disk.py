"""A cache disk that hangs, fails or is slow, under a real mount: ext4 on a device of our own (``support/faultydisk``).

What must hold in each state: names and attributes are answered, what the bucket has is read, what is only here and in
memory too; a change is taken, waits, or is refused with EROFS, and nobody is told that something is kept which is not.
When the disk is well again, all goes on by itself.
"""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gatewayfs.runtime.diskhealth import NAMES_WAIT_S
from tests.support.faultydisk import FaultyDisk
from tests.support.gateway import Gateway, Gateways
from tests.support.s3server import Bucket
from tests.support.syscalls import fails

LARGE = os.urandom(3 << 20)
SMALL = os.urandom(5000)
ANSWERS_S = 5.0
"""What does not wait for the disk answers within this, however busy the machine is."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FaultyDisk]:
    with FaultyDisk(tmp_path) as made:
        yield made


@pytest.fixture
def share(disk: FaultyDisk, tmp_path: Path, bucket: Bucket) -> Iterator[Gateway]:
    """A gateway on that disk: two files that are here and in the bucket, and one that is only there."""
    bucket.put("large", LARGE)
    bucket.put("small", SMALL)
    bucket.put("absent", LARGE)
    home = tmp_path / "home"
    home.mkdir()
    with Gateways(home) as gateways:
        share = gateways.mount(bucket, start=False, settings={"cache.min_free": "0", "upload.settle": "0s"})
        share.cache_dir = disk.directory / "cache"
        share.start()
        assert (share.mount_dir / "large").read_bytes() == LARGE
        assert (share.mount_dir / "small").read_bytes() == SMALL
        (share.mount_dir / "before").write_bytes(b"before")
        # A name that was never looked at would need a record now.
        (share.mount_dir / "absent").stat()
        share.drain()
        # So that the fixture can end whatever a test did to the disk.
        try:
            yield share
        finally:
            disk.behave("ok")


def state(share: Gateway) -> str:
    return str(share.status()["cache"]["disk"]["state"])


def wait_for(share: Gateway, wanted: str, timeout_s: float = 60.0) -> None:
    share.wait_until(lambda: state(share) == wanted, timeout_s, f"the disk to be {wanted}")


def forget(share: Gateway, *names: str) -> None:
    """Of these files neither the mount nor the disk has pages in memory. Those of the records stay: the event loop
    looks them up, and has to wait for a page that is not there."""
    cached = [path for folder in ("data", "packs") for path in (share.cache_dir / folder).rglob("*") if path.is_file()]
    for path in (*cached, *(share.mount_dir / name for name in names)):
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def timed(call: Callable[[], object]) -> float:
    started_s = time.monotonic()
    call()
    return time.monotonic() - started_s


def serves_what_needs_no_disk(share: Gateway) -> None:
    """Names, attributes, and every byte the bucket has."""
    assert timed(lambda: os.statvfs(share.mount_dir)) < ANSWERS_S
    assert timed(lambda: sorted(os.listdir(share.mount_dir))) < ANSWERS_S
    for name, data in (("large", LARGE), ("small", SMALL), ("absent", LARGE)):
        assert (share.mount_dir / name).stat().st_size == len(data)
        assert (share.mount_dir / name).read_bytes() == data, name


@pytest.mark.semantics("failing-disk")
def test_a_disk_that_hangs_holds_changes_until_it_answers_and_nothing_else(share: Gateway, disk: FaultyDisk) -> None:
    opened = os.open(share.mount_dir / "waits", os.O_CREAT | os.O_WRONLY)
    forget(share, "large", "small")
    disk.behave("hang")
    # Reading what is here finds that out: the read goes on with the bucket.
    assert (share.mount_dir / "large").read_bytes() == LARGE
    assert state(share) == "hanging"
    serves_what_needs_no_disk(share)
    assert any("the cache disk is hanging since" in problem for problem in share.status()["problems"])
    started_s = time.monotonic()
    with fails(errno.EROFS):
        os.mkdir(share.mount_dir / "refused")
    assert time.monotonic() - started_s > NAMES_WAIT_S
    waiting = threading.Thread(target=os.pwrite, args=(opened, b"waits", 0))
    waiting.start()
    serves_what_needs_no_disk(share)
    assert waiting.is_alive()
    disk.behave("ok")
    waiting.join(ANSWERS_S)
    assert not waiting.is_alive()
    os.close(opened)
    wait_for(share, "normal")
    share.drain()
    assert share.bucket.body("waits") == b"waits"
    assert "Traceback" not in share.log()


@pytest.mark.semantics("failing-disk")
def test_a_disk_that_keeps_nothing_refuses_changes_and_loses_nothing_it_had_promised(
    share: Gateway, disk: FaultyDisk
) -> None:
    with (share.mount_dir / "new").open("xb", buffering=0) as file:
        disk.behave("eio")
        file.write(b"in memory")
        with fails(errno.EIO):
            os.fsync(file.fileno())
        wait_for(share, "read-only")
    for refused in (lambda name: (share.mount_dir / name).write_bytes(b"x"), lambda name: os.mkdir(name)):
        with fails(errno.EROFS):
            refused(share.mount_dir / "refused")
    serves_what_needs_no_disk(share)
    assert any("changes are refused (EROFS)" in problem for problem in share.status()["problems"])
    assert "Traceback" not in share.log()
    share.kill9()
    disk.remount()
    share.start()
    assert state(share) == "normal"
    serves_what_needs_no_disk(share)
    assert (share.mount_dir / "before").read_bytes() == b"before"
    (share.mount_dir / "again").write_bytes(b"again")
    share.drain()
    assert share.bucket.body("again") == b"again"


@pytest.mark.semantics("failing-disk")
def test_what_the_disk_cannot_read_is_read_from_the_bucket_and_it_recovers_by_itself(
    share: Gateway, disk: FaultyDisk
) -> None:
    forget(share, "large", "small")
    disk.behave("eio-read")
    serves_what_needs_no_disk(share)
    share.wait_until(lambda: state(share) != "normal", 30, "the disk's state to change")
    disk.behave("ok")
    wait_for(share, "normal")
    (share.mount_dir / "taken").write_bytes(b"taken")
    share.drain()
    assert share.bucket.body("taken") == b"taken"
    assert "Traceback" not in share.log()
