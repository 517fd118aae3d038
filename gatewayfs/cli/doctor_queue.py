"""Can the queue of the bucket's notifications be used, and does the bucket send them there? Nothing is taken from it.

``receive`` is tried with messages made visible again at once, ``delete`` with a receipt that is none: a service checks
what somebody may do before it looks at what it is asked.
"""

from collections.abc import AsyncIterator

import trio

from gatewayfs.cli.findings import Finding, fail, ok, warning
from gatewayfs.config import ShareConfig
from gatewayfs.daemon.following import open_queue
from gatewayfs.daemon.storing import store_options
from gatewayfs.errors import UserError
from gatewayfs.s3.queue import QueueError
from gatewayfs.s3.sqs import notified_arns

ANSWER_S_MAX = 40.0
SUBJECT = "refresh.events"


async def queue_findings(config: ShareConfig) -> AsyncIterator[Finding]:
    """Every check of the queue; nothing without one."""
    try:
        queue = open_queue(config)
    except UserError as error:
        yield fail(SUBJECT, error.message, error.cure)
        return
    if queue is None:
        return
    try:
        with trio.fail_after(ANSWER_S_MAX):
            await queue.try_out()
        facts = await queue.facts()
    except QueueError as problem:
        cure = "check its address and region; allow sqs:ReceiveMessage, sqs:DeleteMessage and sqs:GetQueueAttributes"
        yield fail(SUBJECT, str(problem), cure)
        return
    except trio.TooSlowError:
        text = f"{queue.address} did not answer in {ANSWER_S_MAX:g} s"
        yield fail(SUBJECT, text, "check the address and the network")
        return
    finally:
        queue.close()
    dead = "a" if facts.dead_letters else "no"
    text = f"{queue.address} may be used; about {facts.messages} messages wait; {dead} dead-letter queue"
    yield ok(SUBJECT, text)
    yield _sent_by_the_bucket(config, facts.arn)


def _sent_by_the_bucket(config: ShareConfig, arn: str) -> Finding:
    try:
        arns = notified_arns(config.share.bucket, store_options(config))
    except QueueError as problem:
        cure = "allow s3:GetBucketNotification to have this checked; nothing else needs it"
        return warning("bucket events", f"whether the bucket sends events cannot be seen: {problem}", cure)
    if arn in arns:
        return ok("bucket events", f"{config.share.bucket} sends events to this queue")
    if arns:
        text = f"{config.share.bucket} sends events to {', '.join(sorted(arns))}, which must pass them on to the queue"
        return ok("bucket events", text)
    return warning(
        "bucket events",
        f"{config.share.bucket} sends no events to any queue or topic",
        "add a notification for s3:ObjectCreated:* and s3:ObjectRemoved:* to the bucket (docs/bucket-events.md)",
    )
