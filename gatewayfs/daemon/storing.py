"""The share's configuration as the parts below want it: the S3 client's options, the cache's limits and disk, the
uploader's."""

import os

from gatewayfs.cache.integrity import IntegritySettings
from gatewayfs.cache.limits import Limits
from gatewayfs.cache.reserve import RESERVE_BYTES_MAX, RESERVE_SHARE
from gatewayfs.cache.scrubmarks import ScrubSettings
from gatewayfs.cache.snapshot import Turn
from gatewayfs.config import ShareConfig
from gatewayfs.conflict import Policy
from gatewayfs.daemon.identifying import share_defaults
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.disk import Disk
from gatewayfs.runtime.diskhealth import DiskHealth, Probe
from gatewayfs.runtime.offload import Offload
from gatewayfs.runtime.throttle import Throttle
from gatewayfs.s3.archives import RestoreSettings
from gatewayfs.s3.boto import StoreOptions, resolve
from gatewayfs.s3.client import HttpObjectStore
from gatewayfs.s3.options import ObjectOptions
from gatewayfs.upload.settings import UploadSettings

CACHE_SHARE = 0.8
"""Of the file system, when nobody says otherwise: the rest is for records, journal and other programs."""

FREE_SHARE, FREE_BYTES_MAX = 0.05, 10 << 30
"""What stays free, when nobody says otherwise: file systems slow down when they are full, and the records must always
have room; but 5 % of a large disk is more than that needs."""

DIRTY_SHARE = 0.8
"""Of the cache: the rest is for what uploads must fetch, and for readers."""

CHECK_EVERY = {"off": 0, "sampled": 16, "full": 1}
"""Of the cells that are read, one in so many is compared: by ``cache.verify``."""

DISK_THREADS = 16
"""Threads for reads of the cache disk, enough for an SSD's queue, since each read that has to wait takes one; and as
many for everything else, so that reads which are stuck keep nobody from writing."""

PROBE_NAME = "probe"


def watched_disk(config: ShareConfig, clock: Clock, offload: Offload) -> Disk:
    """The cache disk: threads for its reads, and who watches it."""
    reading, probe = Offload(DISK_THREADS), Probe(config.cache.directory / PROBE_NAME)
    health = DiskHealth(clock, probe, Offload(1), lambda: max(offload.waiting_s(), reading.waiting_s()))
    return Disk(offload, reading, health)


def cache_limits(config: ShareConfig) -> Limits:
    """How much of the disk the cache may use; the disk answers what the configuration does not. Raises OSError."""
    options = config.cache
    disk = os.statvfs(options.directory)
    disk_bytes = disk.f_blocks * disk.f_frsize
    free, dirty = options.min_free_bytes, options.dirty_max_bytes
    size = int(disk_bytes * CACHE_SHARE) if options.size_bytes is None else options.size_bytes
    return Limits(
        size_bytes=size,
        free_bytes_min=min(int(disk_bytes * FREE_SHARE), FREE_BYTES_MAX) if free is None else free,
        dirty_bytes_max=int(size * DIRTY_SHARE) if dirty is None else dirty,
        reserve_bytes=min(int(disk_bytes * RESERVE_SHARE), RESERVE_BYTES_MAX),
    )


def integrity_settings(config: ShareConfig, turn: Turn) -> IntegritySettings:
    """How much of what the cache disk gives back is compared. ``turn``: around what is read in the background."""
    scrub = ScrubSettings(config.cache.scrub_rate_bytes, config.cache.scrub_interval_s)
    return IntegritySettings(CHECK_EVERY[config.cache.verify], scrub, turn)


def store_options(config: ShareConfig) -> StoreOptions:
    """How the bucket is reached."""
    options = config.s3
    return StoreOptions(
        endpoint_url=options.endpoint_url or "",
        region=options.region or "",
        profile=options.profile or "",
        credentials_file=str(options.credentials_file or ""),
        addressing=options.addressing,
        ca_bundle=str(options.ca_bundle or ""),
        proxy=options.proxy or "",
        dual_stack=options.dual_stack,
    )


def open_store(config: ShareConfig, clock: Clock) -> HttpObjectStore:
    """The bucket's client; no request is made. Raises UserError (no credentials, unusable endpoint)."""
    options = config.s3
    connection = resolve(config.share.bucket, store_options(config))
    return HttpObjectStore(
        connection,
        Offload(options.connections),
        clock,
        connections_max=options.connections,
        throttle=Throttle(options.connections),
        read_only=config.share.read_only,
        options=object_options(config),
    )


def restore_settings(config: ShareConfig) -> RestoreSettings:
    """Whether archived objects are asked for, and how."""
    tier = config.s3.restore
    return RestoreSettings(tier="" if tier == "off" else tier, days=config.s3.restore_days)


def object_options(config: ShareConfig) -> ObjectOptions:
    """What requests and objects carry."""
    objects = config.objects
    pairs = (tag.partition("=") for tag in objects.tags)
    return ObjectOptions(
        storage_class=objects.storage_class or "",
        keep_storage_class=objects.keep_storage_class,
        acl="" if objects.acl == "default" else objects.acl,
        keep_acl=objects.keep_acl,
        tags=tuple((name, value) for name, _, value in pairs),
        check_tags=objects.check_tags,
        encryption=objects.encryption,
        kms_key=objects.kms_key or "",
        bucket_key=objects.bucket_key,
        checksum="" if objects.checksum == "none" else objects.checksum,
        requester_pays=config.s3.requester_pays,
        bucket_owner=config.s3.bucket_owner or "",
    )


def upload_settings(config: ShareConfig) -> UploadSettings:
    """How changes get to the bucket."""
    upload = config.upload
    return UploadSettings(
        settle_s=upload.settle_s,
        settle_max_s=upload.settle_max_s,
        part_bytes=upload.part_size_bytes,
        workers=upload.workers,
        inflight_bytes_max=upload.memory_bytes,
        conflict_policy=Policy(upload.conflicts),
        gateway_name=config.share.name,
        guess_mime_type=upload.guess_mime_type,
        also_write="" if config.objects.also_write == "none" else config.objects.also_write,
        exclude=upload.exclude,
        read_only=config.share.read_only,
        defaults=share_defaults(config),
    )
