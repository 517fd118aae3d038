"""mount, umount and the rest with a real gateway on a real mount, a moto bucket behind it."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gatewayfs.control.registry import process_start_ticks
from tests.support.gateway import Gateway, Gateways, is_mounted
from tests.support.link import Link
from tests.support.s3server import Bucket

Mount = Callable[..., Gateway]
SLOW = {"upload.settle": "1h", "upload.settle_max": "1h"}
"""Nothing is uploaded by itself."""


def lines_of(gateway: Gateway, *arguments: str, code: int) -> list[str]:
    """What a verb says on standard error; it must end with ``code``."""
    done = gateway.verb(*arguments, check=False)
    assert done.returncode == code, done.stderr + gateway.log_tail()
    return done.stderr.splitlines()


def in_background(gateway: Gateway, *arguments: str, code: int = 0) -> list[str]:
    """Mount with --background; what it said."""
    share = f"{gateway.bucket.name}/{gateway.prefix}".rstrip("/")
    where = ["--cache-dir", str(gateway.cache_dir), "--endpoint-url", gateway.endpoint_url, "--background"]
    return lines_of(gateway, "mount", share, str(gateway.mount_dir), *where, *arguments, code=code)


def pid_of(gateway: Gateway) -> int:
    return int(gateway.status()["share"]["pid"])


def test_background_returns_when_the_mount_serves_and_umount_when_the_gateway_has_ended(
    gateways: Gateways, bucket: Bucket
) -> None:
    gateway = gateways.mount(bucket, start=False)
    assert in_background(gateway) == []
    (gateway.mount_dir / "hello").write_text("world")
    pid = pid_of(gateway)
    log = (gateway.cache_dir / "gatewayfs.log").read_text()
    assert f"serves {bucket.name}" in log
    gateway.verb("umount", str(gateway.mount_dir))
    assert not is_mounted(gateway.mount_dir)
    assert process_start_ticks(pid) is None
    assert bucket.body("hello") == b"world"
    assert list(gateway.runtime_dir.iterdir()) == []


def test_the_whole_share_may_come_from_a_file(gateways: Gateways, bucket: Bucket, tmp_path: Path) -> None:
    gateway = gateways.mount(bucket, start=False)
    file, log = tmp_path / "share.toml", tmp_path / "share.log"
    file.write_text(
        f'share.bucket = "{bucket.name}"\nshare.name = "photos"\ns3.endpoint_url = "{bucket.endpoint_url}"\n'
        f'cache.directory = "{gateway.cache_dir}"\nmount.directory = "{gateway.mount_dir}"\n'
        f'log.file = "{log}"\nlog.format = "json"\n'
    )
    gateway.verb("mount", "--config", str(file), "--background")
    assert json.loads(gateway.verb("status", "photos", "--json").stdout)["share"]["bucket"] == bucket.name
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert any("serves" in entry["message"] for entry in entries)
    gateway.verb("umount", "photos")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts_and_ends_in_the_foreground(number: int, gateway: Mount) -> None:
    started = gateway()
    assert f"is mounted on {started.mount_dir}" in started.log()
    assert started.process is not None
    started.process.send_signal(number)
    assert started.wait_exit() == 0
    assert not is_mounted(started.mount_dir)


def test_a_wrong_bucket_and_a_dead_endpoint_are_told_by_the_command_itself(gateways: Gateways, bucket: Bucket) -> None:
    gone = Bucket("no-such-bucket-at-all", bucket.endpoint_url, bucket.s3)
    (line,) = in_background(gateways.mount(gone, start=False), code=1)
    assert "no-such-bucket-at-all" in line
    dead = gateways.mount(bucket, start=False, endpoint_url="http://127.0.0.1:1")
    (line,) = in_background(dead, code=4)
    assert "Connection refused" in line
    assert not is_mounted(dead.mount_dir)


def test_a_second_gateway_on_one_cache_directory_or_one_mount_is_refused(gateways: Gateways, bucket: Bucket) -> None:
    first = gateways.mount(bucket)
    (first.mount_dir / "x").write_text("mine")
    second = gateways.mount(bucket, start=False)
    second.cache_dir = first.cache_dir
    (line,) = in_background(second, "--set", "share.name=second", code=1)
    assert "is in use by another" in line
    (line,) = in_background(first, "--set", "share.name=third", code=1)
    assert f"mounted on {first.mount_dir} already" in line
    assert (first.mount_dir / "x").read_text() == "mine"
    first.drain()


def test_a_directory_with_entries_is_refused_before_anything_starts(gateways: Gateways, bucket: Bucket) -> None:
    gateway = gateways.mount(bucket, start=False)
    (gateway.mount_dir / "thesis").touch()
    (line,) = in_background(gateway, code=1)
    assert "is not empty (it has 'thesis')" in line
    assert not gateway.cache_dir.exists()
    assert in_background(gateway, "--set", "mount.options=nonempty") == []
    gateway.verb("umount", str(gateway.mount_dir))
    assert (gateway.mount_dir / "thesis").exists()


def test_after_a_crash_the_verbs_say_so_and_mounting_again_just_works(gateways: Gateways, bucket: Bucket) -> None:
    gateway = gateways.mount(bucket, settings=SLOW)
    (gateway.mount_dir / "precious").write_text("bytes")
    os.stat(gateway.mount_dir)  # the kernel now answers this one from its cache, whoever is dead
    gateway.kill9()
    assert is_mounted(gateway.mount_dir)
    (line,) = lines_of(gateway, "status", str(gateway.mount_dir), code=3)
    assert "is not running (crashed?); start it again" in line
    checked = gateway.verb("check", str(gateway.mount_dir))
    assert "all agree" in checked.stdout
    gateway.start()
    assert "detaching the dead mount" in gateway.log()
    assert (gateway.mount_dir / "precious").read_text() == "bytes"
    gateway.umount()
    assert bucket.body("precious") == b"bytes"


def test_umount_no_drain_says_what_stays_and_the_next_mount_uploads_it(gateways: Gateways, bucket: Bucket) -> None:
    gateway = gateways.mount(bucket, settings=SLOW)
    for name in ("a", "b", "c"):
        (gateway.mount_dir / name).write_text("1234567890")
    done = gateway.verb("umount", "--no-drain", str(gateway.mount_dir))
    assert done.stdout.startswith(f"3 files (30 B) stay queued in {gateway.cache_dir}")
    assert bucket.keys() == []
    gateway.start()
    gateway.drain()
    assert bucket.keys() == ["a", "b", "c"]


def test_what_cannot_be_uploaded_keeps_the_mount_and_is_listed(gateways: Gateways, bucket: Bucket) -> None:
    with Link(bucket.endpoint_url) as link:
        gateway = gateways.mount(bucket, settings=SLOW, endpoint_url=link.url)
        (gateway.mount_dir / "stuck").write_text("12345")
        link.cut()
        done = gateway.verb("umount", "--timeout", "1s", str(gateway.mount_dir), check=False)
        assert done.returncode == 5, done.stderr
        assert "1 file (5 B) not in the bucket yet" in done.stdout
        assert "stays mounted" in done.stdout
        assert (gateway.mount_dir / "stuck").read_text() == "12345"
        link.join()
        gateway.umount()
    assert bucket.body("stuck") == b"12345"


def test_a_busy_mount_is_named_with_its_user(gateway: Mount) -> None:
    started = gateway()
    with subprocess.Popen(["sleep", "60"], cwd=started.mount_dir) as user:
        (line,) = lines_of(started, "umount", str(started.mount_dir), code=1)
        assert f"is in use by sleep (pid {user.pid})" in line
        user.kill()
    started.umount()


def test_recover_brings_back_every_changed_file_after_the_records_are_lost(gateways: Gateways, bucket: Bucket) -> None:
    bucket.put("there/before", b"old")
    gateway = gateways.mount(bucket, settings=SLOW)
    (gateway.mount_dir / "there" / "new").write_text("not uploaded")
    large = os.urandom(3 << 20)
    (gateway.mount_dir / "large").write_bytes(large)
    os.chmod(gateway.mount_dir / "large", 0o640)
    (line,) = lines_of(gateway, "recover", "--cache-dir", str(gateway.cache_dir), code=1)
    assert "is in use by another" in line
    gateway.kill9()
    (line,) = lines_of(gateway, "recover", "--cache-dir", str(gateway.cache_dir), code=1)
    assert "open without damage, so there is nothing to recover" in line
    shutil.rmtree(gateway.cache_dir / "meta")
    # Starting empty would forget what only the recovery log knows.
    line = in_background(gateway, code=1)[-1]
    assert f"gatewayfs recover --cache-dir {gateway.cache_dir} rebuilds every file" in line
    done = gateway.verb("recover", "--cache-dir", str(gateway.cache_dir))
    assert done.stdout.startswith("recovered 2 files that are not uploaded yet")
    assert "all agree" in gateway.verb("check", str(gateway.cache_dir)).stdout
    gateway.start()
    assert sorted(os.listdir(gateway.mount_dir / "there")) == ["before", "new"]
    assert (gateway.mount_dir / "large").read_bytes() == large
    gateway.drain()
    assert bucket.body("there/new") == b"not uploaded"
    assert bucket.body("large") == large
    assert bucket.metadata("large")["file-permissions"] == "0100640"


def test_check_finds_a_lost_cache_file_and_says_so_with_status_6(gateways: Gateways, bucket: Bucket) -> None:
    gateway = gateways.mount(bucket, settings=SLOW)
    (gateway.mount_dir / "large").write_bytes(os.urandom(1 << 20))
    assert "all agree" in gateway.verb("check", str(gateway.mount_dir)).stdout
    gateway.umount(drain=False)
    for file in (gateway.cache_dir / "data").rglob("*"):
        if file.is_file():
            file.unlink()
    done = gateway.verb("check", str(gateway.cache_dir), check=False)
    assert done.returncode == 6, done.stdout + done.stderr
    assert "cannot be read: No such file or directory" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("1 disagreement")


def test_what_is_no_cache_directory_is_told(gateways: Gateways, bucket: Bucket, tmp_path: Path) -> None:
    gateway = gateways.mount(bucket, start=False)
    (line,) = lines_of(gateway, "recover", "--cache-dir", str(tmp_path), code=1)
    assert "is no cache directory" in line
    (line,) = lines_of(gateway, "check", str(tmp_path), code=3)
    assert "no gateway is mounted at" in line
