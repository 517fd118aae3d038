"""Events of one share: its targets from the configuration, and the calls that ask for news."""

import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from gatewayfs.config import ShareConfig
from gatewayfs.control.server import Progress as Tell
from gatewayfs.errors import UserError
from gatewayfs.events.command import CommandTarget
from gatewayfs.events.envelope import Origin, utc
from gatewayfs.events.events import Events
from gatewayfs.events.file import FileTarget
from gatewayfs.events.notifications import Request
from gatewayfs.events.settings import EventSettings, Randomness, Taker
from gatewayfs.events.webhook import PARALLEL, WebhookTarget
from gatewayfs.meta.env import MetaStore
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.offload import Offload

log = logging.getLogger(__name__)

NO_ACCOUNT = "000000000000"
"""The envelope wants twelve digits; we have no account unless the configuration names the bucket owner's."""


def build_events(
    config: ShareConfig,
    meta: MetaStore,
    clock: Clock,
    rng: Randomness,
    region: str,
    arrived: Callable[[], Awaitable[None]],
) -> Events:
    """Wire events of a share. Raises UserError (a CA bundle that cannot be read)."""
    options, share = config.events, config.share
    return Events(
        meta=meta,
        clock=clock,
        rng=rng,
        origin=Origin(
            share=share.name,
            gateway=os.uname().nodename,
            bucket=share.bucket,
            prefix=share.prefix,
            region=region,
            account=config.s3.bucket_owner or NO_ACCOUNT,
            source=options.source,
        ),
        settings=EventSettings(settle_s=options.settle_s, outbox_bytes_max=options.outbox_bytes),
        takers=takers(config),
        arrived=arrived,
    )


def takers(config: ShareConfig) -> list[Taker]:
    """The targets, each with threads of its own: none can hold another one up."""
    options = config.events
    found: list[Taker] = []
    if options.file is not None:
        found.append(FileTarget(options.file, Offload(1)))
    if options.command:
        found.append(CommandTarget(options.command, config.share.name, options.command_timeout_s, Offload(1)))
    if options.webhook is not None:
        found.append(
            WebhookTarget(
                options.webhook,
                options.webhook_timeout_s,
                options.webhook_headers_file,
                options.webhook_ca_bundle,
                Offload(PARALLEL),
            )
        )
    return found


class Notifying:
    """Answers notify-when-uploaded.

    Args:
        persist: puts what is in memory of files open for writing into the records.
    """

    def __init__(self, events: Events, meta: MetaStore, persist: Callable[[], Awaitable[None]]) -> None:
        self._events, self._meta, self._persist = events, meta, persist

    async def handle(self, args: dict[str, Any], _progress: Tell) -> dict[str, Any]:
        """``control.calls.NotifyArguments`` -> ``NotifyResult``."""
        wait = bool(args.get("wait"))
        if not (wait or self._events.wanted):
            raise UserError(
                "there is nobody to notify: no target of events is configured",
                "set events.file, events.command or events.webhook, or wait with --wait",
            )
        await self._persist()
        request = self._events.notifications.request()
        await self._meta.sync()
        if wait:
            timeout_s = args.get("timeout_s")
            with trio.move_on_after(float("inf") if timeout_s is None else float(timeout_s)):
                await request.done.wait()
        return _answer(request)


def _answer(request: Request) -> dict[str, Any]:
    completed = utc(request.completed_ns) if request.done.is_set() else None
    return {
        "notification_id": request.identity,
        "request_received": utc(request.requested_ns),
        "completed": completed,
    }
