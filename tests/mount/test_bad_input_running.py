"""A store that misbehaves while the mount is in use: local work goes on, nothing wrong is shown, all arrives later."""

import os
import time
from collections.abc import Iterator

import pytest

from tests.support.badserver import Answer, BadServer, close, hang, html, reply, reset, s3_error, truncated
from tests.support.gateway import Gateway, Gateways
from tests.support.link import Link
from tests.support.s3server import Bucket

DEADLINE_S = 2

TROUBLE: dict[str, Answer] = {
    "403 AccessDenied": s3_error(403, "AccessDenied", "not you"),
    "403 ExpiredToken": s3_error(403, "ExpiredToken", "get a new one"),
    "404 NoSuchBucket": s3_error(404, "NoSuchBucket", "gone"),
    "500 InternalError": s3_error(500, "InternalError", "try again"),
    "503 SlowDown": s3_error(503, "SlowDown", "not so fast"),
    "a web page": html(200),
    "a web page with 503": html(503),
    "an answer cut short": truncated(200, b"half", 100),
    "nothing at all": hang,
    "a reset": reset,
    "an end": close,
    "no S3 at all": reply(200, b"{}", content_type="application/json"),
}


@pytest.fixture
def link(bucket: Bucket) -> Iterator[Link]:
    with Link(bucket.endpoint_url) as made:
        yield made


@pytest.fixture
def server() -> Iterator[BadServer]:
    with BadServer() as made:
        yield made


@pytest.fixture
def share(gateways: Gateways, bucket: Bucket, link: Link) -> Gateway:
    """A mount whose way to the bucket can be bent, with a cold file, a warm one, and one that is half here."""
    bucket.put("cold", b"only in the bucket" * 10_000)
    bucket.put("warm", b"read before")
    bucket.put("dir/x", b"listed")
    settings = {"metadata.deadline": f"{DEADLINE_S}s", "upload.settle": "0s"}
    share = gateways.mount(Bucket(bucket.name, link.url, bucket.s3), settings=settings)
    assert (share.mount_dir / "warm").read_bytes() == b"read before"
    assert sorted(os.listdir(share.mount_dir)) == ["cold", "dir", "warm"]
    assert os.listdir(share.mount_dir / "dir") == ["x"]
    (share.mount_dir / "cold").stat()
    return share


def told(share: Gateway) -> bool:
    """Whether ``status`` shows that uploads do not get through: a problem, an error, or a request that takes long."""
    status = share.status()
    upload = status["upload"]
    return bool(status["problems"] or upload["last_errors"]) or any(each["for_s"] > 2 for each in upload["in_flight"])


@pytest.mark.parametrize("case", TROUBLE)
def test_trouble_with_the_store_costs_what_is_only_there_and_only_for_a_while(
    case: str, share: Gateway, bucket: Bucket, link: Link, server: BadServer
) -> None:
    server.otherwise(TROUBLE[case])
    link.lead_to(server.url)
    root = share.mount_dir
    (root / "new").write_bytes(b"written in trouble")
    with (root / "synced").open("wb") as file:
        file.write(b"fsynced in trouble")
        os.fsync(file.fileno())
    os.rename(root / "warm", root / "renamed")
    os.chmod(root / "renamed", 0o600)
    os.mkdir(root / "made")
    assert (root / "renamed").read_bytes() == b"read before"
    began = time.monotonic()
    with pytest.raises(OSError, match="Input/output error"):
        (root / "cold").read_bytes()
    assert time.monotonic() - began < DEADLINE_S + 3
    share.wait_until(lambda: told(share), 20, "status to say what is wrong")
    assert server.requests, "nobody asked the bad server, so nothing was shown"

    link.lead_to(bucket.endpoint_url)
    share.drain()
    assert (root / "cold").read_bytes() == b"only in the bucket" * 10_000
    assert bucket.keys() == ["cold", "dir/x", "made/", "new", "renamed", "synced"]
    assert bucket.body("new") == b"written in trouble"
    assert bucket.body("synced") == b"fsynced in trouble"
    assert bucket.body("renamed") == b"read before"
    assert bucket.metadata("renamed")["file-permissions"] == "0100600"
    assert "Traceback" not in share.log()


def test_a_body_cut_short_is_never_taken_for_the_file(share: Gateway, bucket: Bucket, link: Link) -> None:
    data = os.urandom(3 << 20)
    bucket.put("big", data)
    share.verb("refresh-cache", "--wait", str(share.mount_dir))
    assert (share.mount_dir / "big").stat().st_size == len(data)
    for cut_bytes in (1_000, 300_000, 2_000_000):
        link.reset_after(cut_bytes)
        try:
            got = (share.mount_dir / "big").read_bytes()
        except OSError as problem:
            assert problem.errno == 5  # noqa: PT017 - either outcome is right, a short or wrong read is not
        else:
            assert got == data
    link.join()
    assert (share.mount_dir / "big").read_bytes() == data


def test_uploads_cut_short_arrive_whole_and_once(share: Gateway, bucket: Bucket, link: Link) -> None:
    bucket.s3.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    files = {f"file{number}": os.urandom(50_000) for number in range(8)}
    link.cut()
    for name, data in files.items():
        (share.mount_dir / name).write_bytes(data)
    link.reset()
    link.join()
    share.drain()
    for name, data in files.items():
        assert bucket.body(name) == data
        found = bucket.s3.list_object_versions(Bucket=bucket.name, Prefix=name)["Versions"]
        assert len(found) == 1, f"{name} was uploaded {len(found)} times"


def test_a_wire_that_goes_dead_holds_no_local_call_up(share: Gateway, bucket: Bucket, link: Link) -> None:
    link.cut()
    slowest_s = 0.0
    for number in range(50):
        began = time.monotonic()
        (share.mount_dir / f"n{number}").write_bytes(b"x" * 1000)
        os.listdir(share.mount_dir)
        slowest_s = max(slowest_s, time.monotonic() - began)
    assert slowest_s < DEADLINE_S
    link.join()
    share.drain()
    assert len(bucket.keys("n")) == 50
