"""Fingerprints of file contents, cell by cell.        [pure]

A file is divided into *cells* of one size. The fingerprint of a cell is the xxh3-128 of its bytes; one of a cell larger
than ``LEAF_BYTES`` is made of its leaves', two at a time (a lone one at the end stays as it is):

    leaves   a  b  c  d  e        two cells become one of twice the size without their bytes being read again,
    pairs    ab    cd    e        so a record of small cells can be compared with a file whose cells had to grow
    cell     abcd        e

The fingerprint of a range is that of its cells' fingerprints one after the other, so ranges of any length are checked
with what one pass over the file found out.
"""

from collections.abc import Sequence

import xxhash

LEAF_BYTES = 1 << 20
DIGEST_BYTES = 16

CELLS_MAX = 1 << 16
"""A record of 1 MiB. Up to 64 GiB cells have 1 MiB, in a file of 5 TiB 128 MiB."""

_ENDLESS = 1 << 62

UNKNOWN = b""
"""Stands for the fingerprint of a cell that nobody computed; equals no other one, and not itself either."""


class Fingerprinter:
    """Takes bytes from the beginning of a cell on.

    Args:
        cell_bytes: up to ``LEAF_BYTES``, or that times a power of two; 0 for one cell without leaves.
    """

    def __init__(self, cell_bytes: int) -> None:
        self._cell_bytes = cell_bytes or _ENDLESS
        self._leaf_bytes = min(LEAF_BYTES, cell_bytes) or _ENDLESS
        self._digest = xxhash.xxh3_128()
        self._in_leaf = self._in_cell = 0
        self._leaves: list[bytes] = []
        self._cells: list[bytes] = []

    def update(self, data: bytes | memoryview) -> None:
        """The next bytes."""
        view = memoryview(data)
        while view:
            piece = view[: self._leaf_bytes - self._in_leaf]
            self._digest.update(piece)
            self._in_leaf += len(piece)
            self._in_cell += len(piece)
            if self._in_leaf == self._leaf_bytes:
                self._end_leaf()
            if self._in_cell == self._cell_bytes:
                self._end_cell()
            view = view[len(piece) :]

    def cells(self) -> list[bytes]:
        """The cells' fingerprints, the last one of what there is of it. Nothing may follow."""
        if self._in_leaf:
            self._end_leaf()
        if self._in_cell:
            self._end_cell()
        return self._cells

    def _end_leaf(self) -> None:
        self._leaves.append(self._digest.digest())
        self._digest.reset()
        self._in_leaf = 0

    def _end_cell(self) -> None:
        leaves = self._leaves
        while len(leaves) > 1:
            leaves = coarser(leaves)
        self._cells += leaves
        self._leaves = []
        self._in_cell = 0


class PassingCells:
    """The fingerprints of an object's cells while a range of it passes by, from front to back.

    Made on the event loop, fed in a thread, read when that has ended.

    Args:
        start: where the range begins.
        size_bytes: of the object, whose last cell may be shorter.
        cell_bytes: as in ``Fingerprinter``.
    """

    def __init__(self, start: int, size_bytes: int, cell_bytes: int) -> None:
        self._start, self._size_bytes, self._cell_bytes = start, size_bytes, cell_bytes
        self.begin()

    def begin(self) -> None:
        """The range comes (again) from its beginning."""
        self._position = self._start
        self._cells = Fingerprinter(self._cell_bytes)

    def update(self, piece: bytes | memoryview) -> None:
        """The next bytes."""
        skipped = max(0, self._start + -self._start % self._cell_bytes - self._position)
        self._position += len(piece)
        self._cells.update(piece[skipped:])

    def whole(self, end: int) -> dict[int, bytes]:
        """By their numbers, those cells that passed whole and lie before ``end``. Nothing may follow."""
        first, end = -(-self._start // self._cell_bytes), min(end, self._position)
        found = enumerate(self._cells.cells(), first)
        return {n: cell for n, cell in found if min((n + 1) * self._cell_bytes, self._size_bytes) <= end}


def cell_bytes_for(size_bytes: int, smallest_bytes: int) -> int:
    """The size of a cell in a file: ``smallest_bytes``, doubled until ``CELLS_MAX`` suffice."""
    while size_bytes > smallest_bytes * CELLS_MAX:
        smallest_bytes *= 2
    return smallest_bytes


def coarser(cells: Sequence[bytes]) -> list[bytes]:
    """The fingerprints of cells of twice the size; UNKNOWN where one of the two is."""
    pairs = [_pair(left, right) for left, right in zip(cells[::2], cells[1::2], strict=False)]
    return pairs if len(cells) % 2 == 0 else [*pairs, cells[-1]]


def _pair(left: bytes, right: bytes) -> bytes:
    return xxhash.xxh3_128_digest(left + right) if left and right else UNKNOWN


def combined(cells: Sequence[bytes]) -> bytes:
    """The fingerprint of a range, by its cells'."""
    return cells[0] if len(cells) == 1 else xxhash.xxh3_128_digest(b"".join(cells))


def fingerprint_of(data: bytes, cell_bytes: int = 0) -> bytes:
    """The fingerprint of a range; plain xxh3-128 for ``cell_bytes`` 0."""
    parts = Fingerprinter(cell_bytes)
    parts.update(data)
    return combined(parts.cells())
