"""Questions about the namespace, the same for the store and for a transaction that sees its own writes.

A subclass offers raw access (``raw``, ``keys``); everything here is decoding and arithmetic on keys. Long walks fetch
keys in batches and look again for each batch, so they may run while the store changes: a walk sees every entry that
existed all the while, and no entry twice.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from gatewayfs.errors import CorruptRecord, StaleInode
from gatewayfs.meta import codec
from gatewayfs.meta.schema import (
    Doomed,
    Event,
    Fence,
    Fingerprints,
    Inode,
    Notification,
    Parked,
    Seal,
    Settling,
    Target,
    UploadState,
)
from gatewayfs.types import ROOT_INO, ObjectKey

WALK_BATCH = 256
"""Keys per look into the layers: enough to hide the cost of positioning (about 5 us), few enough to stop early."""

DEPTH_MAX = 1024
"""More path components than an object key of 1024 bytes can hold: a longer way to the root is a circle."""


class Reader(ABC):
    """Read access to records; results are immutable."""

    prefix: str
    """The share's prefix in the bucket: "" or ending with "/"."""

    @abstractmethod
    def raw(self, key: bytes) -> bytes | None:
        """The value at ``key`` of any table, or None. For this package."""

    @abstractmethod
    def keys(self, start: bytes, end: bytes, limit: int) -> list[bytes]:
        """Up to ``limit`` existing keys of one table with ``start`` <= key < ``end``, ascending. For this package."""

    @abstractmethod
    def inode(self, ino: int) -> Inode | None:
        """The record of ``ino``, or None when it does not exist (any more)."""

    def require(self, ino: int) -> Inode:
        """The record of ``ino``. Raises StaleInode."""
        inode = self.inode(ino)
        if inode is None:
            raise StaleInode(f"inode {ino} is gone")
        return inode

    def inodes_after(self, after: int, limit: int = 500) -> list[Inode]:
        """Up to ``limit`` records with inode numbers above ``after``, ascending: for walks over everything."""
        start, end = codec.inode_key(after + 1), codec.INODE + b"\xff" * 9
        found = (self.inode(codec.number_at(key, 1)) for key in self.keys(start, end, limit))
        return [inode for inode in found if inode is not None]

    def lookup(self, parent: int, name: bytes) -> Inode | None:
        """The child of ``parent`` called ``name``, or None."""
        value = self.raw(codec.dentry_key(parent, name))
        if value is None:
            return None
        ino = int.from_bytes(value, "big")
        inode = self.inode(ino)
        if inode is None:
            raise CorruptRecord(f"name {name!r} in directory {parent} leads to inode {ino}, which has no record")
        return inode

    def children(self, parent: int, after: int = 0, limit: int = 1000) -> list[int]:
        """Up to ``limit`` inode numbers of children greater than ``after``, ascending."""
        start, end = codec.children_range(parent, after)
        return [codec.number_at(key, 9) for key in self.keys(start, end, limit)]

    def has_children(self, parent: int) -> bool:
        start, end = codec.children_range(parent, 0)
        return bool(self.keys(start, end, 1))

    def holder(self, key: str) -> Inode | None:
        """The inode whose bytes lie at object key ``key``, or None."""
        value = self.raw(codec.object_key(key))
        if value is None:
            return None
        inode = self.inode(int.from_bytes(value, "big"))
        if inode is None or inode.remote is None or inode.remote.key != key:
            return None
        return inode

    def doomed(self, key: str) -> Doomed | None:
        """The entry that condemns the object at ``key``, or None."""
        raw_key = codec.doomed_key(key)
        value = self.raw(raw_key)
        if value is None:
            return None
        doomed = codec.decode_doomed(raw_key, value)
        return doomed if doomed.key == key else None

    def iter_dirty(self) -> Iterator[tuple[int, int]]:
        """(since_ns, ino) of every dirty inode, oldest first."""
        for key in self._walk(codec.DIRTY):
            yield codec.number_at(key, 1), codec.number_at(key, 9)

    def iter_doomed(self) -> Iterator[Doomed]:
        for key in self._walk(codec.DOOMED):
            value = self.raw(key)
            if value is not None:
                yield codec.decode_doomed(key, value)

    def iter_orphans(self) -> Iterator[int]:
        """Inode numbers without a name, ascending."""
        for key in self._walk(codec.ORPHAN):
            yield codec.number_at(key, 1)

    def iter_parked(self) -> Iterator[tuple[int, Parked]]:
        """(ino, why) of every upload that waits for a person."""
        for key in self._walk(codec.PARKED):
            value = self.raw(key)
            if value is not None:
                yield codec.number_at(key, 1), codec.decode_parked(key, value)

    def iter_uploads(self) -> Iterator[tuple[int, UploadState]]:
        """(ino, state) of every multipart upload under way."""
        for key in self._walk(codec.UPLOAD):
            value = self.raw(key)
            if value is not None:
                yield codec.number_at(key, 1), codec.decode_upload(key, value)

    def upload_state(self, ino: int) -> UploadState | None:
        key = codec.upload_key(ino)
        value = self.raw(key)
        return None if value is None else codec.decode_upload(key, value)

    def fingerprints(self, ino: int) -> Fingerprints | None:
        """Those of the object the inode's record names, if they are known."""
        key = codec.fingerprints_key(ino)
        value = self.raw(key)
        return None if value is None else codec.decode_fingerprints(key, value)

    def seal(self, ino: int) -> Seal | None:
        """That of the bytes of the inode's present content revision, if they are only here and were sealed."""
        key = codec.seal_key(ino)
        value = self.raw(key)
        return None if value is None else codec.decode_seal(key, value)

    def fence(self, ino: int) -> Fence | None:
        key = codec.fence_key(ino)
        value = self.raw(key)
        return None if value is None else codec.decode_fence(key, value)

    def iter_fences(self) -> Iterator[tuple[int, Fence]]:
        """(ino, which bytes) of every file with damaged bytes that are only here."""
        for key in self._walk(codec.FENCE):
            value = self.raw(key)
            if value is not None:
                yield codec.number_at(key, 1), codec.decode_fence(key, value)

    def parked(self, ino: int) -> Parked | None:
        key = codec.parked_key(ino)
        value = self.raw(key)
        return None if value is None else codec.decode_parked(key, value)

    def events_after(self, number: int, limit: int) -> list[tuple[int, Event]]:
        """Up to ``limit`` events with greater numbers, ascending, each with its number."""
        keys = self.keys(codec.event_key(number + 1), codec.table_end(codec.EVENT), limit)
        found = ((codec.number_at(key, 1), key, self.raw(key)) for key in keys)
        return [(number, codec.decode_event(key, value)) for number, key, value in found if value is not None]

    def iter_settling(self) -> Iterator[tuple[int, Settling]]:
        """(ino, what its event will say) of every upload not told yet because its writer may not be done."""
        for key in self._walk(codec.SETTLING):
            value = self.raw(key)
            if value is not None:
                yield codec.number_at(key, 1), codec.decode_settling(key, value)

    def settling(self, ino: int) -> Settling | None:
        key = codec.settling_key(ino)
        value = self.raw(key)
        return None if value is None else codec.decode_settling(key, value)

    def targets(self) -> dict[str, Target]:
        """How far each target of events is, by its name."""
        found = ((key, self.raw(key)) for key in self._walk(codec.TARGET))
        return {key[1:].decode(): codec.decode_target(key, value) for key, value in found if value is not None}

    def notifications(self) -> dict[bytes, Notification]:
        """Open requests to be told when all is in the bucket, by their 16-byte ids."""
        found = ((key, self.raw(key)) for key in self._walk(codec.WAITING))
        return {key[1:]: codec.decode_notification(key, value) for key, value in found if value is not None}

    def setting(self, name: str) -> bytes | None:
        return self.raw(codec.setting_key(name))

    def path_of(self, ino: int) -> tuple[bytes, ...]:
        """Names from the root to ``ino``; () for the root. Raises StaleInode when it or an ancestor has no name."""
        return self._path(self.require(ino))

    def key_of(self, inode: Inode) -> ObjectKey:
        """The object key this inode's name asks for: prefix and path, "/" at the end for directories.

        Raises StaleInode for an unlinked inode.
        """
        if inode.ino == ROOT_INO:
            return ObjectKey(self.prefix)
        try:
            path = b"/".join(self._path(inode)).decode()
        except UnicodeDecodeError as problem:
            raise CorruptRecord(f"the path of inode {inode.ino} is not UTF-8") from problem
        return ObjectKey(f"{self.prefix}{path}/" if inode.is_directory else self.prefix + path)

    def _path(self, inode: Inode) -> tuple[bytes, ...]:
        names: list[bytes] = []
        current = inode
        while current.ino != ROOT_INO:
            if current.parent == 0:
                raise StaleInode(f"inode {inode.ino} has no name any more")
            if len(names) > DEPTH_MAX:
                raise CorruptRecord(f"the parents of inode {inode.ino} form a circle")
            names.append(current.name)
            current = self.require(current.parent)
        names.reverse()
        return tuple(names)

    def _walk(self, table: bytes) -> Iterator[bytes]:
        """Every key of ``table``, ascending, in batches."""
        start, end = table, codec.table_end(table)
        while True:
            keys = self.keys(start, end, WALK_BATCH)
            yield from keys
            if len(keys) < WALK_BATCH:
                return
            start = keys[-1] + b"\0"
