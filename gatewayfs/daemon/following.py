"""The queue that tells of the bucket's changes, from the configuration."""

from typing import TYPE_CHECKING

from gatewayfs.config import ShareConfig
from gatewayfs.daemon.storing import store_options
from gatewayfs.meta.env import MetaStore
from gatewayfs.refresh.following import Following
from gatewayfs.refresh.refresher import Refresh
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.randomness import Randomness

if TYPE_CHECKING:
    from gatewayfs.s3.sqs import SqsQueue


def open_queue(config: ShareConfig) -> "SqsQueue | None":
    """The queue of ``refresh.events``, not asked yet; None without one. Raises UserError."""
    options = config.refresh
    if options.events is None:
        return None
    from gatewayfs.s3.sqs import QueueOptions, SqsQueue  # a share without a queue does not pay for its client

    return SqsQueue(
        QueueOptions(
            address=options.events,
            store=store_options(config),
            region=options.events_region or "",
            endpoint_url=options.events_endpoint_url or "",
            profile=options.events_profile or "",
        )
    )


def build_following(
    config: ShareConfig, refresh: Refresh, meta: MetaStore, clock: Clock, rng: Randomness
) -> Following | None:
    """What follows the bucket's changes, or None. Raises UserError."""
    queue = open_queue(config)
    if queue is None:
        return None
    refresh.expect_notices()
    share = config.share
    return Following(
        queue=queue,
        look=refresh.look_again,
        sync=meta.sync,
        bucket=share.bucket,
        prefix=share.prefix,
        clock=clock,
        rng=rng,
    )
