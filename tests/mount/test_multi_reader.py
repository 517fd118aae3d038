"""One gateway writes, two read: what is closed at the writer shows at the readers, by a queue and by its own events."""

import os
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.support.gateway import PROGRAM, Gateway, Gateways
from tests.support.s3server import Bucket
from tests.support.sqs import fresh_queue
from tests.support.waiting import until as wait_until

LATE_S = 30.0

until = partial(wait_until, late_s=LATE_S)
READ_ONLY = {"share.read_only": "true"}
FILES = 8


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def handed_to(reader: Gateway, directory: Path) -> str:
    """A program for the writer's ``events.command`` that hands each event to a reader on this machine."""
    program = directory / "on-event"
    line = f"GATEWAYFS_RUNTIME_DIR={reader.runtime_dir} exec {PROGRAM} look-again {reader.mount_dir}"
    program.write_text(f"#!/bin/sh\n{line}\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.semantics("multi-reader")
def test_what_a_writer_closes_shows_at_readers_told_by_a_queue_and_by_its_events(
    bucket: Bucket, gateways: Gateways, moto_endpoint: str, tmp_path: Path
) -> None:
    bucket.put("d/first", b"1")
    with fresh_queue(moto_endpoint) as queue:
        queue.watch(bucket)
        queued = gateways.mount(bucket, settings=READ_ONLY | {"refresh.events": queue.url})
        called = gateways.mount(bucket, settings=READ_ONLY)
        settings = {"upload.settle": "0s", "events.settle": "0s", "events.command": handed_to(called, tmp_path)}
        writer = gateways.mount(bucket, settings=settings)
        for gateway in gateways.made:
            assert os.listdir(gateway.mount_dir / "d") == ["first"]
        took: dict[str, list[float]] = {"queue": [], "command": []}
        for number in range(FILES):
            name = "first" if number % 2 else f"file{number}"
            (writer.mount_dir / "d" / name).write_bytes(b"x" * (number + 2))
            closed = time.monotonic()
            for way, reader in (("queue", queued), ("command", called)):
                path = reader.mount_dir / "d" / name
                until(lambda path=path, number=number: size(path) == number + 2, f"{name} by {way}")  # type: ignore[misc]
                took[way].append(time.monotonic() - closed)
        for way, times in took.items():
            print(f"{way}: visible {min(times) * 1000:.0f} to {max(times) * 1000:.0f} ms after close", file=sys.stderr)

        # A deletion: S3 tells of it, a gateway's events do not.
        (writer.mount_dir / "d" / "first").unlink()
        until(lambda: size(queued.mount_dir / "d" / "first") < 0, "the deletion by the queue")
        assert size(called.mount_dir / "d" / "first") > 0
        called.verb("refresh-cache", str(called.mount_dir), "--folder", "d", "--wait")
        assert size(called.mount_dir / "d" / "first") < 0

        writer.drain()
        until(lambda: queue.waiting() == 0, "the queue to be empty")
        expected = {path.name: path.read_bytes() for path in (writer.mount_dir / "d").iterdir()}
        for reader in (queued, called):
            assert {path.name: path.read_bytes() for path in (reader.mount_dir / "d").iterdir()} == expected
