"""Objects in archive tiers: a quick, clear answer; everything that needs no bytes works; restores where wanted."""

import errno
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.gateway import Gateway, Gateways
from tests.support.recorder import Recorder
from tests.support.s3server import Bucket
from tests.support.syscalls import fails

QUICK_S = 5.0
"""Far below the deadline of 30 s and any back-off, far above what a loaded machine needs for one refused GET."""


def archived_files(gateway: Gateway) -> dict[str, Any]:
    section = gateway.status()["archived"]
    return {item["path"]: item for item in section["examples"]}


def refused(read: Callable[[], object]) -> None:
    begun = time.monotonic()
    with fails(errno.EIO):
        read()
    assert time.monotonic() - begun < QUICK_S


@pytest.mark.semantics("archived", "archived-changes")
def test_an_archived_object_is_refused_quickly_named_and_otherwise_a_file(bucket: Bucket, gateways: Gateways) -> None:
    old = os.urandom(100_000)
    for name, body in (("a", b"small"), ("b", old), ("gone", b"x"), ("over", b"x")):
        bucket.put(f"d/{name}", body, StorageClass="DEEP_ARCHIVE" if name == "b" else "GLACIER")
    # Moto refuses to tell the ACL of an archived object, which S3 does.
    gateway = gateways.mount(bucket, settings={"upload.settle": "0s", "objects.keep_acl": "false"})
    directory = gateway.mount_dir / "d"
    assert sorted(os.listdir(directory)) == ["a", "b", "gone", "over"]
    assert (directory / "b").stat().st_size == len(old)
    for name in "ab":
        refused((directory / name).read_bytes)
        refused((directory / name).read_bytes)
    found = archived_files(gateway)
    assert {path: item["storage_class"] for path, item in found.items()} == {"d/a": "GLACIER", "d/b": "DEEP_ARCHIVE"}
    assert any(
        "2 files are in an archive tier" in line and "s3.restore" in line for line in gateway.status()["problems"]
    )
    assert gateway.log().count("d/a is in an archive tier") == 1, "told once, not at every read"
    # what needs none of the bytes
    (directory / "gone").unlink()
    (directory / "over").write_bytes(b"new")
    gateway.drain()
    assert bucket.keys("d/") == ["d/a", "d/b", "d/over"]
    assert bucket.body("d/over") == b"new"
    # a rename is a copy, which S3 refuses: here at once, in the bucket when the object can be read again
    (directory / "b").rename(directory / "renamed")
    gateway.wait_until(lambda: bool(gateway.status()["upload"]["parked"]), 30, "the copy to be refused")
    (parked,) = gateway.status()["upload"]["parked"]
    assert parked["key"] == "d/renamed"
    assert "archive tier: restore it" in parked["parked"]["reason"]
    assert (directory / "renamed").stat().st_size == len(old)
    assert "d/b" in bucket.keys("d/")
    bucket.s3.restore_object(Bucket=bucket.name, Key="d/b", RestoreRequest={"Days": 1})
    bucket.s3.restore_object(Bucket=bucket.name, Key="d/a", RestoreRequest={"Days": 1})
    assert (directory / "a").read_bytes() == b"small"
    assert (directory / "renamed").read_bytes() == old
    gateway.verb("queue", "retry", str(gateway.mount_dir))
    gateway.drain()
    assert bucket.keys("d/") == ["d/a", "d/over", "d/renamed"]
    assert bucket.body("d/renamed") == old
    assert archived_files(gateway) == {}


@pytest.mark.semantics("archived-restore")
def test_what_is_read_is_asked_for_once_and_read_when_it_is_there(bucket: Bucket, gateways: Gateways) -> None:
    bucket.put("f", b"content", StorageClass="GLACIER")
    bucket.put("unread", b"content", StorageClass="GLACIER")
    with Recorder(bucket.endpoint_url) as recorder:
        settings = {"s3.restore": "bulk", "s3.restore_days": "3"}
        gateway = gateways.mount(bucket, settings=settings, endpoint_url=recorder.url)
        file = gateway.mount_dir / "f"
        # moto restores at once, and the kernel asks twice for bytes it could not read ahead.
        restore = recorder.hold("POST")
        refused(file.read_bytes)
        restore.set()
        gateway.wait_until(
            lambda: gateway.status()["archived"]["restores_asked"] == 1, 30, "the restore to be asked for"
        )
        assert file.read_bytes() == b"content"
        assert archived_files(gateway) == {}
        asked = [path for method, path in recorder.requests if method == "POST" and "restore" in path]
    assert len(asked) == 1
    assert "x-amz-restore" not in {name.lower() for name in bucket.head("unread")["ResponseMetadata"]["HTTPHeaders"]}
    gateway.umount()
