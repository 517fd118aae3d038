"""How many requests nobody asked for yet may be under way, of each kind.

Every request takes one of ``s3.connections`` places, first come, first served: what waits for its turn there waits
behind everything. So the kinds that run ahead of need are bounded here, together, to less than uploads leave free.
"""

from dataclasses import dataclass

HEADS_ON_DEMAND = 8
"""HEADs somebody waits for at a time, beyond those ahead: more would find the interpreter busy, not the line."""


@dataclass(frozen=True, slots=True)
class Lanes:
    """Requests ahead of need.

    Attributes:
        ranges: of large files. Eight of up to 8 MiB fill 1 Gbit/s over 20 ms.
        small_files: whole ones, with their attributes.
        heads: attributes alone. One costs 0.7 ms of CPU, so at 20 ms and a server's own few, three dozen keep the
            interpreter busy.
    """

    ranges: int
    small_files: int
    heads: int


def lanes(connections: int, workers: int) -> Lanes:
    """Five sixths of what ``workers`` uploads leave of ``connections``; the rest is for what somebody waits for."""
    free = connections - workers
    return Lanes(ranges=max(1, free // 10), small_files=max(1, free // 3), heads=max(1, free * 3 // 8))
