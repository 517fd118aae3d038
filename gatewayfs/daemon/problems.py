"""What an administrator should know, one line each: what is wrong, and its cure (promise P8)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from gatewayfs.cache.statistics import CacheStatistics
from gatewayfs.daemon.pinning import PinStatus
from gatewayfs.daemon.wording import told, when
from gatewayfs.events.settings import EventStatus
from gatewayfs.meta.env import MetaStatistics
from gatewayfs.refresh.followstatus import FollowStatus
from gatewayfs.refresh.settings import RefreshStatistics
from gatewayfs.runtime.diskhealth import DiskStatus
from gatewayfs.runtime.linefile import LineStatistics
from gatewayfs.s3.archives import ArchiveStatus
from gatewayfs.upload.status import ParkedEntry, UploadStatus

FREE_BYTES_LOW = 256 << 20
"""Below this the next big write will be refused."""

DIRTY_SHARE_HIGH = 0.9
"""Writers are slowed to the rate of the uploads at about this."""

FENCED_TOLD_MAX = 20
"""Files with damaged bytes told of one by one: a dying disk may have thousands."""

EXCLUDED_SHARE_HIGH = 0.5
"""Of the cache: what nothing but an unlink can free, and everybody else lacks."""

CONFLICT = "InvalidObjectState"
"""Its type: the health log tells each of them when it happens (``health.py``), ``status`` how many there were."""

CLOCK_SKEW_S_HIGH = 300.0
"""S3 refuses requests that are dated more than 15 minutes off; at five it is time to act."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One of them.

    Attributes:
        type: a name of ``healthtypes.TYPES``.
        text: one line, what is wrong and what cures it.
        operation: the S3 operation concerned, or "".
        key: an object or a path concerned, or "".
        what: tells it from others of its type; the text may change while it lasts.
    """

    type: str
    text: str
    operation: str = ""
    key: str = ""
    what: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What they are found in."""

    upload: UploadStatus
    meta: MetaStatistics
    refresh: RefreshStatistics
    events: EventStatus
    archives: ArchiveStatus
    cache: CacheStatistics
    pins: PinStatus
    free_bytes: int
    disk: DiskStatus
    clock_skew_s: float | None = None
    audit: LineStatistics | None = None
    following: FollowStatus | None = None
    damaged_objects: int = 0
    """Reads of the bucket that brought other bytes than the object's checksum is of, however often they were tried."""


def problems(facts: Facts) -> list[Problem]:
    """All of them, the most serious first; empty when all is well."""
    return [
        *([Problem(*told(facts.disk), what=f"disk {facts.disk.state}")] if facts.disk.reason else []),
        *_of_cache(facts.cache),
        *_of_pins(facts.pins),
        *_of_excluded(facts.upload, facts.cache),
        *_of_objects(facts.damaged_objects),
        *_of_records(facts.meta),
        *_of_disk(facts),
        *_of_clock(facts.clock_skew_s),
        *_of_upload(facts.upload),
        *_of_archives(facts.archives),
        *_of_names(facts.refresh),
        *_of_events(facts.events),
        *_of_following(facts.following),
        *_of_audit(facts.audit),
    ]


def _of_records(meta: MetaStatistics) -> Iterator[Problem]:
    if meta.commit_error:
        text = f"records are not being committed: {meta.commit_error}; free space on the cache disk"
        yield Problem("CacheDiskFailed", text, what="commit")
    if meta.failed_data_paths:
        text = f"the cache disk lost bytes of {len(meta.failed_data_paths)} files; replace the disk, see docs/recovery"
        yield Problem("CacheDiskFailed", text, what="data")
    if meta.recovery_log_stale:
        text = f"the recovery log is behind: {meta.recovery_log_stale}; it catches up when the disk writes again"
        yield Problem("CacheDiskFailed", text, what="recovery log")


def _of_objects(damaged: int) -> Iterator[Problem]:
    if damaged:
        text = f"{damaged} reads failed since the start: the bytes never matched the object's checksum, in all tries"
        yield Problem("ObjectDamaged", f"{text}; the log names the objects: restore them", "S3GetObject", what="reads")


def _of_disk(facts: Facts) -> Iterator[Problem]:
    if facts.free_bytes < min(FREE_BYTES_LOW, facts.cache.free_bytes_min or FREE_BYTES_LOW):
        text = f"the cache disk has only {facts.free_bytes >> 20} MiB left; free space on it"
        yield Problem("CacheDiskLow", text)


def _of_clock(skew_s: float | None) -> Iterator[Problem]:
    if skew_s is not None and abs(skew_s) >= CLOCK_SKEW_S_HIGH:
        where = "behind" if skew_s > 0 else "ahead of"
        text = f"this machine's clock is {abs(skew_s):.0f} s {where} the store's; synchronise it (chrony, timesyncd)"
        yield Problem("GatewayClockOutOfSync", text)


def _of_upload(upload: UploadStatus) -> Iterator[Problem]:
    if upload.unreachable is not None:
        yield Problem(
            "BucketUnreachable",
            f"the bucket does not answer since {when(upload.unreachable.since_ns)}: {upload.unreachable.reason}; "
            "writes are queued, cached files are served",
        )
    for hold in upload.holds:
        yield Problem(
            "UploadsHeld",
            f"uploads below {hold.path} are held since {when(hold.since_ns)} ({upload.held.files} changes are held in "
            "all); `gatewayfs queue release` lets them go",
            key=hold.path,
            what=hold.path,
        )
    examples = {entry.parked.reason: entry for entry in reversed(upload.parked)}
    for reason, count in Counter(entry.parked.reason for entry in upload.parked).most_common():
        text = (
            f"{count} files wait for you: {reason}; cure it, they are tried again daily and by `gatewayfs queue retry`"
        )
        yield _parked(examples[reason], text)
    if upload.conflicts:
        text = (
            f"{upload.conflicts} conflicts since the start, the last at {upload.last_conflict!r}: both sides changed "
            "it, and both versions are kept; compare it with the name with .conflict- beside it, keep one"
        )
        yield Problem(CONFLICT, text, key=upload.last_conflict)


def _parked(entry: ParkedEntry, text: str) -> Problem:
    by_code = {
        "AccessDenied": "S3AccessDenied",
        "StoreAccessDenied": "S3AccessDenied",
        "InvalidObjectState": "InaccessibleStorageClass",
        "ObjectNotInActiveTierError": "InaccessibleStorageClass",
        "ObjectArchived": "InaccessibleStorageClass",
    }
    # What has no inode any more waits to be deleted.
    operation = "S3PutObject" if isinstance(entry.target, int) else "S3DeleteObject"
    kind = by_code.get(entry.parked.code, "UploadsParked")
    return Problem(kind, text, operation, entry.key, what=entry.parked.reason)


def _of_names(refresh: RefreshStatistics) -> Iterator[Problem]:
    if refresh.unrepresentable:
        example = refresh.unrepresentable_examples[-1]
        yield Problem(
            "NamesNotShown",
            f"{refresh.unrepresentable} keys cannot be file names and are not shown, for example "
            f"{example!r}; rename them in the bucket",
            what="unrepresentable",
        )
    if refresh.shadowed:
        example = refresh.shadowed_examples[-1]
        yield Problem(
            "NamesNotShown",
            f"{refresh.shadowed} objects are hidden by a directory of the same name, for example "
            f"{example!r}; rename one of them in the bucket",
            what="shadowed",
        )


def _of_archives(archives: ArchiveStatus) -> Iterator[Problem]:
    """Files that programs asked for and S3 cannot give at once."""
    if not archives.examples:
        return
    first = archives.examples[0]
    state = f", restore {first.restore}" if first.restore else ""
    cure = "they can be read when S3 has restored them" if archives.restoring else "restore them, or set s3.restore"
    yield Problem(
        "InaccessibleStorageClass",
        f"{archives.files} files are in an archive tier and cannot be read, since {when(first.since_ns)}, for example "
        f"{first.path!r} ({first.storage_class or 'unknown class'}{state}); {cure}",
        operation="S3GetObject",
        key=first.path,
    )


def _of_events(events: EventStatus) -> Iterator[Problem]:
    """Targets that do not take their events, and events that were given up."""
    for name, target in events.targets.items():
        if target.failing_since_ns:
            yield Problem(
                "NotificationsFailing",
                f"events are not delivered to the {name} since {when(target.failing_since_ns)}: {target.last_error}; "
                f"{target.waiting} wait",
                what=name,
            )
        if target.dropped:
            yield Problem(
                "DroppedNotifications",
                f"{target.dropped} events for the {name} were given up because too many waited, last at "
                f"{when(target.dropped_ns)}; cure the target or make events.outbox larger",
                what=name,
            )


def _of_following(following: FollowStatus | None) -> Iterator[Problem]:
    if following is not None and following.failing_since_ns:
        yield Problem(
            "ChangesNotFollowed",
            f"changes by others are not followed since {when(following.failing_since_ns)}: {following.last_error}; "
            "until they are, refresh-cache shows them",
        )


def _of_audit(audit: LineStatistics | None) -> Iterator[Problem]:
    if audit is not None and audit.dropped:
        why = audit.error or "they came faster than the disk took them"
        yield Problem("AuditDropped", f"{audit.dropped} lines of the audit log were lost: {why}; see to audit.file")


def _of_cache(cache: CacheStatistics) -> Iterator[Problem]:
    if cache.refusing:
        text = f"writes are refused (ENOSPC): {cache.refusing}; they go on by themselves when there is room"
        yield Problem("CacheFull", text, what="refusing")
    if cache.dirty_bytes_max and cache.dirty_bytes > DIRTY_SHARE_HIGH * cache.dirty_bytes_max:
        yield Problem(
            "CacheFull",
            f"the cache is full of data that is not uploaded yet ({cache.dirty_bytes >> 20} of at most "
            f"{cache.dirty_bytes_max >> 20} MiB): writers are slowed; cure what keeps uploads back, or raise "
            "cache.dirty_max or cache.size",
            what="dirty",
        )
    for fenced in cache.fenced[:FENCED_TOLD_MAX]:
        yield Problem(
            "OnlyCopyDamaged",
            f"the cache disk damaged {fenced.size_bytes} bytes of {fenced.key!r}, which is not in the bucket "
            f"({len(cache.fenced)} such files): reading them is refused and the file is not uploaded; write it anew "
            "from another copy, or remove it",
            key=fenced.key,
            what=str(fenced.ino),
        )
    if cache.rewritten:
        text = f"the cache disk lost bytes that memory still had, {cache.rewritten} times since the start"
        yield Problem("CacheDiskFailed", f"{text}: they were written again; replace the disk", what="rewritten")
    if cache.damaged:
        yield Problem(
            "CacheDiskFailed",
            f"the cache disk gave back other bytes than it was given, {cache.damaged} times since the start: they were "
            "fetched again; look at the disk's health, and replace it",
            what="damaged",
        )
    if cache.full:
        yield Problem(
            "CacheFull",
            "the cache or its disk is full and nothing more can be evicted: reads go past the cache; raise cache.size, "
            f"or free space on the disk (cache.min_free is {cache.free_bytes_min >> 20} MiB)",
            what="full",
        )


def _of_pins(pins: PinStatus) -> Iterator[Problem]:
    if pins.short_files:
        yield Problem(
            "PinsNotKept",
            f"{pins.short_files} pinned files are not all in the cache, for example {pins.short_path or '.'}: "
            f"{pins.short_reason}; they are tried again each minute (where the cache is full: raise cache.size)",
            key=pins.short_path,
        )


def _of_excluded(upload: UploadStatus, cache: CacheStatistics) -> Iterator[Problem]:
    if cache.size_bytes and upload.excluded.size_bytes > EXCLUDED_SHARE_HIGH * cache.size_bytes:
        yield Problem(
            "CacheFull",
            f"{upload.excluded.files} files that never leave this machine (upload.exclude) have "
            f"{upload.excluded.size_bytes >> 20} MiB of the cache's {cache.size_bytes >> 20}; remove some, or raise "
            "cache.size",
            what="excluded",
        )
