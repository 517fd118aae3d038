"""The bytes of one regular file while somebody uses them.

    where the bytes are            state
    nowhere (empty file)           size 0
    small file being changed       ``buffer`` holds all of them; ``persist`` appends them to a pack
    small file at rest             ``placement`` names a pack entry
    anything else                  ``sparse``: a sparse file; absent ranges are only in the bucket

Writing never downloads: written bytes become resident, absent ones stay absent until somebody reads them. Bytes past
the end of the bucket's object are resident by definition (a hole is zeros), so what is absent is always a range of the
object ``Inode.remote`` names.

Three rules keep crashes harmless:

1. Before the first byte changes after a snapshot (``frozen``), the inode's record says so, in the journal: a clean
   record never describes changed bytes. Where bytes are changed in place, the journal is synced first, so that power
   loss cannot keep the bytes and lose the mark.
2. Bytes go to disk first, then the record that names them (``persist``); the committer syncs them in that order.
3. Space is given back only after the record that stopped using it is durable. A tail is cut off after the journal that
   does without it was synced; should a crash come in between, whoever writes beyond the end cuts first.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec
import trio

from gatewayfs.cache.eviction import Hold
from gatewayfs.cache.extents import Extents
from gatewayfs.cache.gate import END_OF_FILE, RangeGate, Readers, at_once
from gatewayfs.cache.intake import Intake
from gatewayfs.cache.parts import CacheParts
from gatewayfs.cache.sparse import SparseFile
from gatewayfs.cache.vouched import is_clean
from gatewayfs.errors import FileTooLarge, GatewayError, LocalError
from gatewayfs.meta.schema import PLACED_IN_FILE, PLACED_IN_PACK, Inode, Placement
from gatewayfs.runtime.failpoints import failpoint, register
from gatewayfs.s3.store import OBJECT_BYTES_MAX
from gatewayfs.types import Ino

UNCHANGED = END_OF_FILE

_BEFORE_MARK = register("cache.mark_dirty.before", "nothing of the change; the record says clean")
_AFTER_MARK = register("cache.mark_dirty.after", "the record says changed; no byte is")
_AFTER_WRITE = register("cache.write.after", "the bytes are in the cache file; their record does not name them yet")
_BEFORE_CUT = register("cache.truncate.before", "the record has the new length, on disk; the cache file the old one")
_AFTER_CUT = register("cache.truncate.after", "the cache file has its new length, too")
_BEFORE_PERSIST = register("cache.persist.before", "the bytes are on the disk; their record does not name them yet")
_AFTER_PERSIST = register("cache.persist.after", "the bytes and the record, except against power loss")


class NoRoom(Exception):
    """Fetched bytes have no place in the cache: serve them without keeping them (internal)."""


class Superseded(Exception):
    """The bytes a change was meant for were replaced in the bucket: do it to the present ones (internal)."""


class Content:
    """Live bytes of one inode; made and counted by ``ContentCache``.

    Attributes:
        size: current size in bytes, ahead of the record until ``persist``.
        mtime_ns: time of the last change not yet in the record, else None.
        changed: the record does not describe the bytes yet.
        users: everybody who holds this object; opens and writers: open handles, those that may write; needed: who waits
            for all of its bytes, so that none may leave.
        stale: others replaced the bucket's object: nothing is recorded any more, and whoever has this open must go on
            with the inode's new content. (The kernel has one page cache for all of them: old bytes read now would be
            served to those who opened the new ones.)
        hold: whether its bytes may go, by its record; clean_end: of a changed file, below here no byte differs from the
            bucket's object; booked: both as ``Room`` has them in its books.
    """

    def __init__(self, parts: CacheParts, inode: Inode) -> None:
        self._parts = parts
        self.ino = Ino(inode.ino)
        self.users = self.opens = self.writers = self.needed = 0
        self.gate, self.readers, self.intake = RangeGate(), Readers(), Intake(parts.cell_bytes)
        self.hold = Hold.DIRTY
        self.clean_end = 0
        self.booked = (self.hold, 0)
        self._chunk_read = -1  # no chunk yet
        self.unasked = False
        """It was fetched ahead, and nobody has read it since."""
        self._frozen_revision: int | None = None
        self._mutex = trio.Lock()
        self.stale = False
        self.frozen = True
        self.changed = False
        self.residence_changed = False
        self.lowest_change = UNCHANGED
        self.snapshots = 0
        self.mtime_ns: int | None = None
        self.buffer: bytearray | None = None
        self.size = inode.size
        self.placement = inode.placement
        self.sparse = SparseFile(parts.folder, inode.ino, inode.placement)

    def __repr__(self) -> str:
        where = "buffer" if self.buffer is not None else repr(self.placement if self.in_pack else self.sparse)
        return (
            f"<Content ino {self.ino} size {self.size} {where} users {self.users}{' changed' if self.changed else ''}>"
        )

    @property
    def in_pack(self) -> bool:
        """All bytes are in one pack entry and nothing newer is in the buffer."""
        return self.buffer is None and self.placement is not None and self.placement.kind == PLACED_IN_PACK

    @property
    def extents(self) -> Extents:
        """Which bytes the sparse file has."""
        return self.sparse.extents

    @property
    def resident(self) -> bool:
        """Every byte is on this machine."""
        return self.buffer is not None or self.in_pack or self.extents.covers(0, self.size)

    @property
    def being_changed(self) -> bool:
        """A write, a truncation or its recording is under way."""
        return self._mutex.locked()

    async def unchanging(self) -> None:
        """Wait until no change is under way."""
        async with self._mutex:
            pass

    async def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``, fetching what is absent; shorter only at the end of the file.

        Raises:
            Unavailable: the bytes are only in the bucket and it did not answer in time, or they are gone.
            CacheDiskFailed, CorruptRecord: the cache disk does not give them.
        """
        if (chunk := offset // self._parts.room.chunk_bytes) != self._chunk_read:
            self._chunk_read = chunk
            self.unasked = False
            self._parts.room.touch(self.ino, offset)
        self._parts.room.reads += 1
        with self.readers.reading(offset, offset + length):
            return await self._read(offset, length)

    async def _read(self, offset: int, length: int) -> bytes:
        parts = self._parts
        while (length := min(length, self.size - offset)) > 0:
            if self.buffer is not None or self.in_pack or not self.extents.missing(offset, offset + length):
                break
            parts.room.misses += 1
            try:
                await parts.fetch(self, offset, offset + length)
            except NoRoom:
                return await parts.bypass(self, offset, offset + length)
        else:
            return b""
        if self.buffer is not None:
            return bytes(self.buffer[offset : offset + length])
        if self.in_pack:
            return await parts.reads.packed(self, offset, length)
        parts.follow(self, offset, offset + length)
        data = await parts.reads.sparse(self, offset, length)
        # The cache file ends where the last write ended; a size set beyond is a hole.
        return data if len(data) == length else data + bytes(length - len(data))

    async def write(self, offset: int, data: bytes) -> None:
        """Put ``data`` at ``offset``; survives kill -9 after ``persist``, power loss after ``MetaStore.sync`` besides.

        Raises:
            FileTooLarge: beyond 5 TiB, S3's largest object.
            CacheDiskFull, CacheDiskFailed, NoSpace: nothing is lost that was there.
        """
        end = offset + len(data)
        if end > OBJECT_BYTES_MAX:
            raise FileTooLarge(f"an S3 object ends at {OBJECT_BYTES_MAX} bytes")
        async with at_once(self._mutex):
            await self._before_change()
            if await self._in_buffer(end):
                assert self.buffer is not None
                if end > len(self.buffer):
                    self.buffer.extend(bytes(end - len(self.buffer)))
                self.buffer[offset:end] = data
            else:
                await self._write_file(offset, data)
                if offset > self.size:
                    self.sparse.add_hole(self.size, offset)
                self.sparse.fill(offset, end)
                self._parts.fences.overwritten(self, offset, end)
                self._parts.room.follow(self, offset, end)
            self._after_change(offset, max(self.size, end))

    async def truncate(self, size: int) -> None:
        """Cut the file off at ``size``, or extend it with zeros. Errors as ``write``."""
        if size > OBJECT_BYTES_MAX:
            raise FileTooLarge(f"an S3 object ends at {OBJECT_BYTES_MAX} bytes")
        async with at_once(self._mutex):
            if size == self.size:
                # POSIX: a truncation to the same size still sets the times.
                await self._before_change()
                self._after_change(size, size)
                return
            await self._before_change()
            if size == 0:
                self._start_over()
            elif await self._in_buffer(size):
                assert self.buffer is not None
                del self.buffer[size:]
                self.buffer.extend(bytes(size - len(self.buffer)))
            elif size < self.size:
                await self._shrink_file(size)
                return
            else:
                await self._grow_file(size)
            self._after_change(min(size, self.size), size)

    async def persist(self) -> None:
        """The record describes the bytes as they are now: what was written survives kill -9. Errors as ``write``."""
        if not self.changed:
            return
        async with at_once(self._mutex):
            self._record()

    async def freeze(self) -> int:
        """Record the bytes as they are; the first change after this raises the revision first. Returns a serial number.

        Nobody is in the middle of a write here: one that had raised the revision and not yet written would go on
        under a revision that the bucket is about to get without it.
        """
        async with at_once(self._mutex):
            self._record()
            self.intake.known.save(self._parts.meta, self.ino)
            self.frozen = True
            self.lowest_change = UNCHANGED
            self.snapshots += 1
            self._frozen_revision = self._parts.meta.require(self.ino).content_revision
            return self.snapshots

    def learn(self, inode: Inode) -> None:
        """The record changed: perhaps the bucket has the latest snapshot now, and so all bytes not changed since."""
        if inode.remote is None:
            self.clean_end = 0
        elif inode.remote.content_revision == self._frozen_revision:
            self.clean_end = min(self.lowest_change, inode.remote.size)

    def persist_residence(self) -> None:
        """Record which bytes have been fetched; losing this only costs a second download."""
        self.intake.known.save(self._parts.meta, self.ino)
        if not self.residence_changed or self.changed or self.stale or self.buffer is not None:
            return
        inode = self._parts.meta.inode(self.ino)
        if inode is None:
            return
        placement = self.placement if self.in_pack else self.sparse.placement
        with self._parts.meta.transaction() as tx:
            tx.put(msgspec.structs.replace(inode, placement=placement))
            if placement is not None:
                tx.needs_data_sync(str(self._path_of(placement)))
        self.placement = placement
        self.residence_changed = False

    def declare_complete(self) -> None:
        """Whatever is absent reads as zeros from now on, and the record says so."""
        self.sparse.extend(self.size)
        for start, end in self.extents.missing(0, self.size):
            self.sparse.add_hole(start, end)
        self.residence_changed = True
        self.persist_residence()

    # ------------------------------------------------------------------ inside

    def _path_of(self, placement: Placement) -> Path:
        if placement.kind == PLACED_IN_PACK:
            return self._parts.packs.path(placement.pack)
        return self._parts.folder.path(self.ino, placement.pack)

    def _record(self) -> None:
        """Rule 2, second half: the record names the bytes. Raises NoSpace, LocalError; then nothing happened."""
        if not self.changed or self.stale:
            return
        parts = self._parts
        inode = parts.meta.require(self.ino)
        placement = self._placed(inode)
        failpoint(_BEFORE_PERSIST)
        with parts.meta.transaction() as tx:
            mtime = self.mtime_ns if self.mtime_ns is not None else inode.mtime_ns
            tx.put(
                msgspec.structs.replace(
                    tx.require(self.ino),
                    size=self.size,
                    mtime_ns=mtime,
                    # The change was the write, not its recording: stat may have been answered in between.
                    ctime_ns=max(inode.ctime_ns, mtime),
                    placement=placement,
                )
            )
            parts.fences.record(tx, self.ino)
            self._retire(tx.after_durable, inode.placement, placement)
            if placement is not None:
                tx.needs_data_sync(str(self._path_of(placement)))
        failpoint(_AFTER_PERSIST)
        self.placement = placement
        self.changed = self.residence_changed = False
        self.mtime_ns = None

    async def _before_change(self) -> None:
        """Rule 1: the record says "changed" before the first byte does."""
        if self.stale:
            raise Superseded(f"inode {self.ino} has other bytes by now")
        if not self.frozen:
            return
        meta = self._parts.meta
        inode = meta.require(self.ino)
        now = self._parts.clock.time_ns()
        # What vouches for bytes must not outlive them: neither the object's fingerprints nor a seal.
        vouched_for = is_clean(inode) or meta.seal(self.ino) is not None
        failpoint(_BEFORE_MARK)
        with meta.transaction() as tx:
            tx.put(
                msgspec.structs.replace(
                    inode,
                    content_revision=inode.content_revision + 1,
                    dirty_since_ns=inode.dirty_from(now),
                )
            )
        failpoint(_AFTER_MARK)
        # An unlinked file forgot its object; should power loss take the unlink back, it would be clean again.
        if (vouched_for or not inode.linked) and not self.in_pack and self.buffer is None and self.extents:
            await meta.sync()
        self.frozen = False

    async def _write_file(self, offset: int, data: bytes) -> None:
        async with self.gate.hold(offset, offset + len(data)):
            if offset > self.size:
                self.sparse.cut_tail(self.size)
            try:
                await self._parts.disk.write(self.sparse.open(), offset, data)
                failpoint(_AFTER_WRITE)
            except LocalError:
                # What a failed write left beyond the end would show up as data when the file grows over it.
                self.sparse.cut_tail(self.size)
                raise

    def _after_change(self, offset: int, size: int) -> None:
        self.lowest_change = min(self.lowest_change, offset)
        if offset < self.clean_end:
            was_clean, self.clean_end = self.clean_end, offset
            self._parts.room.follow(self, offset, was_clean)
        self.size = size
        self.mtime_ns = self._parts.clock.time_ns()
        self.changed = True

    async def _in_buffer(self, end: int) -> bool:
        """Whether the file, up to ``end``, is small enough for memory; moves the bytes where they belong."""
        limit = self._parts.small_file_bytes
        if self.buffer is None:
            if max(end, self.size) > limit or not (self.size == 0 or self.in_pack):
                if self.in_pack and self.placement is not None:
                    await self._spill(await self._parts.packs.read(self.placement))
                return False
            self.buffer = bytearray(
                await self._parts.packs.read(self.placement) if self.in_pack and self.placement else b""
            )
            return True
        if max(end, len(self.buffer)) <= limit:
            return True
        await self._spill(bytes(self.buffer))
        return False

    async def _spill(self, data: bytes) -> None:
        """A small file outgrew its buffer: its bytes move to a sparse file."""
        sparse = SparseFile(self._parts.folder, self.ino)
        await self._parts.disk.write(sparse.open(), 0, data)
        sparse.fill(0, len(data))
        self.sparse = sparse
        self.buffer = None
        self.placement = None
        self._parts.room.follow(self, 0, len(data))

    def _start_over(self) -> None:
        """Truncated to nothing: no old byte is needed, and the old file stays as it is for whoever is uploading it."""
        self.gate.hurry(0, END_OF_FILE)
        self.sparse.abandon(self._parts.meta.require(self.ino))
        self.sparse = SparseFile(self._parts.folder, self.ino)
        self.placement = None
        self.buffer = bytearray()
        self._parts.room.forget(self.ino)

    async def _shrink_file(self, size: int) -> None:
        """Cut the tail off, after the record that does without it is on disk."""
        async with self.gate.hold(size, END_OF_FILE):
            before = self.size, self.sparse, Extents(self.extents.flat), self.mtime_ns, self.changed
            inode = self._parts.meta.require(self.ino)
            self.extents.truncate(size)
            self._parts.fences.overwritten(self, size, END_OF_FILE)
            if not self.extents:  # the record lets go of the cache file, which is removed: the next bytes need another
                self.sparse = SparseFile(self._parts.folder, self.ino)
            self._after_change(size, size)
            try:
                self._record()
                await self._parts.meta.sync()
            except GatewayError:
                self.size, self.sparse, self.sparse.extents, self.mtime_ns, self.changed = before
                raise
            if self.sparse is not before[1]:
                before[1].abandon(inode)
            failpoint(_BEFORE_CUT)
            if self.sparse.number:
                self.sparse.cut_tail(size)
            self._parts.room.follow(self, size, before[0])
            failpoint(_AFTER_CUT)

    async def _grow_file(self, size: int) -> None:
        async with self.gate.hold(self.size, END_OF_FILE):
            self.sparse.cut_tail(self.size)
            self.sparse.extend(size)
            self.sparse.add_hole(self.size, size)

    def _placed(self, inode: Inode) -> Placement | None:
        if self.buffer is not None:
            if not self.buffer:
                return None
            return self._parts.packs.append(self.ino, inode.content_revision, bytes(self.buffer))
        if self.in_pack:
            return self.placement
        return self.sparse.placement

    def _retire(
        self, after_durable: Callable[[Callable[[], None]], None], old: Placement | None, new: Placement | None
    ) -> None:
        """Rule 3: free what the record used to name, once the new record is durable."""
        if old is None or old == new:
            return
        if new is not None and old.kind == new.kind == PLACED_IN_FILE and old.pack == new.pack:
            return
        after_durable(self._parts.freeing(self.ino, old))
