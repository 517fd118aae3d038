"""What the doctor says of the queue that tells of the bucket's changes."""

import trio

from gatewayfs.cli.doctor_queue import queue_findings
from gatewayfs.cli.findings import Finding, Verdict
from gatewayfs.config import load
from tests.support.s3server import Bucket
from tests.support.sqs import fresh_queue


def looked_at(bucket: Bucket, address: str = "") -> dict[str, Finding]:
    sets = [f"refresh.events={address}"] if address else []
    config = load(sets=sets, flags={"share.bucket": bucket.name, "s3.endpoint_url": bucket.endpoint_url})

    async def look() -> dict[str, Finding]:
        return {finding.subject: finding async for finding in queue_findings(config)}

    return trio.run(look)


def test_the_queue_and_where_the_bucket_sends_its_events_are_looked_at(bucket: Bucket) -> None:
    assert looked_at(bucket) == {}
    missing = looked_at(bucket, f"{bucket.endpoint_url}/123456789012/missing")
    assert [finding.verdict for finding in missing.values()] == [Verdict.FAIL]
    assert "sqs:ReceiveMessage" in missing["refresh.events"].cure
    with fresh_queue(bucket.endpoint_url) as queue, fresh_queue(bucket.endpoint_url) as another:
        queue.send("a message, which stays")
        found = looked_at(bucket, queue.url)
        assert found["refresh.events"].verdict is Verdict.OK
        assert "1 messages wait; no dead-letter queue" in found["refresh.events"].text
        assert found["bucket events"].verdict is Verdict.WARNING
        queue.watch(bucket)
        assert looked_at(bucket, queue.url)["bucket events"].text == f"{bucket.name} sends events to this queue"
        assert "which must pass them on" in looked_at(bucket, another.url)["bucket events"].text
        assert queue.waiting() >= 1
