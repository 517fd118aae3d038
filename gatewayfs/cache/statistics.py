"""The cache in figures, for ``status``, tests and logs."""

from dataclasses import dataclass


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
    evicted_bytes: int
    pack_bytes: int
    fetched_bytes: int
    fetches: int
    bypassed_bytes: int
    """Read from the bucket without being kept: the cache was full of what must stay."""
    reads: int
    misses: int
    """How often one of these had to wait for the bucket."""
    full: bool
    """Room is needed and nothing may go."""
