"""Changes of inodes, and everything that follows from them.

Callers put whole records. The entries derived from a record (dentry, child, key index, dirty queue, orphan), what its
ancestors know about it (``deepest_bytes``, ``subdirectories``) and its copy in the recovery log are kept right here,
by comparing with the record as it was. A change set is only a proposal: nobody sees it until the store takes it.
"""

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

import msgspec
from sortedcontainers import SortedList

from gatewayfs.errors import CorruptRecord, DirectoryNotEmpty, NotADirectory
from gatewayfs.meta import codec
from gatewayfs.meta.counters import Counters
from gatewayfs.meta.integrity import ended
from gatewayfs.meta.overlay import MISSING
from gatewayfs.meta.reader import Reader
from gatewayfs.meta.schema import Inode
from gatewayfs.types import ROOT_INO

if TYPE_CHECKING:
    from gatewayfs.meta.layers import Layers

SCAN_KEYS = 64
"""Up to so many changed keys are scanned (3 us); more are kept sorted, or a page of a listing would take seconds."""

_replace = msgspec.structs.replace


class ChangeSet(Reader):
    """Changed records over ``below``, which stays as it is; reads see the changes."""

    def __init__(self, below: "Layers") -> None:
        self.prefix = below.prefix
        self.changes: dict[bytes, bytes | None] = {}
        self.inodes: dict[int, Inode | None] = {}
        self.recovery: dict[bytes, bytes | None] = {}
        """What the recovery log shall copy."""
        self.anchored: set[int] = set()
        """Directories among it."""
        self.counters = Counters()
        """What is added to the store's."""
        self.callbacks: list[Callable[[], None]] = []
        self.data_paths: list[str] = []
        self._below = below
        self._sorted: SortedList | None = None
        self._suspects: list[tuple[int, bytes]] = []
        """(inode, D or K key) whose entry another inode took: must not claim it any more at the end."""
        self._claimed: list[str] = []
        """Object keys that got a holder or were doomed: never both at the end."""

    # ----------------------------------------------------------------- reading

    def inode(self, ino: int) -> Inode | None:
        if ino in self.inodes:
            return self.inodes[ino]
        return self._below.inode(ino)

    def raw(self, key: bytes) -> bytes | None:
        value = self.changes.get(key, MISSING)
        return self._below.raw(key) if value is MISSING else value

    def keys(self, start: bytes, end: bytes, limit: int) -> list[bytes]:
        own = self._own_keys(start, end)
        if not own:
            return self._below.keys(start, end, limit)
        # At most len(own) of the store's keys can be deleted here.
        keys = set(self._below.keys(start, end, limit + len(own))).difference(own)
        keys.update(key for key in own if self.changes[key] is not None)
        return sorted(keys)[:limit]

    def _own_keys(self, start: bytes, end: bytes) -> list[bytes]:
        """Changed keys in a range. Keys are only ever added, so a long transaction is sorted piece by piece."""
        if len(self.changes) <= SCAN_KEYS:
            return [key for key in self.changes if start <= key < end]
        if self._sorted is None:
            self._sorted = SortedList()
        if len(self._sorted) < len(self.changes):
            self._sorted.update(islice(self.changes, len(self._sorted), None))
        return list(self._sorted.irange(start, end, inclusive=(True, False)))

    # ----------------------------------------------------------------- inodes

    def put(self, inode: Inode) -> None:
        """Write a record and everything derived from it.

        ``directory.deepest_bytes`` never shrinks and ``directory.subdirectories`` is counted here, whatever the
        argument says.

        Raises StaleInode when the parent does not exist, NotADirectory when it is none.
        """
        ino = inode.ino
        previous = self.inode(ino)
        if previous is None:
            self.counters.inodes += 1
        elif previous.directory is not None and inode.directory is not None:
            deepest = max(previous.directory.deepest_bytes, inode.directory.deepest_bytes)
            counted = previous.directory.subdirectories
            if (deepest, counted) != (inode.directory.deepest_bytes, inode.directory.subdirectories):
                details = _replace(inode.directory, deepest_bytes=deepest, subdirectories=counted)
                inode = _replace(inode, directory=details)
        if previous is None or previous.parent != inode.parent or previous.name != inode.name:
            self._move(previous, inode)
        old_remote = None if previous is None or previous.remote is None else previous.remote.key
        new_remote = None if inode.remote is None else inode.remote.key
        if old_remote != new_remote:
            self._hold(ino, old_remote, new_remote)
        for key in ended(self, previous, inode):
            self.put_copied(key, None)
        self._queue(previous, inode)
        self._write(previous, inode)
        if inode.parent:
            self._bubble(previous, inode)
        if inode.directory is not None:
            self._count_subdirectory(0 if previous is None else previous.parent, inode.parent)

    def remove(self, ino: int) -> None:
        """Forget an inode for good: its record and all that is derived from it.

        Raises StaleInode when there is none, DirectoryNotEmpty when something is still linked below it.
        """
        previous = self.require(ino)
        if previous.is_directory and self.has_children(ino):
            raise DirectoryNotEmpty(f"inode {ino} has children")
        if previous.parent:
            self._unlink(previous)
            if previous.is_directory:
                self._count_subdirectory(previous.parent, 0)
        elif ino != ROOT_INO:
            self.changes[codec.orphan_key(ino)] = None
            self.counters.orphans -= 1
        if previous.remote is not None:
            self._hold(ino, previous.remote.key, None)
        if previous.dirty_since_ns:
            self.changes[codec.dirty_key(previous.dirty_since_ns, ino)] = None
            self.counters.count_dirty(previous, -1)
        self.counters.inodes -= 1
        raw_key = codec.inode_key(ino)
        self.changes[raw_key] = self.inodes[ino] = None
        if previous.dirty_since_ns or self._is_anchored(ino):
            self.recovery[raw_key] = None

    def put_copied(self, key: bytes, value: bytes | None) -> None:
        """Write one raw entry, in the recovery log too."""
        self.changes[key] = self.recovery[key] = value

    def claim(self, object_key: str) -> None:
        """Remember to ``verify`` that this key is not both held and doomed."""
        self._claimed.append(object_key)

    def verify(self) -> None:
        """Raise CorruptRecord where two inodes would share a name or key, or an object in use would be doomed."""
        for ino, key in self._suspects:
            inode = self.inode(ino)
            if inode is None:
                continue
            if key[:1] == codec.DENTRY:
                clash = inode.parent and codec.dentry_key(inode.parent, inode.name) == key
            else:
                clash = inode.remote is not None and codec.object_key(inode.remote.key) == key
            if clash and self.raw(key) != ino.to_bytes(8, "big"):
                raise CorruptRecord(f"two inodes would share one place: {ino} and the holder of {key!r}")
        for object_key in self._claimed:
            if self.raw(codec.doomed_key(object_key)) is not None and self.holder(object_key) is not None:
                raise CorruptRecord(f"object {object_key!r} would be doomed and in use")

    # ----------------------------------------------------------------- derived entries

    def _move(self, previous: Inode | None, inode: Inode) -> None:
        """D, C and O follow (parent, name)."""
        ino = inode.ino
        if previous is not None and previous.parent:
            self._unlink(previous)
        elif previous is not None and inode.parent:
            self.changes[codec.orphan_key(ino)] = None
            self.counters.orphans -= 1
        if inode.parent:
            key = codec.dentry_key(inode.parent, inode.name)
            value = ino.to_bytes(8, "big")
            taken = self.raw(key)
            if taken is not None and taken != value:
                self._suspects.append((int.from_bytes(taken, "big"), key))
            self.changes[key] = value
            self.changes[codec.child_key(inode.parent, ino)] = b""
        elif ino != ROOT_INO and (previous is None or previous.parent):
            self.changes[codec.orphan_key(ino)] = b""
            self.counters.orphans += 1

    def _count_subdirectory(self, old_parent: int, new_parent: int) -> None:
        """A directory went from one parent to another (0: none); st_nlink of both follows."""
        if old_parent == new_parent:
            return
        for ino, change in ((old_parent, -1), (new_parent, 1)):
            parent = self.inode(ino) if ino else None
            if parent is not None and parent.directory is not None:
                details = parent.directory
                counted = _replace(details, subdirectories=max(0, details.subdirectories + change))
                self._write(parent, _replace(parent, directory=counted))

    def _unlink(self, previous: Inode) -> None:
        key = codec.dentry_key(previous.parent, previous.name)
        if self.raw(key) == previous.ino.to_bytes(8, "big"):
            self.changes[key] = None
        self.changes[codec.child_key(previous.parent, previous.ino)] = None

    def _hold(self, ino: int, old: str | None, new: str | None) -> None:
        """K follows ``remote.key``."""
        value = ino.to_bytes(8, "big")
        if old is not None:
            key = codec.object_key(old)
            if self.raw(key) == value:
                self.changes[key] = None
        if new is not None:
            key = codec.object_key(new)
            taken = self.raw(key)
            if taken is not None and taken != value:
                self._suspects.append((int.from_bytes(taken, "big"), key))
            self.changes[key] = value
            self._claimed.append(new)

    def _queue(self, previous: Inode | None, inode: Inode) -> None:
        """Q follows ``dirty_since_ns``."""
        old = 0 if previous is None else previous.dirty_since_ns
        new = inode.dirty_since_ns
        if old != new:
            if old:
                self.changes[codec.dirty_key(old, inode.ino)] = None
            if new:
                self.changes[codec.dirty_key(new, inode.ino)] = b""
        if previous is not None and old:
            self.counters.count_dirty(previous, -1)
        if new:
            self.counters.count_dirty(inode, 1)

    def _bubble(self, previous: Inode | None, inode: Inode) -> None:
        """Ancestors hear of a longer path below them."""
        deepest = -1 if inode.directory is None else inode.directory.deepest_bytes
        if previous is not None and previous.parent == inode.parent and previous.name == inode.name:
            before = -1 if previous.directory is None else previous.directory.deepest_bytes
            if before == deepest:
                return
        reach = len(inode.name) + 1 + deepest
        parent = self.require(inode.parent)
        while True:
            if parent.ino == inode.ino:
                # A directory reaches deeper than any directory below it, so a circle never ends the loop earlier.
                raise CorruptRecord(f"inode {inode.ino} would be below itself")
            if parent.directory is None:
                raise NotADirectory(f"inode {parent.ino} cannot have children")
            if parent.directory.deepest_bytes >= reach:
                return
            grown = _replace(parent, directory=_replace(parent.directory, deepest_bytes=reach))
            self._write(parent, grown)
            if not parent.parent:
                return
            reach += len(parent.name) + 1
            parent = self.require(parent.parent)

    # ----------------------------------------------------------------- records and their copies

    def _write(self, previous: Inode | None, inode: Inode) -> None:
        ino = inode.ino
        key = codec.inode_key(ino)
        value = codec.encode(inode)
        self.changes[key] = value
        self.inodes[ino] = inode
        if inode.dirty_since_ns or (inode.directory is not None and self._is_anchored(ino)):
            if not inode.linked:
                self.recovery[key] = None
                return
            self.recovery[key] = value
            if inode.directory is not None:
                self.anchored.add(ino)
            if not self._is_anchored(inode.parent):
                self._anchor(inode.parent)
        elif previous is not None and previous.dirty_since_ns:
            self.recovery[key] = None

    def _anchor(self, ino: int) -> None:
        """Give the recovery log (and the journal) the directories on the way to a dirty inode."""
        while ino and not self._is_anchored(ino):
            directory = self.require(ino)
            key = codec.inode_key(ino)
            value = codec.encode(directory)
            self.changes.setdefault(key, value)
            self.recovery[key] = value
            self.anchored.add(ino)
            ino = directory.parent

    def _is_anchored(self, ino: int) -> bool:
        return ino in self.anchored or ino in self._below.anchored
