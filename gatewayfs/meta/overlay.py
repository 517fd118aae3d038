"""Changes that are acknowledged and in the journal, but not yet in LMDB.

Two of these exist at most: the active one takes the transactions of the last second, the frozen one is being committed.
A reader asks active, frozen, LMDB, in this order. Values are raw; ``None`` says "deleted here, do not look below".

Few tables are ever walked in order, and rarely, so order is made when asked for: the first walk over a table sorts its
keys, later changes are merged in at the next walk. A transaction pays nothing for it.
"""

from collections.abc import Callable, Iterator

from sortedcontainers import SortedList

from gatewayfs.meta.schema import Inode

MISSING = b"\xff"
"""Marks "this layer says nothing" where None means deleted. No record has this value (a lone msgpack -1)."""


class Overlay:
    """One layer of changes, and what shall happen once they are durable."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes | None] = {}
        self.inodes: dict[int, Inode | None] = {}
        """The I entries of ``values``, decoded: nearly every change of an inode is followed by a look at it."""
        self.recovery: dict[bytes, bytes | None] = {}
        """The part of ``values`` the recovery log keeps a copy of."""
        self.anchored: set[int] = set()
        """Directories whose records this layer hands to the recovery log."""
        self.data_paths: dict[str, None] = {}
        self.callbacks: list[Callable[[], None]] = []
        self._sorted: dict[int, SortedList] = {}
        self._unsorted: dict[int, list[bytes]] = {}

    @property
    def idle(self) -> bool:
        """Nothing to commit and nobody to tell."""
        return not (self.values or self.callbacks or self.data_paths)

    def apply(self, changes: dict[bytes, bytes | None]) -> None:
        """Take the changes of one committed transaction."""
        if self._sorted:
            values, unsorted = self.values, self._unsorted
            for key in changes:
                if key[0] in unsorted and key not in values:
                    unsorted[key[0]].append(key)
        self.values.update(changes)

    def keys_between(self, start: bytes, end: bytes) -> Iterator[bytes]:
        """Keys of one table with ``start`` <= key < ``end``, deleted ones included, ascending."""
        table = start[0]
        keys = self._sorted.get(table)
        if keys is None:
            keys = self._sorted[table] = SortedList(key for key in self.values if key[0] == table)
            self._unsorted[table] = []
        elif self._unsorted[table]:
            keys.update(self._unsorted[table])
            self._unsorted[table] = []
        return keys.irange(start, end, inclusive=(True, False))  # type: ignore[no-any-return]
