"""A set of byte ranges: which bytes of a file are on the cache disk.

Kept as two parallel sorted lists of starts and ends; ranges never touch or overlap, so a file written from front to
back is one range however many writes it took. All operations are O(log n) plus the ranges they merge or split.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

BLOCK_BYTES = 4096
"""What ext4 and xfs allocate at a time."""


class Extents:
    """Mutable set of half-open byte ranges ``[start, end)``.

    Args:
        flat: (start, end, start, end, ...) as ``meta.schema.Placement.extents`` stores it.
    """

    __slots__ = ("_ends", "_starts")

    def __init__(self, flat: Iterable[int] = ()) -> None:
        values = list(flat)
        self._starts = values[0::2]
        self._ends = values[1::2]

    def __repr__(self) -> str:
        return f"Extents({', '.join(f'{start}..{end}' for start, end in self)})"

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._starts, self._ends, strict=True))

    def __len__(self) -> int:
        return len(self._starts)

    def __bool__(self) -> bool:
        return bool(self._starts)

    @property
    def flat(self) -> tuple[int, ...]:
        """The form records store."""
        return tuple(value for pair in self for value in pair)

    @property
    def total_bytes(self) -> int:
        """How many bytes are in the set."""
        return sum(self._ends) - sum(self._starts)

    def add(self, start: int, end: int) -> None:
        """Put ``[start, end)`` into the set, merging what it touches."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def remove(self, start: int, end: int) -> None:
        """Take ``[start, end)`` out of the set, splitting what reaches over it."""
        if start >= end:
            return
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        if first >= last:
            return
        starts, ends = [], []
        if self._starts[first] < start:
            starts.append(self._starts[first])
            ends.append(start)
        if self._ends[last - 1] > end:
            starts.append(end)
            ends.append(self._ends[last - 1])
        self._starts[first:last] = starts
        self._ends[first:last] = ends

    def take(self, start: int, end: int) -> int:
        """As ``remove``; returns how many bytes were in the set."""
        taken = end - start - sum(gap_end - gap_start for gap_start, gap_end in self.missing(start, end))
        if taken:
            self.remove(start, end)
        return taken

    def allocated_bytes(self, start: int, end: int) -> int:
        """How much of ``[start, end)``, a whole number of blocks, a file system allocates for these bytes."""
        total = 0
        for at in range(bisect_right(self._ends, start), len(self._starts)):
            if self._starts[at] >= end:
                break
            first = max(self._starts[at], start) // BLOCK_BYTES * BLOCK_BYTES
            total += -(-min(self._ends[at], end) // BLOCK_BYTES) * BLOCK_BYTES - first
        return total

    def truncate(self, size: int) -> None:
        """Forget everything from ``size`` on."""
        if self._ends and self._ends[-1] > size:
            self.remove(size, self._ends[-1])

    def covers(self, start: int, end: int) -> bool:
        """True when every byte of ``[start, end)`` is in the set."""
        if start >= end:
            return True
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and self._ends[at] >= end

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of ``[start, end)`` that are not in the set, in order."""
        gaps = []
        position = start
        for at in range(bisect_right(self._ends, start), len(self._starts)):
            if self._starts[at] >= end:
                break
            if self._starts[at] > position:
                gaps.append((position, self._starts[at]))
            position = max(position, self._ends[at])
        if position < end:
            gaps.append((position, end))
        return gaps

    def check(self) -> None:
        """Raise ValueError when the representation breaks its own rules."""
        previous = -1
        for start, end in self:
            if not previous < start < end:
                raise ValueError(f"ranges out of order or touching: {self!r}")
            previous = end
