"""What an administrator should know, one line each: what is wrong, and its cure (promise P8)."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from gatewayfs.cache.statistics import CacheStatistics
from gatewayfs.events.settings import EventStatus
from gatewayfs.meta.env import MetaStatistics
from gatewayfs.refresh.settings import RefreshStatistics
from gatewayfs.upload.status import UploadStatus

FREE_BYTES_LOW = 256 << 20
"""Below this the next big write will be refused."""


DIRTY_SHARE_HIGH = 0.9
"""Writers are slowed to the rate of the uploads at about this."""


def problems(
    upload: UploadStatus,
    meta: MetaStatistics,
    refresh: RefreshStatistics,
    events: EventStatus,
    cache: CacheStatistics,
    free_bytes: int,
) -> list[str]:
    """All of them, the most serious first; empty when all is well."""
    found = list(_of_cache(cache))
    if meta.commit_error:
        found.append(f"records are not being committed: {meta.commit_error}; free space on the cache disk")
    if meta.failed_data_paths:
        found.append(
            f"the cache disk lost bytes of {len(meta.failed_data_paths)} files; replace the disk, see docs/recovery"
        )
    if meta.recovery_log_stale:
        found.append(f"the recovery log is behind: {meta.recovery_log_stale}; it catches up when the disk writes again")
    if free_bytes < min(FREE_BYTES_LOW, cache.free_bytes_min or FREE_BYTES_LOW):
        found.append(f"the cache disk has only {free_bytes >> 20} MiB left; free space on it")
    if upload.unreachable is not None:
        found.append(
            f"the bucket does not answer since {_when(upload.unreachable.since_ns)}: {upload.unreachable.reason}; "
            "writes are queued, cached files are served"
        )
    for hold in upload.holds:
        since = datetime.fromtimestamp(hold.since_ns / 1e9, UTC).isoformat(timespec="seconds")
        found.append(
            f"uploads below {hold.path} are held since {since} ({upload.held.files} changes are held in all); "
            "`gatewayfs queue release` lets them go"
        )
    for reason, count in Counter(entry.parked.reason for entry in upload.parked).most_common():
        found.append(
            f"{count} files wait for you: {reason}; cure it, they are tried again daily and by `gatewayfs queue retry`"
        )
    if upload.conflicts:
        found.append(f"{upload.conflicts} conflicts: both versions are kept, look for names with .conflict-")
    if refresh.unrepresentable:
        found.append(
            f"{refresh.unrepresentable} keys cannot be file names and are not shown, for example "
            f"{refresh.unrepresentable_examples[-1]!r}; rename them in the bucket"
        )
    if refresh.shadowed:
        found.append(
            f"{refresh.shadowed} objects are hidden by a directory of the same name, for example "
            f"{refresh.shadowed_examples[-1]!r}; rename one of them in the bucket"
        )
    return found + event_problems(events)


def event_problems(events: EventStatus) -> list[str]:
    """Targets that do not take their events, and events that were given up."""
    found = []
    for name, target in events.targets.items():
        if target.failing_since_ns:
            found.append(
                f"events are not delivered to the {name} since {_when(target.failing_since_ns)}: {target.last_error}; "
                f"{target.waiting} wait"
            )
        if target.dropped:
            found.append(
                f"{target.dropped} events for the {name} were given up because too many waited, last at "
                f"{_when(target.dropped_ns)}; cure the target or make events.outbox larger"
            )
    return found


def _when(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="seconds")


def _of_cache(cache: CacheStatistics) -> Iterator[str]:
    if cache.refusing:
        yield f"writes are refused (ENOSPC): {cache.refusing}; they go on by themselves when there is room"
    if cache.dirty_bytes_max and cache.dirty_bytes > DIRTY_SHARE_HIGH * cache.dirty_bytes_max:
        yield (
            f"the cache is full of data that is not uploaded yet ({cache.dirty_bytes >> 20} of at most "
            f"{cache.dirty_bytes_max >> 20} MiB): writers are slowed; cure what keeps uploads back, or raise "
            "cache.dirty_max or cache.size"
        )
    if cache.full:
        yield (
            "the cache or its disk is full and nothing more can be evicted: reads go past the cache; raise cache.size, "
            f"or free space on the disk (cache.min_free is {cache.free_bytes_min >> 20} MiB)"
        )
