"""The uploader's state as ``status`` shows it."""

from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Inode, Parked
from gatewayfs.upload import records
from gatewayfs.upload.context import Context
from gatewayfs.upload.entries import State, Target
from gatewayfs.upload.schedule import Schedule
from gatewayfs.upload.status import InFlight, ParkedEntry, UploadStatus


def report(ctx: Context, schedule: Schedule) -> UploadStatus:
    """The queue now."""
    meta, now_s, counters = ctx.meta, ctx.clock.monotonic(), ctx.counters
    oldest_ns = next(meta.iter_dirty(), (0, 0))[0]
    return UploadStatus(
        entries=meta.dirty_count + meta.doomed_count,
        entries_bytes=meta.dirty_bytes,
        dirty=meta.dirty_count,
        doomed=meta.doomed_count,
        oldest_age_s=max(0.0, (ctx.clock.time_ns() - oldest_ns) / 1e9) if oldest_ns else 0.0,
        in_flight=tuple(
            InFlight(e.target, name_of(meta, e.target), e.doing, _size(meta, e.target), now_s - e.taken_s)
            for e in schedule
            if e.state is State.TAKEN
        ),
        parked=tuple(_parked(meta, schedule)),
        backing_off=sum(1 for e in schedule if e.attempts and not e.parked),
        unreachable=ctx.gate.closed,
        last_errors=tuple(counters.errors),
        conflicts=counters.conflicts,
        uploaded_files=counters.uploaded_files,
        uploaded_bytes=counters.uploaded_bytes,
        copied=counters.copied,
        deleted=counters.deleted,
        rate_bytes_per_s=counters.rate(now_s),
        body_bytes_in_flight=ctx.budget.used_bytes,
    )


def _parked(meta: MetaStore, schedule: Schedule) -> list[ParkedEntry]:
    """Inodes by their records; doomed keys, which have none, by their entries."""
    parked = [ParkedEntry(ino, name_of(meta, ino), why) for ino, why in meta.iter_parked()]
    doomed = [entry for entry in schedule if entry.parked and isinstance(entry.target, str)]
    return parked + [ParkedEntry(entry.target, str(entry.target), Parked(0, entry.error)) for entry in doomed]


def name_of(meta: MetaStore, target: Target) -> str:
    """The object key an entry is about, or its number."""
    if isinstance(target, str):
        return target
    inode: Inode | None = meta.inode(target)
    key = records.wanted_key(meta, inode) if inode is not None else None
    return key if key is not None else f"inode {target}"


def _size(meta: MetaStore, target: Target) -> int:
    inode = meta.inode(target) if isinstance(target, int) else None
    return inode.size if inode is not None and inode.is_regular else 0
