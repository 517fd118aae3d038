"""A compact set of inode numbers: the children a listing has seen.

At the end of a listing, children it did not show were removed by others. Which ones it showed must be remembered for
the length of the listing: a stamp in each record would be a write per unchanged file; a set of names costs 100 bytes
per entry, 100 MB for a million. Inode numbers are allocated upward, so those of one directory lie close together, and
one bit each does: a directory of a million files listed in one go takes under 1 MB. The worst case, every child in a
block of its own, is some 200 bytes per entry. Numbers are never reused and belong to one name, so the answer is exact.
"""

BLOCK_BITS = 8


class InoSet:
    """Inode numbers, one bit each."""

    def __init__(self) -> None:
        self._blocks: dict[int, int] = {}

    def add(self, ino: int) -> None:
        block = ino >> BLOCK_BITS
        self._blocks[block] = self._blocks.get(block, 0) | 1 << (ino & (1 << BLOCK_BITS) - 1)

    def __contains__(self, ino: int) -> bool:
        return bool(self._blocks.get(ino >> BLOCK_BITS, 0) >> (ino & (1 << BLOCK_BITS) - 1) & 1)

    def __len__(self) -> int:
        return sum(bits.bit_count() for bits in self._blocks.values())

    @property
    def blocks(self) -> int:
        """Blocks in memory, some 200 bytes each at most."""
        return len(self._blocks)
