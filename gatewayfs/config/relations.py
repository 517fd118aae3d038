"""Options that contradict each other: one line for each pair, naming both and the cure."""

from collections.abc import Iterator
from pathlib import Path

from gatewayfs.config import units
from gatewayfs.config.eventoptions import EventsOptions
from gatewayfs.config.exportoptions import exporting
from gatewayfs.config.identityoptions import contradictions
from gatewayfs.config.logoptions import in_the_mount
from gatewayfs.config.model import ObjectsOptions, ShareConfig
from gatewayfs.config.refreshoptions import EVENTS_ONLY, RefreshOptions


def relations(config: ShareConfig) -> Iterator[str]:
    """One line for each pair of options that contradict each other."""
    upload, size = config.upload, units.format_size
    if upload.settle_s > upload.settle_max_s:
        yield (
            f"upload.settle is {units.format_duration(upload.settle_s)}, longer than upload.settle_max "
            f"({units.format_duration(upload.settle_max_s)}); make upload.settle_max the longer one"
        )
    if upload.part_size_bytes > upload.memory_bytes:
        yield (
            f"upload.part_size is {size(upload.part_size_bytes)}, more than upload.memory "
            f"({size(upload.memory_bytes)}), so no part could ever be sent; make upload.memory the larger one"
        )
    cache = config.cache
    if cache.size_bytes is not None and (cache.dirty_max_bytes or 0) > cache.size_bytes:
        yield (
            f"cache.dirty_max is {size(cache.dirty_max_bytes or 0)}, more than cache.size ({size(cache.size_bytes)}); "
            "make cache.size the larger one"
        )
    if config.s3.connections <= upload.workers:
        yield (
            f"s3.connections is {config.s3.connections} and upload.workers {upload.workers}, so reads would wait for "
            "uploads; make s3.connections the larger one"
        )
    if config.share.read_only and config.s3.restore != "off":
        yield (
            f"share.read_only is set and s3.restore is {config.s3.restore}, and a restore is a request that changes "
            "the bucket; set s3.restore to off"
        )
    yield from encryption(config.objects)
    yield from contradictions(config.identity, config.metadata.uid, config.metadata.gid)
    yield from exporting(config.export)
    yield from telling(config.events)
    yield from following(config.refresh)
    files = {
        "events.file": config.events.file,
        "log.file": config.log.file,
        "audit.file": config.audit.file,
        "health.file": config.health.file,
    }
    yield from in_the_mount(files, config.mount.directory)
    if config.mount.directory is not None:
        yield from nested(config.cache.directory, config.mount.directory)


def encryption(objects: ObjectsOptions) -> Iterator[str]:
    """One line for each refinement of an encryption that does not have it."""
    if objects.kms_key is not None and objects.encryption not in ("sse-kms", "dsse-kms"):
        yield (
            f"objects.kms_key names a key and objects.encryption is {objects.encryption}, which uses none; "
            "set objects.encryption to sse-kms or dsse-kms"
        )
    if objects.bucket_key and objects.encryption != "sse-kms":
        yield (
            f"objects.bucket_key is set and objects.encryption is {objects.encryption}, which has no bucket keys; "
            "set objects.encryption to sse-kms"
        )


def telling(events: EventsOptions) -> Iterator[str]:
    """One line for each pair of options that contradict each other."""
    if events.webhook is None:
        for name in ("webhook_headers_file", "webhook_ca_bundle"):
            if getattr(events, name) is not None:
                yield f"events.{name} is set and events.webhook is not; set events.webhook"


def following(refresh: RefreshOptions) -> Iterator[str]:
    """One line for each option about a queue that is not there."""
    if refresh.events is None:
        for name in EVENTS_ONLY:
            if getattr(refresh, name) is not None:
                yield f"refresh.{name} is set and refresh.events is not; set refresh.events"


def nested(cache: Path, mountpoint: Path) -> Iterator[str]:
    """One line when the cache would lie in the mount (it would wait for itself) or the mount in the cache."""
    if cache == mountpoint or mountpoint in cache.parents:
        yield f"cache.directory {cache} lies in the mount {mountpoint}; put it elsewhere, on a local disk"
    elif cache in mountpoint.parents:
        yield f"the mount {mountpoint} lies in cache.directory {cache}; mount somewhere else"
