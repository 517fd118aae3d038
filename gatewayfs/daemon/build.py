"""Every part of one share, each given what it needs.

Only here is known which class stands behind which protocol. What lower parts need of higher ones goes down as calls.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from gatewayfs.cache.aheadsettings import AheadSettings
from gatewayfs.cache.content import ContentCache
from gatewayfs.cache.losses import Losses
from gatewayfs.cache.pressure import SOFT
from gatewayfs.config import ShareConfig
from gatewayfs.daemon.background import Background
from gatewayfs.daemon.eventing import build_events
from gatewayfs.daemon.following import build_following
from gatewayfs.daemon.health import HealthLog
from gatewayfs.daemon.identifying import identity, share_defaults
from gatewayfs.daemon.lanes import HEADS_ON_DEMAND, lanes
from gatewayfs.daemon.learning import stored_capabilities
from gatewayfs.daemon.pinning import Pinning
from gatewayfs.daemon.storing import (
    cache_limits,
    integrity_settings,
    restore_settings,
    upload_settings,
    watched_disk,
)
from gatewayfs.daemon.telling import Telling, operations
from gatewayfs.daemon.throttling import Throttling
from gatewayfs.events.events import Events
from gatewayfs.fuse.notify import KernelNotifier
from gatewayfs.fuse.operations import Operations
from gatewayfs.meta.env import MetaStore
from gatewayfs.refresh.following import Following
from gatewayfs.refresh.jobs import Jobs
from gatewayfs.refresh.observed import ObservedStore
from gatewayfs.refresh.refresher import Refresh
from gatewayfs.refresh.settings import RefreshSettings
from gatewayfs.runtime.clock import Clock, SystemClock
from gatewayfs.runtime.disk import Disk
from gatewayfs.runtime.diskhealth import DiskHealth
from gatewayfs.runtime.offload import Offload
from gatewayfs.runtime.precedence import Precedence
from gatewayfs.runtime.randomness import generator
from gatewayfs.s3.archives import ArchiveWatch
from gatewayfs.s3.client import HttpObjectStore
from gatewayfs.s3.gate import Gate, GatedStore
from gatewayfs.s3.metered import MeteredStore
from gatewayfs.s3.refusals import RefusalStore
from gatewayfs.s3.retrying import RetryingStore
from gatewayfs.s3.yielding import YieldingStore
from gatewayfs.upload.fsyncing import BucketFsync
from gatewayfs.upload.settings import Event, UploadHooks
from gatewayfs.upload.uploader import Uploader
from gatewayfs.vfs.filesystem import Filesystem
from gatewayfs.vfs.share import Share, on_disk

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Parts:
    """The running share."""

    config: ShareConfig
    clock: Clock
    meta: MetaStore
    http: HttpObjectStore
    store: MeteredStore
    archives: ArchiveWatch
    cache: ContentCache
    refresh: Refresh
    jobs: Jobs
    uploader: Uploader
    following: Following | None
    events: Events
    filesystem: Filesystem
    notifier: KernelNotifier
    operations: Operations
    throttling: Throttling
    disk: DiskHealth
    telling: Telling
    pinning: Pinning


def build(
    config: ShareConfig,
    meta: MetaStore,
    http: HttpObjectStore,
    disk_offload: Offload,
    background: Background,
    telling: Telling,
) -> Parts:
    """Wire everything above the records and the store."""
    clock, rng = SystemClock(), generator()
    settings = upload_settings(config)
    gate = Gate(settings.retry_s_max, rng)
    # The gate inside the retries: while it is closed they cost nothing.
    gated = GatedStore(RefusalStore(http, telling.health.refused), gate, clock, config.share.prefix)
    archives = ArchiveWatch(RetryingStore(gated, rng.random), http, clock, restore_settings(config))
    store = MeteredStore(archives, clock)
    notifier, precedence = KernelNotifier(Offload(1)), Precedence(clock)
    disk = watched_disk(config, clock, disk_offload)
    cache = _cache(config, meta, store, clock, disk_offload, disk, background, http, precedence)
    meta.watch_disk(disk.health, Losses(cache, meta).judge)
    late = _Late(meta, archives)
    refresh = Refresh(
        meta=meta,
        store=store,
        cache=cache,
        clock=clock,
        kernel=notifier,
        settings=_refresh_settings(config),
        notice=late.notice,
    )
    events = build_events(config, meta, clock, rng, http.region, late.arrived)
    uploader = Uploader(
        meta=meta,
        store=YieldingStore(ObservedStore(store, refresh.note_own), precedence),
        cache=cache,
        clock=clock,
        rng=rng,
        gate=gate,
        settings=settings,
        hooks=_hooks(refresh, late, notifier, events, partial(_note, telling.health)),
        capabilities=stored_capabilities(meta),
    )
    filesystem = _filesystem(config, meta, cache, refresh, uploader, late, clock)
    late.uploader, late.filesystem = uploader, filesystem
    _let_press(cache, uploader, gate, precedence)
    return Parts(
        config=config,
        clock=clock,
        meta=meta,
        http=http,
        store=store,
        archives=archives,
        cache=cache,
        refresh=refresh,
        jobs=Jobs(meta, clock, events.new_id, refresh.begin, events.refreshed, notifier.forgotten),
        uploader=uploader,
        following=build_following(config, refresh, meta, clock, rng),
        events=events,
        filesystem=filesystem,
        notifier=notifier,
        operations=operations(config, filesystem, meta, clock, precedence.called, disk.health, telling),
        throttling=Throttling(http.throttle, meta, clock, config.throttle),
        disk=disk.health,
        telling=telling,
        pinning=Pinning(cache, meta, refresh, filesystem.names, clock, late.archived),
    )


def _filesystem(
    config: ShareConfig,
    meta: MetaStore,
    cache: ContentCache,
    refresh: Refresh,
    uploader: Uploader,
    late: "_Late",
    clock: Clock,
) -> Filesystem:
    return Filesystem(
        Share(
            meta=meta,
            cache=cache,
            refresh=refresh,
            clock=clock,
            notice=uploader.notice,
            notice_doomed=uploader.notice_doomed,
            identity=identity(config.identity),
            archived=late.archived,
            fsynced=_fsynced(config, uploader, clock),
        )
    )


def _fsynced(config: ShareConfig, uploader: Uploader, clock: Clock) -> Callable[[int], Awaitable[None]]:
    if config.upload.fsync == "disk":
        return on_disk
    return BucketFsync(uploader.drains, clock, config.upload.fsync_timeout_s).wait


def _cache(
    config: ShareConfig,
    meta: MetaStore,
    store: MeteredStore,
    clock: Clock,
    offload: Offload,
    disk: Disk,
    background: Background,
    http: HttpObjectStore,
    precedence: Precedence,
) -> ContentCache:
    ahead = lanes(config.s3.connections, config.upload.workers)
    return ContentCache(
        config.cache.directory,
        meta=meta,
        store=store,
        clock=clock,
        offload=offload,
        disk=disk,
        background=background,
        small_file_bytes=config.cache.small_file_bytes,
        deadline_s=config.metadata.deadline_s,
        limits=cache_limits(config),
        integrity=integrity_settings(config, lambda: precedence.turn("scrub")),
        ahead=AheadSettings(
            bytes_max=config.cache.read_ahead_bytes,
            requests_max=ahead.ranges,
            small_files_max=ahead.small_files,
            limit=lambda: http.throttle.download.limit,
        ),
    )


def _let_press(cache: ContentCache, uploader: Uploader, gate: Gate, precedence: Precedence) -> None:
    """A full cache hurries the uploads, and slows writers to their rate."""
    cache.pressure.hurry = uploader.press
    cache.pressure.upload_rate = uploader.rate_bytes_per_s
    cache.pressure.uploading = lambda: uploader.working() and gate.closed is None
    # Programs must not be slowed by a cache that fills up while uploads hold back for them.
    precedence.backlog = lambda: max(cache.pressure.fill / SOFT, uploader.backlog)


def _refresh_settings(config: ShareConfig) -> RefreshSettings:
    return RefreshSettings(
        ttl_s=config.refresh.ttl_s,
        ttl_wait_s=config.refresh.wait_s,
        stale_while_revalidate=config.refresh.stale_while_revalidate,
        defaults=share_defaults(config),
        deadline_s=config.metadata.deadline_s,
        head_concurrency=lanes(config.s3.connections, config.upload.workers).heads + HEADS_ON_DEMAND,
        head_reserved=HEADS_ON_DEMAND,
    )


class _Late:
    """What lower parts need of higher ones, filled in when those exist."""

    uploader: Uploader
    filesystem: Filesystem

    def __init__(self, meta: MetaStore, archives: ArchiveWatch) -> None:
        self._meta, self._archives = meta, archives

    def archived(self, ino: int) -> None:
        inode = self._meta.inode(ino)
        if inode is not None and inode.remote is not None:
            self._archives.note(inode.remote.key, inode.remote.storage_class)

    def notice(self, ino: int) -> None:
        self.uploader.notice(ino)

    async def flush_live(self, ino: int) -> None:
        await self.filesystem.files.persist(ino)

    async def arrived(self) -> None:
        await self.uploader.drain(patient=True)


def _hooks(
    refresh: Refresh, late: _Late, kernel: KernelNotifier, events: Events, event: Callable[[Event], None]
) -> UploadHooks:
    return UploadHooks(
        ensure_listed=refresh.ensure_listed,
        flush_live=late.flush_live,
        kernel=kernel,
        event=event,
        claimant=refresh.claimant,
        note_moved=refresh.note_moved,
        archived=late.archived,
        news=events,
    )


def _note(health: HealthLog, event: Event) -> None:
    """What the uploader meets, for both logs; what others are told goes through ``gatewayfs.events``."""
    health.happened(event)
    details = " ".join(f"{name}={value}" for name, value in event.items() if name != "event")
    log.info("%s %s", event.get("event", "event"), details)
