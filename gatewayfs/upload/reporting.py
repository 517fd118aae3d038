"""The uploader's state as ``status`` shows it."""

from itertools import islice

from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Inode, Parked
from gatewayfs.upload import records
from gatewayfs.upload.context import Context
from gatewayfs.upload.entries import Aside, State, Target
from gatewayfs.upload.schedule import Schedule
from gatewayfs.upload.status import HeldPath, InFlight, Kept, ParkedEntry, Progress, UploadStatus

OLDEST_LOOKS_MAX = 1000
"""Excluded files that may be older than the oldest entry before nobody goes on looking for its age."""


def report(ctx: Context, schedule: Schedule) -> UploadStatus:
    """The queue now."""
    meta, now_s, counters = ctx.meta, ctx.clock.monotonic(), ctx.counters
    oldest_ns = _oldest_ns(meta, schedule)
    progress = progress_of(meta, schedule)
    return UploadStatus(
        entries=progress.entries,
        entries_bytes=progress.bytes,
        dirty=progress.entries - meta.doomed_count,
        doomed=meta.doomed_count,
        oldest_age_s=max(0.0, (ctx.clock.time_ns() - oldest_ns) / 1e9) if oldest_ns else 0.0,
        in_flight=tuple(
            InFlight(e.target, name_of(meta, e.target), e.doing, size_of(meta, e.target), now_s - e.taken_s)
            for e in schedule
            if e.state is State.TAKEN
        ),
        holds=tuple(HeldPath(hold.path or "/", hold.since_ns) for hold in ctx.staying.holds.all),
        held=Kept(schedule.aside_count[Aside.HELD], schedule.aside_bytes[Aside.HELD]),
        excluded=Kept(schedule.aside_count[Aside.EXCLUDED], schedule.aside_bytes[Aside.EXCLUDED]),
        parked=tuple(_parked(meta, schedule)),
        backing_off=sum(1 for e in schedule if e.attempts and not e.parked),
        unreachable=ctx.gate.closed,
        last_errors=tuple(counters.errors),
        conflicts=counters.conflicts,
        uploaded_files=counters.uploaded_files,
        uploaded_bytes=counters.uploaded_bytes,
        copied=counters.copied,
        deleted=counters.deleted,
        copied_parts=counters.copied_parts,
        saved_bytes=counters.saved_bytes,
        rate_bytes_per_s=counters.rate(now_s),
        body_bytes_in_flight=ctx.budget.used_bytes,
        last_conflict=counters.last_conflict,
        renames=ctx.renames.running(idle=not len(schedule)),
    )


def progress_of(meta: MetaStore, schedule: Schedule) -> Progress:
    """What is not in the bucket and shall get there: excluded files are dirty in the records, and nobody's work."""
    excluded = schedule.aside_count[Aside.EXCLUDED], schedule.aside_bytes[Aside.EXCLUDED]
    return Progress(max(0, meta.dirty_count + meta.doomed_count - excluded[0]), max(0, meta.dirty_bytes - excluded[1]))


def _oldest_ns(meta: MetaStore, schedule: Schedule) -> int:
    """Since when the oldest entry waits; 0: none does."""
    for since_ns, ino in islice(meta.iter_dirty(), OLDEST_LOOKS_MAX):
        entry = schedule.get(ino)
        if entry is None or entry.aside is not Aside.EXCLUDED:
            return since_ns
    return 0


def _parked(meta: MetaStore, schedule: Schedule) -> list[ParkedEntry]:
    """Inodes by their records; doomed keys, which have none, by their entries."""
    parked = [ParkedEntry(ino, name_of(meta, ino), why) for ino, why in meta.iter_parked()]
    # A doomed key that somebody took over since is nobody's work any more.
    keys = [(e.target, e.error) for e in schedule if e.parked and isinstance(e.target, str) and meta.doomed(e.target)]
    return parked + [ParkedEntry(key, key, Parked(0, why)) for key, why in keys]


def name_of(meta: MetaStore, target: Target) -> str:
    """The object key an entry is about, or its number."""
    if isinstance(target, str):
        return target
    inode: Inode | None = meta.inode(target)
    key = records.wanted_key(meta, inode) if inode is not None else None
    return key if key is not None else f"inode {target}"


def size_of(meta: MetaStore, target: Target) -> int:
    """Bytes of a regular file, else 0."""
    inode = meta.inode(target) if isinstance(target, int) else None
    return inode.size if inode is not None and inode.is_regular else 0
