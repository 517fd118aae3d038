"""How much is fetched before anybody asks: the numbers of reading ahead."""

from collections.abc import Callable
from dataclasses import dataclass, replace

AHEAD_BYTES_MAX = 32 << 20
"""Default of ``cache.read_ahead``: eight requests of 4 MiB."""

AHEAD_REQUESTS_MAX = 8

FILES_WHILE_LIMITED = 2

CACHE_FRACTION = 8
"""A window is at most this part of the cache."""


@dataclass(frozen=True, slots=True)
class AheadSettings:
    """How much is fetched before anybody asks.

    Attributes:
        bytes_max: how far ahead of a reader in order to fetch; 0 for never.
        requests_max: read-ahead requests under way at a time, of all large files.
        limit: the bandwidth limit on downloads now, in bytes per second; None for none.
        small_files_max: small files under way at a time: 16 and a round trip of 20 ms are 800 a second.
    """

    bytes_max: int = AHEAD_BYTES_MAX
    requests_max: int = AHEAD_REQUESTS_MAX
    limit: Callable[[], int | None] = lambda: None
    small_files_max: int = 2 * AHEAD_REQUESTS_MAX

    @property
    def limited(self) -> bool:
        """Whether downloads have a bandwidth limit now."""
        return self.limit() is not None

    @property
    def files_max(self) -> int:
        """Small files that may be under way now."""
        if not self.bytes_max:
            return 0
        return FILES_WHILE_LIMITED if self.limited else self.small_files_max

    def within(self, cache_bytes: float) -> "AheadSettings":
        """The same for a cache of that size: what was fetched ahead must live until it is read."""
        return replace(self, bytes_max=int(min(self.bytes_max, cache_bytes // CACHE_FRACTION)))


DEFAULT_AHEAD = AheadSettings()
