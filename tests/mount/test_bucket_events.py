"""A mounted share follows its bucket: by a queue that S3's notifications go to, and by the local door."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import PROGRAM, Gateway, Gateways
from tests.support.recorder import Recorder
from tests.support.s3server import Bucket
from tests.support.sqs import TestQueue, fresh_queue, s3_record
from tests.support.waiting import until as wait_until

LATE_S = 20.0
"""On a machine that does other things as well. How quick it is on a quiet one: docs/bucket-events.md."""

until = partial(wait_until, late_s=LATE_S)


@pytest.fixture
def queue(moto_endpoint: str) -> Iterator[TestQueue]:
    with fresh_queue(moto_endpoint) as made:
        yield made


def content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def followed(gateway: Gateway) -> dict[str, Any]:
    return dict(gateway.status()["refresh"]["events"])


@pytest.mark.semantics("foreign-change-queue")
def test_what_others_do_in_the_bucket_shows_by_itself(bucket: Bucket, gateways: Gateways, queue: TestQueue) -> None:
    bucket.put("old/a", b"1")
    bucket.put("old/b", b"2")
    queue.watch(bucket)
    with Recorder(bucket.endpoint_url) as recorder:
        share = gateways.mount(bucket, settings={"refresh.events": queue.url}, endpoint_url=recorder.url)
        mount = share.mount_dir
        assert sorted(os.listdir(mount / "old")) == ["a", "b"]
        for name in ("a", "b"):  # so that nothing but messages needs a HEAD from here on
            assert (mount / "old" / name).stat().st_size == 1
        assert not (mount / "new").exists()
        until(lambda: queue.waiting() == 0, "the test messages")
        recorder.requests.clear()

        took = []
        for number in range(5):
            bucket.put("old/a", b"x" * (number + 2))
            # Not read: whoever reads while it changes asks the bucket, too.
            took.append(until(lambda size=number + 2: (mount / "old/a").stat().st_size == size, "new bytes"))  # type: ignore[misc]
        bucket.put("old/c", b"3")
        took.append(until(lambda: content(mount / "old/c") == b"3", "a new file"))
        bucket.delete("old/b")
        took.append(until(lambda: not (mount / "old/b").exists(), "a deletion"))
        bucket.put("new/deep/file", b"4")
        took.append(until(lambda: content(mount / "new/deep/file") == b"4", "a new tree"))
        bucket.put("marked/")
        took.append(until(lambda: (mount / "marked").is_dir(), "a marker"))
        print(f"shown after {min(took) * 1000:.0f} to {max(took) * 1000:.0f} ms", file=sys.stderr)
        until(lambda: queue.waiting() == 0, "the messages to be deleted")
        heads = [path for method, path in recorder.requests if method == "HEAD" and "/old/" in path]
        assert len(heads) == 7, "seven messages about it, a HEAD each"
        assert content(mount / "old/a") == b"x" * 6

        # What is written here comes back as a message, and costs no request.
        recorder.requests.clear()
        (mount / "old" / "ours").write_bytes(b"ours")
        share.drain()
        before = followed(share)["received"]
        until(lambda: followed(share)["received"] > before or queue.waiting() == 0, "our own message")
        assert [request for request in recorder.requests if request[0] == "HEAD" and "ours" in str(request)] == []

        status = followed(share)
        assert (status["bad"], status["refused"], status["failing_since_ns"]) == (0, 0, 0)
        assert status["applied"] >= 9
        # Nobody believes a message; a wrong one is nothing.
        queue.send("garbage")
        queue.tell(bucket.name, "old/a", event="ObjectRemoved:Delete")
        until(lambda: followed(share)["bad"] == 1 and queue.waiting() == 0, "garbage to be counted")
        assert content(mount / "old/a")


@pytest.mark.semantics("foreign-change-told")
def test_a_notification_handed_over_on_this_machine_shows_before_the_command_returns(
    bucket: Bucket, gateway: Callable[..., Gateway]
) -> None:
    share = gateway()
    assert os.listdir(share.mount_dir) == []
    bucket.put("ü +1", b"1")
    bucket.put("by-path", b"2")
    body = json.dumps({"Records": [s3_record(bucket.name, "ü +1", "s3:ObjectCreated:Put")]}, indent=1)
    done = subprocess.run(
        [PROGRAM, "look-again", str(share.mount_dir), "--json"],
        input=body.encode(),
        env=share.environ(),
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout)["looked"] == 1
    assert os.listdir(share.mount_dir) == ["ü +1"]
    share.verb("look-again", str(share.mount_dir), "--path", "by-path")
    assert sorted(os.listdir(share.mount_dir)) == ["by-path", "ü +1"]


def test_a_queue_that_cannot_be_used_is_told_by_status(gateway: Callable[..., Gateway], moto_endpoint: str) -> None:
    missing = f"{moto_endpoint}/123456789012/missing"
    share = gateway(settings={"refresh.events": missing})
    until(lambda: followed(share)["failing_since_ns"] > 0, "the trouble to be seen")
    (problem,) = [text for text in share.status()["problems"] if "not followed" in text]
    assert missing in problem
