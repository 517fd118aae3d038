"""A cache disk that is full, read-only or damaged: the right errno, nothing lost, a way out that the message names."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.gateway import Gateway, Gateways
from tests.support.link import Link
from tests.support.s3server import Bucket
from tests.support.syscalls import fails

SLOW = {"upload.settle": "1h", "upload.settle_max": "1h"}
DISK = "96m"
"""Two journal segments of 16 MiB, the records, and room to fill."""

CHUNK = os.urandom(1 << 20)


@pytest.fixture
def link(bucket: Bucket) -> Iterator[Link]:
    with Link(bucket.endpoint_url) as made:
        yield made


@pytest.fixture
def on_small_disk(gateways: Gateways, bucket: Bucket, link: Link) -> Iterator[Callable[[], Gateway]]:
    """A gateway behind a link, whose cache directory is a file system of its own."""
    mounted: list[Path] = []

    def start() -> Gateway:
        share = gateways.mount(Bucket(bucket.name, link.url, bucket.s3), start=False, settings={"upload.settle": "0s"})
        share.cache_dir.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "gwfs-small", str(share.cache_dir)], check=True)
        mounted.append(share.cache_dir)
        share.start()
        # A directory that was never listed cannot say which names are free while the bucket is away.
        assert os.listdir(share.mount_dir) == []
        return share

    yield start
    for share in gateways.made:
        share.close()
    gateways.made.clear()
    for directory in mounted:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def fill(share: Gateway) -> dict[str, bytes]:
    """Write files until the disk is full; returns those that were acknowledged, by name."""
    kept: dict[str, bytes] = {}
    for number in range(200):
        name = f"fill{number}"
        try:
            with (share.mount_dir / name).open("wb") as file:
                file.write(CHUNK)
                file.flush()
        except OSError as problem:
            assert problem.errno == errno.ENOSPC  # noqa: PT017 - only the disk decides at which file it comes
            return kept
        kept[name] = CHUNK
    raise AssertionError("the disk did not fill")


def test_a_full_cache_disk_refuses_writers_loses_nothing_and_recovers(
    on_small_disk: Callable[[], Gateway], bucket: Bucket, link: Link
) -> None:
    share = on_small_disk()
    link.refuse()
    (share.mount_dir / "first").write_bytes(b"early")
    kept = fill(share) | {"first": b"early"}
    assert len(kept) > 20
    share.wait_until(lambda: bool(share.status()["problems"]), 10, "status to say that the disk is full")
    for name in kept:
        assert (share.mount_dir / name).stat().st_size == len(kept[name])
    os.unlink(share.mount_dir / "fill0")
    os.unlink(share.mount_dir / "fill1")
    del kept["fill0"], kept["fill1"]

    def room() -> bool:
        try:
            (share.mount_dir / "again").write_bytes(b"room" * 1000)
        except OSError as problem:
            assert problem.errno == errno.ENOSPC  # noqa: PT017 - until there is room
            return False
        return True

    share.wait_until(room, 20, "the freed space to be usable")
    kept["again"] = b"room" * 1000
    link.join()
    share.drain()
    for name, data in kept.items():
        assert (share.mount_dir / name).read_bytes() == data
        assert bucket.body(name) == data
    assert "Traceback" not in share.log()


def test_a_full_cache_disk_survives_a_crash_and_a_start(
    on_small_disk: Callable[[], Gateway], bucket: Bucket, link: Link
) -> None:
    share = on_small_disk()
    link.refuse()
    kept = fill(share)
    share.kill9()
    share.start()
    for name, data in kept.items():
        assert (share.mount_dir / name).read_bytes() == data
    link.join()
    share.drain()
    for name, data in kept.items():
        assert bucket.body(name) == data


@pytest.mark.parametrize(("action", "number"), [("error", errno.EIO), ("full", errno.ENOSPC)])
def test_a_disk_that_fails_once_costs_one_call(action: str, number: int, gateways: Gateways, bucket: Bucket) -> None:
    share = gateways.mount(bucket, env={"GATEWAYFS_FAILPOINTS": f"meta.append.before:40={action}"})
    failed: list[str] = []
    for name in (f"file{count}" for count in range(30)):
        try:
            (share.mount_dir / name).write_bytes(name.encode())
        except OSError as problem:
            assert problem.errno == number  # noqa: PT017 - which of them it hits is not ours to say
            failed.append(name)
    assert len(failed) == 1
    (share.mount_dir / failed[0]).write_bytes(failed[0].encode())
    share.kill9()
    share.env = {}
    share.start()
    share.drain()
    assert sorted(bucket.keys()) == sorted(f"file{count}" for count in range(30))
    for key in bucket.keys():  # noqa: SIM118 - a Bucket is no mapping
        assert bucket.body(key) == key.encode()


@pytest.fixture
def dirty(gateways: Gateways, bucket: Bucket) -> tuple[Gateway, dict[str, bytes]]:
    """A daemon that was killed with files that are nowhere but in its cache directory."""
    bucket.put("there/old", b"in the bucket")
    share = gateways.mount(bucket, settings=SLOW)
    files = {"small": b"few bytes", "there/new": b"beside", "large": CHUNK[:700_000], "there/old": b"changed"}
    for name, data in files.items():
        (share.mount_dir / name).write_bytes(data)
    with (share.mount_dir / "small").open("rb") as file:
        os.fsync(file.fileno())
    os.chmod(share.mount_dir / "large", 0o640)
    os.setxattr(share.mount_dir / "large", "user.note", b"kept")
    # The recovery log gets its part with the next group commit, a second later.
    share.wait_until(lambda: share.status()["metadata"]["waiting_keys"] == 0, 10, "the records to be committed to LMDB")
    share.kill9()
    return share, files


def garble(path: Path) -> None:
    """Overwrite a file with noise of the same length."""
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))


def refused(share: Gateway) -> str:
    """The line with which a start is refused."""
    share.spawn()
    assert share.wait_exit() > 0
    said = share.log()
    assert "Traceback" not in said
    return said.splitlines()[-1]


def recovered(share: Gateway, files: dict[str, bytes], bucket: Bucket) -> None:
    """Do what the message says; every file must be back, here and, after a drain, in the bucket."""
    share.verb("recover", "--cache-dir", str(share.cache_dir))
    share.settings = {}
    share.start()
    for name, data in files.items():
        assert (share.mount_dir / name).read_bytes() == data
    assert (share.mount_dir / "large").stat().st_mode & 0o7777 == 0o640
    assert os.getxattr(share.mount_dir / "large", "user.note") == b"kept"
    assert share.verb("check", str(share.mount_dir)).returncode == 0
    share.drain()
    for name, data in files.items():
        assert bucket.body(name) == data
    found = bucket.keys()
    assert [key for key in found if not key.endswith("/")] == sorted(files)


def test_garbage_for_records_is_told_with_the_cure_and_recover_brings_everything_back(
    dirty: tuple[Gateway, dict[str, bytes]], bucket: Bucket
) -> None:
    share, files = dirty
    garble(share.cache_dir / "meta" / "data.mdb")
    line = refused(share)
    assert str(share.cache_dir) in line
    assert "gatewayfs recover" in line
    recovered(share, files, bucket)


def test_records_that_are_gone_are_told_with_the_cure(dirty: tuple[Gateway, dict[str, bytes]], bucket: Bucket) -> None:
    share, files = dirty
    shutil.rmtree(share.cache_dir / "meta")
    assert "gatewayfs recover" in refused(share)
    recovered(share, files, bucket)


def test_a_journal_that_is_garbage_is_told_with_the_cure(
    dirty: tuple[Gateway, dict[str, bytes]], bucket: Bucket
) -> None:
    share, files = dirty
    for path in (share.cache_dir / "journal").iterdir():
        garble(path)
    line = refused(share)
    assert "journal" in line
    assert "gatewayfs recover" in line
    recovered(share, files, bucket)


def test_records_cut_to_half_their_length(dirty: tuple[Gateway, dict[str, bytes]], bucket: Bucket) -> None:
    share, files = dirty
    data = share.cache_dir / "meta" / "data.mdb"
    os.truncate(data, data.stat().st_size // 2 // 4096 * 4096)
    line = refused(share)
    assert "gatewayfs recover" in line
    recovered(share, files, bucket)


def test_a_damaged_cache_file_costs_its_file_and_is_never_uploaded(
    dirty: tuple[Gateway, dict[str, bytes]], bucket: Bucket
) -> None:
    share, files = dirty
    for pack in (share.cache_dir / "packs").iterdir():
        garble(pack)
    share.settings = {"upload.settle": "0s"}
    share.start()
    with fails(errno.EIO):
        (share.mount_dir / "small").read_bytes()
    assert (share.mount_dir / "large").read_bytes() == files["large"]
    done = share.verb("drain", "--wait", str(share.mount_dir), check=False)
    assert done.returncode == 5, done.stdout + done.stderr
    assert bucket.body("large") == files["large"]
    assert bucket.body("there/old") == b"in the bucket"
    found = bucket.keys()
    assert "small" not in found
    assert share.verb("check", str(share.mount_dir), check=False).returncode == 6


@pytest.mark.semantics("damaged-cache")
def test_a_flipped_bit_of_a_clean_file_is_never_seen_and_told(gateways: Gateways, bucket: Bucket) -> None:
    large = os.urandom(3 << 20)
    bucket.put("large", large)
    share = gateways.mount(bucket, settings={"cache.verify": "full"})
    assert (share.mount_dir / "large").read_bytes() == large
    share.terminate()
    (cached,) = (share.cache_dir / "data").rglob("*-*")
    with cached.open("r+b") as file:
        file.seek((1 << 20) + 5)
        file.write(bytes([large[(1 << 20) + 5] ^ 4]))
    share.start()
    with (share.mount_dir / "large").open("rb") as file:
        os.pread(file.fileno(), 4096, 1 << 20)
    assert (share.mount_dir / "large").read_bytes() == large
    status = share.status()
    assert status["cache"]["damaged"] == 1
    assert status["cache"]["fetched_bytes"] == 1 << 20
    assert any("gave back other bytes than it was given" in problem for problem in status["problems"])
    assert "the cache disk damaged bytes of large" in share.log()
