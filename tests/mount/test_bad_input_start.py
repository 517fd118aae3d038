"""Mounting what cannot be mounted: one line naming bucket and endpoint, a non-zero exit, nothing left behind."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.badserver import Answer, BadServer, close, hang, html, reply, reset, s3_error, truncated
from tests.support.gateway import Gateway, Gateways, is_mounted
from tests.support.link import Link
from tests.support.moto import free_port
from tests.support.s3server import Bucket

NO_S3: dict[str, Answer] = {
    "a web page": html(200),
    "a web page that forbids": html(403),
    "a web page that knows nothing": html(404),
    "an answer cut short": truncated(
        200, b"<?xml version='1.0'?><ListBucketResult>", 5000, content_type="application/xml"
    ),
    "broken XML": reply(200, b"<?xml version='1.0'?><ListBucketResult><Contents>", content_type="application/xml"),
    "a reset": reset,
    "an end": close,
}


@pytest.fixture
def server() -> Iterator[BadServer]:
    with BadServer() as made:
        yield made


def refused(gateway: Gateway, timeout_s: float = 30.0) -> tuple[int, str]:
    """Try to mount; returns the exit status and the line that says why, having checked what always holds."""
    gateway.spawn()
    code = gateway.wait_exit(timeout_s)
    said = gateway.log()
    assert code > 0, said
    assert not is_mounted(gateway.mount_dir)
    assert "Traceback" not in said
    line = said.splitlines()[-1]
    assert "unexpected" not in line, said
    return code, line


def elsewhere(bucket: Bucket, endpoint_url: str, name: str = "") -> Bucket:
    """The same client looking at another place; the daemon gets its endpoint and name."""
    return Bucket(name or bucket.name, endpoint_url, bucket.s3)


def test_a_missing_bucket(gateways: Gateways, bucket: Bucket) -> None:
    gateway = gateways.mount(elsewhere(bucket, bucket.endpoint_url, "no-such-bucket-here"), start=False)
    code, line = refused(gateway)
    assert code == 1
    assert "no-such-bucket-here" in line
    assert bucket.endpoint_url in line


@pytest.mark.parametrize("s3_code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"])
def test_credentials_that_are_not_taken(s3_code: str, gateways: Gateways, bucket: Bucket, server: BadServer) -> None:
    server.otherwise(s3_error(403, s3_code, "the store's own words"))
    code, line = refused(gateways.mount(elsewhere(bucket, server.url), start=False))
    assert code == 1
    assert bucket.name in line
    assert server.url in line
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in gateways.made[0].log().replace(bucket.name, "")


def test_no_credentials_at_all(gateways: Gateways, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    code, line = refused(gateways.mount(bucket, start=False))
    assert code in (1, 2)
    assert "credentials" in line


def test_nobody_listens_there(gateways: Gateways, bucket: Bucket) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    code, line = refused(gateways.mount(elsewhere(bucket, nowhere), start=False))
    assert code == 4
    assert bucket.name in line
    assert nowhere in line


@pytest.mark.parametrize("case", NO_S3)
def test_what_answers_is_not_s3(case: str, gateways: Gateways, bucket: Bucket, server: BadServer) -> None:
    server.otherwise(NO_S3[case])
    code, line = refused(gateways.mount(elsewhere(bucket, server.url), start=False), 60.0)
    assert code in (1, 4)
    assert bucket.name in line
    assert server.url in line


@pytest.mark.parametrize("s3_code", ["SlowDown", "ServiceUnavailable"])
def test_a_store_that_is_too_busy_for_the_first_question(
    s3_code: str, gateways: Gateways, bucket: Bucket, server: BadServer
) -> None:
    server.otherwise(s3_error(503, s3_code, "come back later"))
    code, line = refused(gateways.mount(elsewhere(bucket, server.url), start=False), 60.0)
    assert code == 4
    assert bucket.name in line


@pytest.mark.slow
def test_an_endpoint_that_hangs(gateways: Gateways, bucket: Bucket, server: BadServer) -> None:
    server.otherwise(hang)
    began = time.monotonic()
    code, line = refused(gateways.mount(elsewhere(bucket, server.url), start=False), 60.0)
    assert time.monotonic() - began < 30
    assert code == 4
    assert bucket.name in line
    assert server.url in line


def test_without_network_a_known_share_starts_serves_queues_and_drains_later(
    gateways: Gateways, bucket: Bucket
) -> None:
    bucket.put("dir/cold", b"only in the bucket")
    with Link(bucket.endpoint_url) as link:
        share = gateways.mount(elsewhere(bucket, link.url), settings={"metadata.deadline": "1s"})
        (share.mount_dir / "dir" / "warm").write_bytes(b"written before")
        assert sorted(os.listdir(share.mount_dir / "dir")) == ["cold", "warm"]
        share.umount()
        link.refuse()
        began = time.monotonic()
        share.start()
        assert time.monotonic() - began < 10
        assert (share.mount_dir / "dir" / "warm").read_bytes() == b"written before"
        assert sorted(os.listdir(share.mount_dir / "dir")) == ["cold", "warm"]
        with pytest.raises(OSError, match="Input/output error"):
            (share.mount_dir / "dir" / "cold").read_bytes()
        (share.mount_dir / "dir" / "new").write_bytes(b"written without network")
        os.rename(share.mount_dir / "dir" / "warm", share.mount_dir / "renamed")
        share.wait_until(lambda: share.status()["upload"]["unreachable"] is not None, 20, "status to notice")
        link.join()
        share.drain()
        assert (share.mount_dir / "dir" / "cold").read_bytes() == b"only in the bucket"
    keys = bucket.keys()
    assert [key for key in keys if not key.endswith("/")] == ["dir/cold", "dir/new", "renamed"]
    assert bucket.body("dir/new") == b"written without network"
    assert bucket.body("renamed") == b"written before"


def test_a_cache_directory_of_another_bucket_is_refused_and_left_alone(gateways: Gateways, bucket: Bucket) -> None:
    share = gateways.mount(bucket, settings={"upload.settle": "1h", "upload.settle_max": "1h"})
    (share.mount_dir / "file").write_bytes(b"not uploaded")
    share.umount(drain=False)
    other = elsewhere(bucket, bucket.endpoint_url, bucket.name + "-2")
    bucket.s3.create_bucket(Bucket=other.name)
    try:
        share.bucket = other
        code, line = refused(share)
        assert code in (1, 2)
        assert bucket.name in line
        assert str(share.cache_dir) in line
        assert other.keys() == []
    finally:
        bucket.s3.delete_bucket(Bucket=other.name)
    share.bucket = bucket
    share.start()
    assert (share.mount_dir / "file").read_bytes() == b"not uploaded"


def test_one_share_on_two_directories_with_two_caches(gateways: Gateways, bucket: Bucket) -> None:
    first = gateways.mount(bucket)
    (first.mount_dir / "from-first").write_bytes(b"1")
    first.drain()
    second = gateways.mount(bucket)
    assert (second.mount_dir / "from-first").read_bytes() == b"1"
    (second.mount_dir / "from-second").write_bytes(b"2")
    second.drain()
    first.verb("refresh-cache", "--wait", str(first.mount_dir))
    assert (first.mount_dir / "from-second").read_bytes() == b"2"


def test_two_daemons_on_one_cache_directory(gateways: Gateways, bucket: Bucket) -> None:
    first = gateways.mount(bucket)
    second = gateways.mount(bucket, start=False)
    second.cache_dir = first.cache_dir
    _, line = refused(second)
    assert str(first.cache_dir) in line
    (first.mount_dir / "file").write_bytes(b"still fine")
    first.drain()
    assert bucket.body("file") == b"still fine"


def test_a_stale_mount_left_by_a_crash_is_cleaned_up(gateways: Gateways, bucket: Bucket) -> None:
    share = gateways.mount(bucket)
    (share.mount_dir / "file").write_bytes(b"content")
    fd = os.open(share.mount_dir / "file", os.O_RDONLY)
    share.kill9()
    # Somebody still has a file of the dead mount open.
    share.start()
    with pytest.raises(OSError, match="not connected"):
        os.close(fd)
    assert (share.mount_dir / "file").read_bytes() == b"content"
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {share.mount_dir} " in line]
    assert len(mounts) == 1


def test_a_directory_that_is_not_empty(gateways: Gateways, bucket: Bucket) -> None:
    share = gateways.mount(bucket, start=False)
    (share.mount_dir / "somebodys").write_bytes(b"file")
    _, line = refused(share)
    assert str(share.mount_dir) in line
    assert (share.mount_dir / "somebodys").read_bytes() == b"file"


@pytest.mark.parametrize(
    "metadata",
    [
        {"file-permissions": "rwxr-xr-x", "file-owner": "root", "file-group": "-1", "file-mtime": "yesterday"},
        {"file-permissions": "99999999999", "file-owner": "4294967295", "file-group": "1e3", "file-mtime": "1e99ns"},
        {"file-permissions": "040755", "file-owner": "", "file-mtime": "-5ns", "file-atime": "9" * 40 + "ns"},
        {"file-permissions": "020644", "file-rdev": "8,0"},
    ],
    ids=["words", "too large", "a directory's mode on a file", "a device"],
)
def test_metadata_that_is_garbage_costs_the_attributes_not_the_file(
    metadata: dict[str, str], gateways: Gateways, bucket: Bucket
) -> None:
    bucket.put("good", b"plain")
    bucket.put("odd", b"content", Metadata=metadata)
    share = gateways.mount(bucket)
    assert sorted(os.listdir(share.mount_dir)) == ["good", "odd"]
    assert (share.mount_dir / "odd").read_bytes() == b"content"
    assert 0 <= (share.mount_dir / "odd").stat().st_uid < 1 << 32
    (share.mount_dir / "odd").write_bytes(b"changed")
    os.chmod(share.mount_dir / "odd", 0o600)
    share.drain()
    assert bucket.body("odd") == b"changed"
    assert bucket.metadata("odd")["file-permissions"] == "0100600"
    assert "Traceback" not in share.log()


def test_a_read_only_cache_directory(gateways: Gateways, bucket: Bucket) -> None:
    share = gateways.mount(bucket, start=False)
    share.cache_dir.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "gwfs-ro", str(share.cache_dir)], check=True)
    try:
        _, line = refused(share)
        assert str(share.cache_dir) in line
        assert "Read-only" in line
    finally:
        subprocess.run(["umount", str(share.cache_dir)], check=True)


def test_the_signal_for_a_friendly_end_works_while_the_first_answer_is_awaited(
    gateways: Gateways, bucket: Bucket, server: BadServer
) -> None:
    server.otherwise(hang)
    share = gateways.mount(elsewhere(bucket, server.url), start=False)
    share.spawn()
    share.wait_until(lambda: bool(server.requests), 20, "the first question")
    assert share.process is not None
    share.process.send_signal(signal.SIGTERM)
    assert share.wait_exit(10) != 0
    assert "Traceback" not in share.log()
    assert not is_mounted(share.mount_dir)
