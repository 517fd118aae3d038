"""The cache in figures, for ``status``, tests and logs."""

import math
from collections.abc import Collection
from dataclasses import dataclass

from gatewayfs.cache.evicting import Evictor
from gatewayfs.cache.fences import FencedFile
from gatewayfs.cache.fetch import Fetcher
from gatewayfs.cache.integrity import Integrity
from gatewayfs.cache.live import Content
from gatewayfs.cache.packs import Packs
from gatewayfs.cache.pressure import Pressure
from gatewayfs.cache.room import Room


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """For ``status``."""

    live_files: int
    open_handles: int
    size_bytes: int | None
    """The limit; None: there is none."""
    used_bytes: int
    """On the disk, by packs and sparse files."""
    dirty_bytes: int
    """Of these, what is not in the bucket yet."""
    dirty_bytes_max: int | None
    """What may be dirty; None: there is no limit."""
    delayed_s: float
    """What writers have waited because of that."""
    refused: int
    """Writes answered with ENOSPC."""
    refusing: str
    """Why the latest write was refused; "" once one was accepted."""
    free_bytes_min: int
    """What the disk shall keep free."""
    evicted_bytes: int
    pack_bytes: int
    fetched_bytes: int
    fetches: int
    ahead_requests: int
    """Read-ahead requests under way."""
    ahead_bytes: int
    """Of what was fetched: before anybody asked."""
    ahead_used_bytes: int
    """Of these, read since."""
    ahead_wasted_bytes: int
    """Of these, not read by the time their file was closed."""
    bypassed_bytes: int
    """Read from the bucket without being kept: the cache was full of what must stay."""
    reads: int
    misses: int
    """How often one of these had to wait for the bucket."""
    full: bool
    """Room is needed and nothing may go."""
    compared_cells: int
    """Read from the disk and compared with their fingerprint (cache.verify)."""
    damaged: int
    """Cells and small files the disk gave back changed; they were dropped and fetched again."""
    rewritten: int
    """The same, which memory still had right: they were written to the disk again."""
    fenced: tuple[FencedFile, ...]
    """Files with damaged bytes that are only here."""


def taken(
    live: Collection[Content],
    evictor: Evictor,
    room: Room,
    packs: Packs,
    fetcher: Fetcher,
    pressure: Pressure,
    integrity: Integrity,
) -> CacheStatistics:
    """The figures now."""
    limits, downloads = evictor.limits, fetcher.downloads
    return CacheStatistics(
        live_files=len(live),
        open_handles=sum(content.opens for content in live),
        size_bytes=None if math.isinf(limits.size_bytes) else int(limits.size_bytes),
        used_bytes=room.used_bytes,
        dirty_bytes=room.dirty_bytes,
        dirty_bytes_max=None if math.isinf(limits.dirty_bytes_max) else int(limits.dirty_bytes_max),
        delayed_s=pressure.delayed_s,
        refused=pressure.refused,
        refusing=pressure.refusing,
        free_bytes_min=limits.free_bytes_min,
        evicted_bytes=evictor.evicted_bytes,
        pack_bytes=packs.live_bytes,
        fetched_bytes=downloads.fetched_bytes,
        fetches=downloads.fetches,
        ahead_requests=downloads.ahead_under_way,
        ahead_bytes=downloads.ahead_bytes,
        ahead_used_bytes=fetcher.used_bytes,
        ahead_wasted_bytes=fetcher.wasted_bytes,
        bypassed_bytes=fetcher.bypassed_bytes,
        reads=room.reads,
        misses=room.misses,
        full=evictor.stuck,
        compared_cells=integrity.reads.compared_cells,
        damaged=integrity.damage.dropped,
        rewritten=integrity.damage.rewritten,
        fenced=integrity.damage.fences.files(),
    )
