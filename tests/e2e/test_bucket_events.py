"""A stranger changes a bucket beside a mount, and news of it come late, doubled, reordered, or not at all.

What was told shows; what was lost is found by the next refresh; in the end the tree is the bucket. The store is the
production server, the queue moto's: messages are made up here, as S3 would send them. A failure prints its seed.
"""

import os
import random
import threading
import time
from pathlib import Path

import pytest

from tests.support.gateway import Gateways
from tests.support.s3server import Bucket
from tests.support.sqs import TestQueue, fresh_queue

SEED = int(os.environ.get("GATEWAYFS_EVENTS_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
CHANGES = int(os.environ.get("GATEWAYFS_EVENTS_CHANGES", "150"))
KEYS = [f"{a}{b}{c}" for a in ("a", "b") for b in ("", "/a", "/b") for c in ("", "/", "/a", "/b/c")]
LATE_S = 60.0


class Stranger:
    """Changes the bucket, and tells the queue about it, badly."""

    def __init__(self, bucket: Bucket, queue: TestQueue, rng: random.Random) -> None:
        self.bucket, self.queue, self.rng = bucket, queue, rng
        self.mail: list[tuple[str, str]] = []
        self.lost = 0

    def change(self) -> None:
        key = self.rng.choice(KEYS)
        if self.rng.random() < 0.65:
            self.bucket.put(key, b"" if key.endswith("/") else self.rng.randbytes(self.rng.randrange(2000)))
            self.mail.append((key, "ObjectCreated:Put"))
        else:
            self.bucket.delete(key)
            self.mail.append((key, "ObjectRemoved:Delete"))

    def deliver(self, count: int, *, lose: bool) -> None:
        self.rng.shuffle(self.mail)
        for key, event in [self.mail.pop() for _ in range(min(count, len(self.mail)))]:
            if lose and self.rng.random() < 0.2:
                self.lost += 1
            else:
                self.queue.tell(self.bucket.name, *[key] * self.rng.choice([1, 1, 2]), event=event)


def shown(root: Path) -> dict[str, bytes]:
    """Every path on the mount, directories with a slash, files with their bytes."""
    found: dict[str, bytes] = {}
    for directory, names, files in os.walk(root):
        at = Path(directory)
        found |= {f"{(at / name).relative_to(root)}/": b"" for name in names}
        found |= {str((at / name).relative_to(root)): (at / name).read_bytes() for name in files}
    return found


def stands_for(bucket: Bucket) -> dict[str, bytes]:
    """What a bucket looks like: a directory hides a file of its name."""
    keys = bucket.keys()
    directories = {key[: at + 1] for key in keys for at, letter in enumerate(key) if letter == "/"}
    files = {key: bucket.body(key) for key in keys if not key.endswith("/") and f"{key}/" not in directories}
    return dict.fromkeys(directories, b"") | files


@pytest.mark.semantics("foreign-change-queue")
def test_with_bad_news_of_a_busy_bucket_the_tree_still_ends_as_the_bucket(
    bucket: Bucket, moto_endpoint: str, gateways: Gateways
) -> None:
    print(f"GATEWAYFS_EVENTS_SEED={SEED}")
    rng = random.Random(SEED)
    with fresh_queue(moto_endpoint) as queue:
        share = gateways.mount(bucket, settings={"refresh.events": queue.url})
        stranger = Stranger(bucket, queue, rng)
        stop, problems = threading.Event(), []

        def look_around() -> None:
            """A program that walks the tree all the while: names and bytes may change under it, nothing else may."""
            while not stop.is_set():
                try:
                    shown(share.mount_dir)
                except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                    continue
                except OSError as problem:
                    if problem.errno != 5:  # EIO once, where the bytes turn out to be another object's
                        problems.append(problem)

        walker = threading.Thread(target=look_around)
        walker.start()
        try:
            for _ in range(CHANGES):
                stranger.change()
                if rng.random() < 0.3:
                    stranger.deliver(rng.randrange(8), lose=True)
            stranger.deliver(CHANGES, lose=True)
        finally:
            stop.set()
            walker.join()
        deadline = time.monotonic() + LATE_S
        while queue.waiting() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert problems == []
        assert queue.waiting() == 0
        assert stranger.lost
        status = share.status()["refresh"]["events"]
        assert (status["bad"], status["refused"], status["given_up"]) == (0, 0, 0)
        share.verb("refresh-cache", str(share.mount_dir), "--wait")
        assert shown(share.mount_dir) == stands_for(bucket)
        # And without a loss no refresh is needed.
        for _ in range(40):
            stranger.change()
        stranger.deliver(CHANGES, lose=False)
        deadline = time.monotonic() + LATE_S
        while queue.waiting() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert shown(share.mount_dir) == stands_for(bucket)
