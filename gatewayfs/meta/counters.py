"""How much of what there is, without counting: kept exact by every change, stored with every commit."""

from dataclasses import dataclass
from typing import Any

from gatewayfs.meta import codec
from gatewayfs.meta.schema import Inode


@dataclass
class Counters:
    """How much of what there is; kept exact by every transaction."""

    inodes: int = 0
    dirty: int = 0
    dirty_bytes: int = 0
    """Sum of the sizes of dirty regular files."""
    doomed: int = 0
    orphans: int = 0
    parked: int = 0

    def add(self, other: "Counters") -> None:
        self.inodes += other.inodes
        self.dirty += other.dirty
        self.dirty_bytes += other.dirty_bytes
        self.doomed += other.doomed
        self.orphans += other.orphans
        self.parked += other.parked

    def count_dirty(self, inode: Inode, sign: int) -> None:
        """A dirty inode more (``sign`` 1) or less (-1)."""
        self.dirty += sign
        if inode.is_regular:
            self.dirty_bytes += sign * inode.size

    def count(self, key: bytes, value: bytes | None, sign: int) -> None:
        """Add (``sign`` 1) or take away (-1) one raw entry of any table. Raises CorruptRecord."""
        if value is None:
            return
        table = key[:1]
        if table == codec.INODE:
            self.inodes += sign
            inode = codec.decode_inode(key, value)
            if inode.dirty_since_ns and inode.is_regular:
                self.dirty_bytes += sign * inode.size
        elif table == codec.DIRTY:
            self.dirty += sign
        elif table == codec.DOOMED:
            self.doomed += sign
        elif table == codec.ORPHAN:
            self.orphans += sign
        elif table == codec.PARKED:
            self.parked += sign


def recount(txn: Any) -> Counters:
    """Counters from the records themselves: a walk over everything an LMDB transaction sees."""
    counters = Counters()
    for key, value in txn.cursor():
        counters.count(key, value, 1)
    return counters
